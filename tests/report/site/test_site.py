"""The dashboard says what bundles say, and believes good news only of a trusted key."""

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pytest_tenantproof.attest import keys
from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.cli import main
from pytest_tenantproof.errors import UsageError
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.report.site import Built, Trust, build
from tests.report.conftest import HOSTILE
from tests.report.site.conftest import History

NOW = datetime(2026, 11, 6, 12, tzinfo=UTC)
GOOD = re.compile(r'class="(?:badge |verdict |note )?(?:passed|proven|verified|good)"')


def _build(history: History, *, trust: Trust | None = None, fresh: bool = False) -> tuple[Path, Built]:
    out = history.root.parent / "site"
    given = trust if trust is not None else Trust((history.signer.public,))
    return out, build(history.root, out, given, NOW, fresh=fresh)


def _good(out: Path) -> list[str]:
    """Every place that reads as good news; the legend is none."""
    pages = [re.sub(r'<ul class="legend".*?</ul>', "", page.read_text()) for page in out.rglob("*.html")]
    return [found for page in pages for found in GOOD.findall(page)]


def _text(out: Path, page: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", (out / page).read_text(), flags=re.S).split())


def test_it_tells_verdicts_findings_drills_and_waivers(past: Callable[[], History]) -> None:
    history = past()
    out, built = _build(history)
    assert (built.states, built.problems, built.examined) == ({"verified": 6}, (), 6)
    index = _text(out, "index.html")
    assert "Log of runs: 6 runs, none removed" in index
    assert "PROVEN (all 2 controls)" in index
    prod = _text(out, "targets/prod/index.html")
    assert "0 open after the newest run" in prod
    assert "newest 42, largest 60" in prod
    assert "Backup size, KB: newest 2100, largest 2100" in prod
    assert "failed at restore" in prod
    assert "3600 s" in prod
    assert "unknown" in prod
    assert _good(out)


def test_a_finding_closes_when_its_control_ran_again_without_it(past: Callable[[], History]) -> None:
    out, _ = _build(past())
    prod = (out / "targets/prod/index.html").read_text()
    table = prod[prod.index("runs that changed something") : prod.index('id="recovery"')]
    rows = [re.sub(r"<ul.*?</ul>|<[^>]+>", " ", row, flags=re.S).split() for row in table.split("<tr>")[2:]]
    told = [[word for word in row if word.isdigit()][:3] for row in rows]
    assert told == [["0", "1", "0"], ["1", "1", "1"], ["0", "1", "1"], ["2", "0", "2"]]


def test_waivers_show_the_days_left(history: History) -> None:
    history.run("20261104", "public.view", waived=True)
    out, _ = _build(history)
    assert "25 (2026-12-01)" in _text(out, "index.html")
    build(history.root, out, Trust((history.signer.public,)), datetime(2026, 12, 3, tzinfo=UTC))
    assert "over since 2026-12-01" in _text(out, "index.html")
    assert (
        "passed" not in re.findall(r'<td class="(\w+)" aria-label', (out / "targets/prod/index.html").read_text())[1:]
    )


@pytest.mark.parametrize("trust", [Trust(), Trust((bytes(32),)), Trust((), allow_ephemeral=True)])
def test_without_a_trusted_key_nothing_is_good(past: Callable[[], History], trust: Trust) -> None:
    out, built = _build(past(), trust=trust)
    assert built.states == {"unverified": 6}
    assert _good(out) == []
    assert "claims PROVEN" in _text(out, "index.html")
    assert 'class="failed"' in (out / "targets/prod/index.html").read_text()


def test_a_key_that_came_along_shows_integrity_only(history: History) -> None:
    history.run("20261101", signer=Signer(new_seed(), ephemeral=True))
    out, built = _build(history, trust=Trust((), allow_ephemeral=True))
    assert built.states == {"integrity": 1}
    assert "Integrity only: signed by a key that came with a bundle" in _text(out, "index.html")
    assert _good(out) == []


def test_an_unverified_bundle_closes_no_finding(history: History) -> None:
    history.run("20261101", "public.a")
    history.run("20261102", signer=Signer(new_seed()))
    out, built = _build(history)
    assert built.states == {"verified": 1, "unverified": 1}
    assert "1 open after the newest run" in _text(out, "targets/prod/index.html")
    assert "claims PROVEN" in _text(out, "index.html")


def test_an_edited_bundle_is_refused_by_name_and_reason(history: History) -> None:
    history.run("20261101")
    path = history.run("20261102", "public.a")
    _build(history)
    report = path / "report.json"
    report.write_bytes(report.read_bytes().replace(b'"verdict": "failed"', b'"verdict": "proven"'))
    out, built = _build(history)
    assert (built.states, built.examined) == ({"verified": 1, "refused": 1}, 1)
    assert "no verdict: the bundle is refused" in _text(out, "index.html")
    assert "subject-mismatch" in _text(out, f"targets/prod/{path.name}.html")


def test_another_targets_good_run_is_refused(history: History) -> None:
    good = history.run("20261101", target="staging")
    history.run("20261102", "public.a")
    shutil.copytree(good, history.root / "prod" / good.name)
    out, built = _build(history)
    assert built.states == {"verified": 2, "refused": 1}
    assert any("log-run-unlogged" in problem for problem in built.problems)
    assert "this is a run of &#39;staging&#39;" in (out / f"targets/prod/{good.name}.html").read_text()


def test_a_removed_run_is_named(past: Callable[[], History]) -> None:
    history = past()
    _build(history)
    gone = sorted((history.root / "prod").glob("2*"))[1]
    shutil.rmtree(gone)
    out, built = _build(history)
    assert [problem.partition(": ")[0] for problem in built.problems] == ["prod", "Log of runs"]
    assert f"run {gone.name} of prod is in the log, and its bundle is gone" in _text(out, "index.html")
    assert not (out / f"targets/prod/{gone.name}.html").exists()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses |= {value or "" for name, value in attrs if name in ("href", "src")}


def test_hostile_names_are_text_and_no_page_asks_for_anything(past: Callable[[], History]) -> None:
    history = past()
    target = '"><img src=x onerror=alert(1)>'
    history.run("20261105", HOSTILE, target=target)
    out, built = _build(history)
    assert built.states == {"verified": 7}
    assert len(list((out / "targets").iterdir())) == 3
    seen = _Tags()
    for page in out.rglob("*.html"):
        seen.feed(page.read_text())
        assert page.resolve().is_relative_to(out.resolve())
    assert seen.tags.isdisjoint({"script", "img", "iframe", "link", "object", "form", "base"})
    assert not any(name.startswith("on") for name in seen.attributes)
    assert "style" not in seen.attributes
    assert all(re.fullmatch(r"#main|(\.\./)*[\w./-]+\.html", address) for address in seen.addresses)
    assert "onerror=alert(1)>" in _unescaped(out)


def _unescaped(out: Path) -> str:
    import html

    return html.unescape((out / "index.html").read_text())


def test_what_did_not_change_is_not_examined_twice(past: Callable[[], History]) -> None:
    history = past()
    out, first = _build(history)
    before = {page: page.stat().st_mtime_ns for page in out.rglob("*Z-*.html")}
    _, again = _build(history)
    assert (first.examined, again.examined, again.states) == (6, 0, first.states)
    assert {page: page.stat().st_mtime_ns for page in out.rglob("*Z-*.html")} == before
    history.run("20261106")
    assert _build(history)[1].examined == 1
    assert _build(history, fresh=True)[1].examined == 7
    assert _build(history, trust=Trust())[1].states == {"unverified": 7}


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]\n{}\n", b'"other"\n'])
def test_a_damaged_cache_is_no_cache(history: History, damage: bytes) -> None:
    history.run("20261101")
    out, _ = _build(history)
    (out / ".tenantproof-site.jsonl").write_bytes(damage)
    assert _build(history)[1].examined == 1


def test_it_writes_over_nothing_but_a_site(history: History, tmp_path: Path) -> None:
    history.run("20261101")
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("mine")
    for out in (other, other / "index.html", history.root):
        with pytest.raises(UsageError):
            build(history.root, out, Trust(), NOW)
    with pytest.raises(UsageError, match="holds no bundle"):
        build(other, tmp_path / "site", Trust(), NOW)
    assert (other / "index.html").read_text() == "mine"


def test_links_and_devices_in_a_bundle_are_refused_unread(history: History) -> None:
    import os

    path = history.run("20261101")
    os.mkfifo(path / "pipe")
    (path / "zero").symlink_to("/dev/zero")
    out, built = _build(history)
    assert built.states == {"refused": 1}
    assert "subject-unexpected" in _text(out, "index.html")


def test_days_that_are_none_are_shown_as_they_are(history: History) -> None:
    """A bundle's folder name is digits; that they are a date is not said."""
    for number in range(70):
        path = history.root / "prod" / f"2026{number // 10 + 13:02}{number % 10 + 40:02}T999999Z-{number:08x}"
        path.mkdir(parents=True)
    out, built = _build(history)
    assert built.states == {"refused": 70}
    assert "of no time" in _text(out, "index.html")


def test_the_documented_command(
    past: Callable[[], History], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history = past()
    monkeypatch.chdir(history.root.parent)
    Path("tenantproof.pub").write_text(keys.public_pem(history.signer.public))
    command = "tenantproof site --evidence evidence --key tenantproof.pub --out site"
    from tests.support import REPOSITORY

    assert command in (REPOSITORY / "docs" / "DASHBOARD.md").read_text()
    assert main(command.split()[1:]) == 0
    assert "6 verified; 6 examined" in capsys.readouterr().out
    shutil.rmtree(next((history.root / "prod").glob("2*")))
    assert main(command.split()[1:]) == 1
    assert "its bundle is gone" in capsys.readouterr().out


def test_outcomes_that_are_good_news_are_claims_until_verified(history: History) -> None:
    path = history.run("20261101", outcome=Outcome.NOT_APPLICABLE)
    out, _ = _build(history, trust=Trust())
    cells = re.findall(r'<td class="(\w+)" aria-label', (out / "targets/prod/index.html").read_text())
    assert cells == ["unverified", "unverified"]
    assert "claims passed" in _text(out, f"targets/prod/{path.name}.html")
