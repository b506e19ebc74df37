"""The workflows are clean, give no more rights than they need, and the gate refuses what it must."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import MAJORS
from tests.support import REPOSITORY

FOLDER = REPOSITORY / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
TOOLS = Path(sys.executable).parent


@pytest.mark.parametrize("command", [["actionlint"], ["zizmor", "--offline", "--quiet"]], ids=lambda c: c[0])
def test_linters_find_nothing(command: list[str]) -> None:
    line = [str(TOOLS / command[0]), *command[1:], *map(str, WORKFLOWS)]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_linters_find_a_mistake(tmp_path: Path) -> None:
    """Both are really run: an unpinned action and a script that takes its text from an event are refused."""
    bad = (FOLDER / "canary.yml").read_text()
    bad = re.sub(r"@[0-9a-f]{40} # v\S+", "@v4", bad, count=1)
    bad = bad.replace("run: .venv", "run: echo ${{ github.event.issue.titel }} ${{ github.head_ref }}; .venv", 1)
    (tmp_path / "bad.yml").write_text(bad.replace("runs-on: ubuntu-24.04", "runs-on: ubuntu-1.0"))
    for command in (["actionlint"], ["zizmor", "--offline", "--quiet"]):
        line = [str(TOOLS / command[0]), *command[1:], str(tmp_path / "bad.yml")]
        assert subprocess.run(line, capture_output=True, check=False).returncode != 0, command[0]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_rights_time_and_pins(path: Path) -> None:
    text = path.read_text()
    assert "\npermissions: {}\n" in text
    assert "\nconcurrency:\n" in text
    jobs = text.partition("\njobs:\n")[2]
    names = re.findall(r"^  ([a-z]+):$", jobs, re.M)
    assert len(re.findall(r"^    timeout-minutes: \d+$", jobs, re.M)) == len(names) > 0
    assert len(re.findall(r"^    permissions:$", jobs, re.M)) == len(names)
    assert set(re.findall(r"^      ([a-z-]+): (?:read|write)\b", jobs, re.M)) <= {"contents", "actions"}
    assert ": write" not in text
    uses = re.findall(r"uses: .+$", text, re.M)
    assert uses
    assert [line for line in uses if not re.fullmatch(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    assert not re.search(r"image: (?!postgres:\$\{\{ matrix\.postgres \}\}-alpine$)|docker://", text, re.M)


def test_an_action_is_pinned_to_one_commit_everywhere() -> None:
    """Three actions, each of one version: what was reviewed once is what runs."""
    uses = {line for path in WORKFLOWS for line in re.findall(r"uses: (\S+@\S+ # v\S+)$", path.read_text(), re.M)}
    names = sorted(line.partition("@")[0] for line in uses)
    assert names == ["actions/checkout", "actions/setup-python", "actions/upload-artifact"]


def test_ci_covers_every_supported_version() -> None:
    text = (FOLDER / "ci.yml").read_text()
    found = re.findall(r"^      matrix:\n        (\w+): \[(.+)\]$", text, re.M)
    matrices = {name: re.findall(r'"([^"]+)"', values) for name, values in found}
    assert matrices == {"python": ["3.11", "3.12", "3.13", "3.14"], "postgres": [str(major) for major in MAJORS]}
    assert "python-version: ${{ matrix.python }}" in text
    assert text.count("fail-fast: false") == len(matrices)
    oldest = re.findall(r'requires-python = ">=([\d.]+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert oldest == matrices["python"][:1]
    jobs = re.split(r"\n(?=  [a-z]+:\n)", text.partition("\njobs:")[2])
    [claims] = [job for job in jobs if "run: .venv/bin/python -m pytest -q tests/docs/test_security.py\n" in job]
    assert "not long" not in claims
    assert [job for job in jobs if "tests/plugin/test_container.py" in job and "--evidence=container" in job]


OWN = {  # what no user types: installing in a workflow, and tests of this repository by their path
    'pip install --quiet "$REQUIREMENT"',
    "make .venv/.installed",
    "pytest -q tests/plugin/test_container.py",
    "pytest -q tests/docs/test_security.py",
}


def _plain(command: str) -> str:
    """A command without what differs from place to place: where its program is, the target, files of a policy."""
    command = re.sub(r"\.venv/bin/(python -m )?", "", command.strip(" `"))
    command = re.sub(r"(--target|--set|--policy|--policy-key) \S+", r"\1 X", command)
    return re.sub(r"--evidence=\S+", "--evidence=X", command)


def test_the_shell_of_the_workflows_is_what_the_documents_show() -> None:
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    shown = {
        _plain(command.partition("  #")[0])
        for page in pages
        for command in re.findall(r"(?:tenantproof|pytest|make) [^`\n|,]+", page.read_text())
    }
    run = {
        _plain(command)
        for path in WORKFLOWS
        for command in re.findall(r"^ *(?:- )?(?:run: )?((?:\.venv/bin/|make ).+)$", path.read_text(), re.M)
    }
    assert len(run) > 15
    assert run - OWN - shown == set()
    assert run >= OWN


def test_only_who_restores_has_the_private_backup_key() -> None:
    for path in WORKFLOWS:
        for job in re.split(r"\n(?=  [a-z]+:\n)", path.read_text().partition("\njobs:\n")[2]):
            if "BACKUP_PRIVATE_KEY" in job:
                assert "environment: tenantproof-restore" in job
                assert "PROD" not in job
            assert "secrets." not in job or "environment: " in job


GH = """#!/bin/sh
case "$1" in
run) case "$2" in
    list) printf '%s' "$FAKE_RUN" ;;
    download) test -n "$FAKE_EVIDENCE" || exit 1; cp -r "$FAKE_EVIDENCE" evidence ;;
    esac ;;
esac
"""


def _script(workflow: str, step: str) -> str:
    """The shell of a step."""
    text = (FOLDER / workflow).read_text().partition(f"name: {step}\n")[2]
    return re.sub(r"^ {10}", "", text.partition("run: |\n")[2].partition("      - name:")[0], flags=re.M)


def test_a_canary_leaves_its_newest_evidence_and_open_alerts_to_the_next(tmp_path: Path) -> None:
    """Also the first one, which finds nothing, and one that wrote no evidence."""
    (tmp_path / "gh").write_text('#!/bin/sh\ncase "$2" in list) echo 7 ;; download) cp -r kept/. . ;; esac\n')
    (tmp_path / "gh").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "GITHUB_WORKFLOW_REF": "o/r/.github/workflows/canary.yml@x"}
    environment |= {"GITHUB_REF_NAME": "main"}

    def step(name: str) -> str:
        line = ["bash", "-e", "-c", _script("canary.yml", name)]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert "::warning::" in step("Take over from the run before")
    step("Leave to the next run")
    for run in ("20261125T021500Z-00000000", "20261125T023000Z-00000000"):
        (tmp_path / "evidence" / "prod" / run).mkdir(parents=True)
    (tmp_path / ".tenantproof").mkdir()
    (tmp_path / ".tenantproof" / "open.json").write_text("{}")
    step("Leave to the next run")
    (tmp_path / "state").rename(tmp_path / "kept")
    for folder in ("evidence", ".tenantproof"):
        shutil.rmtree(tmp_path / folder)
    assert "::warning::" not in step("Take over from the run before")
    assert [path.name for path in (tmp_path / "evidence" / "prod").iterdir()] == ["20261125T023000Z-00000000"]
    assert (tmp_path / ".tenantproof" / "open.json").exists()


@pytest.mark.parametrize(("run", "given", "passes"), [("", "", False), ("7", "", False), ("7", "found", True)])
def test_the_gate_fails_without_evidence(tmp_path: Path, run: str, given: str, passes: bool) -> None:
    """The shell of its step, with a stand-in for GitHub; verifying is tested in tests/attest/test_policy.py."""
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "found").mkdir()
    (tmp_path / "evidence").mkdir()  # left from an earlier checkout; it must not count
    script = _script("pre-deploy-gate.yml", "Fetch the evidence")
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "FAKE_RUN": run,
        "FAKE_EVIDENCE": given and str(tmp_path / given),
    }
    environment |= {"RUN": "", "WORKFLOW": "nightly.yml", "BRANCH": "main", "ARTIFACT": "evidence-staging"}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is passes, done.stdout + done.stderr
    assert (tmp_path / "evidence").exists() is passes
