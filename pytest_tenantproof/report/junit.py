"""JUnit XML: one testcase a control. Waived and not-run ones are skipped with the reason, never passed."""

import re
from xml.etree import ElementTree as ET

from pytest_tenantproof.report.shape import Report, families, shown_outcome

__all__ = ["render_junit"]

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(value: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", value)


def render_junit(report: Report) -> bytes:
    """The report as a JUnit document, one suite a family."""
    root = ET.Element("testsuites", name=_text(f"tenantproof {report['target']['name']}"))
    for digit, name, controls in families(report):
        shown = [shown_outcome(control) for control in controls]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=f"{digit}xx {name}",
            timestamp=report["started"],
            tests=str(len(controls)),
            failures=str(shown.count("failed")),
            errors=str(shown.count("error") + shown.count("not_run")),
            skipped=str(shown.count("not_applicable") + shown.count("waived")),
            time=f"{sum(control['duration_s'] for control in controls):.3f}",
        )
        for control, outcome in zip(controls, shown, strict=True):
            _case(suite, control, outcome)
    body: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return body + b"\n"


def _case(suite: ET.Element, control: Report, outcome: str) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=f"tenantproof.{control['severity']}",
        name=_text(f"{control['id']} {control['title']}"),
        time=f"{control['duration_s']:.3f}",
    )
    tag = {"failed": "failure", "error": "error", "not_run": "error", "passed": ""}.get(outcome, "skipped")
    if tag:
        said = [control["reason"], *(f"{f['object']}: {f['detail']}" for f in control["findings"])]
        lines = [_text(line) for line in said if line]
        node = ET.SubElement(case, tag, message=f"{outcome}: {lines[0] if lines else ''}")
        node.text = "\n".join(lines)
