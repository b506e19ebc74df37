"""The checklist on a terminal: by family, with fixes, coloured only where that is wanted."""

from typing import Any

from pytest_tenantproof.report import checklist


def test_plain_text_holds_no_escape_whatever_the_names_hold(report: dict[str, Any]) -> None:
    text = "\n".join(checklist(report))
    assert "\x1b" not in text
    assert "\\x1b[31m" in text
    assert text.startswith("1xx schema invariants")
    for line in (
        "  FAIL  TP101",
        " ERROR  TP103",
        "NOT RUN  TP104",
        "    n/a  TP105",
        "     ok  TP106",
        " waived  TP102",
    ):
        assert line in text
    assert "fix: ALTER TABLE x;" in text
    assert text.splitlines()[-1].startswith("verdict: NOT PROVEN")


def test_colour_changes_nothing_but_colour(report: dict[str, Any]) -> None:
    coloured = "\n".join(checklist(report, color=True))
    assert "\x1b[31m" in coloured
    assert "\x1b[32m" in coloured
    for code in ("31", "32", "33", "90", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == "\n".join(checklist(report))


def test_long_lists_are_cut_and_say_so(report: dict[str, Any]) -> None:
    control = report["controls"][0]
    control["findings"] = [control["findings"][1] | {"object": f"public.t{n}"} for n in range(9)]
    text = "\n".join(checklist(report))
    assert "... and 4 more in the report" in text
