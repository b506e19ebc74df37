"use strict";
const rows = [...document.querySelectorAll(".row")];
const controls = rows.filter((row) => row.matches(".control"));
const families = [...document.querySelectorAll("h3.family")];
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
    count += match && row.matches(".control");
  }
  for (const heading of families) {
    const mine = controls.filter((row) => row.dataset.family === heading.dataset.family);
    heading.classList.toggle("hidden", mine.every((row) => row.classList.contains("hidden")));
  }
  shown.textContent = `${count} of ${controls.length} controls shown`;
}
for (const input of inputs) input.addEventListener("input", apply);
addEventListener("hashchange", () => {
  const row = document.getElementById(location.hash.slice(1));
  if (row?.matches("details")) row.open = true;
});
apply();
