"use strict";
const rows = [...document.querySelectorAll("details.control")];
const inputs = [...document.querySelectorAll(".filters select, .filters input")];
const shown = document.getElementById("shown");
function apply() {
  const [outcome, family, severity, text] = inputs.map((input) => input.value.trim().toLowerCase());
  let count = 0;
  for (const row of rows) {
    const match =
      (!outcome || row.dataset.outcome === outcome) &&
      (!family || row.dataset.family === family) &&
      (!severity || row.dataset.severity === severity) &&
      (!text || row.textContent.toLowerCase().includes(text));
    row.classList.toggle("hidden", !match);
    count += match;
  }
  shown.textContent = `${count} of ${rows.length} controls shown`;
}
for (const input of inputs) input.addEventListener("input", apply);
addEventListener("beforeprint", () => rows.forEach((row) => (row.open = true)));
apply();
