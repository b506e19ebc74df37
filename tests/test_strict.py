"""A tool that is said to be there, and is not, is a failure; else its tests are skipped, with the reason."""

import ast
import re

import pytest

from tests.support import REPOSITORY, STRICT_VARIABLE, TOOLS, lacks


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        ("", pytest.skip.Exception),
        ("docker", pytest.skip.Exception),
        ("docker, browser", pytest.fail.Exception),
        ("browser", pytest.fail.Exception),
        ("brwoser", pytest.fail.Exception),
    ],
)
def test_a_missing_tool(given: str, ends: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STRICT_VARIABLE, given)
    with pytest.raises(ends, match=r"no chromium|knows"):
        lacks("browser", "no chromium on this machine")


def test_no_test_is_skipped_for_a_tool_in_another_way() -> None:
    """Else it would stay green without it wherever it runs."""
    ways = re.compile(r"pytest\.(skip|importorskip|mark\.skip(if)?)")
    found = {
        path.name
        for path in (REPOSITORY / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ways.fullmatch(ast.unparse(node.func))
    }
    assert found == {"support.py"}


def test_ci_demands_what_its_runners_have() -> None:
    """Two jobs run tests: the one on the container target has Docker, the one of all tests Node and a browser."""
    text = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
    given = re.findall(rf"{STRICT_VARIABLE}: (\S+)", text)
    assert sorted(given) == ["browser,docker,node", "docker"]
    assert {tool for names in given for tool in names.split(",")} <= set(TOOLS)
