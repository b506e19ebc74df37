"""What the package promises as a whole: its public names, cheap imports, documented variables and verbs."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import pytest_tenantproof
from pytest_tenantproof.cli import VERBS, main
from pytest_tenantproof.config import Settings
from pytest_tenantproof.control import control_of
from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "pytest_tenantproof"
SOURCES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# Variables with a name in the middle: TENANTPROOF_<TARGET or JOB>_<SUFFIX>
KINDS = typing.get_args(typing.get_type_hints(Settings.dsn)["kind"])


def test_the_public_names_are_few_and_there() -> None:
    assert sorted(pytest_tenantproof.__all__) == ["Severity", "__version__", "control", "falsified_by"]
    for name in pytest_tenantproof.__all__:
        assert hasattr(pytest_tenantproof, name)


def test_every_public_module_says_what_is_public() -> None:
    for found in pkgutil.walk_packages([str(PACKAGE)], "pytest_tenantproof."):
        last = found.name.rpartition(".")[2]
        if last.startswith(("_", "test_")):
            continue
        module = importlib.import_module(found.name)
        names = getattr(module, "__all__", ())
        assert list(names) == list(dict.fromkeys(names)), found.name
        assert all(hasattr(module, name) for name in names), found.name
        defines = any(
            isinstance(node, ast.ClassDef | ast.FunctionDef) for node in _tree(Path(str(module.__file__))).body
        )
        assert names or not defines, f"{found.name} has no __all__"


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import pytest_tenantproof", ("pytest", "_pytest", "psycopg", "pglast", "boto3", "jinja2", "requests")),
        ("import pytest_tenantproof.plugin.hooks", ("psycopg", "pglast", "boto3", "jinja2", "requests", "nacl")),
        ("import pytest_tenantproof.attest.verify", ("pytest", "_pytest", "psycopg", "pglast", "boto3", "requests")),
        ("from pytest_tenantproof.cli import main; main(['--help'])", ("pytest", "psycopg", "pglast", "boto3")),
    ],
)
def test_imports_are_cheap(statement: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys; {statement}; print('LOADED', *sorted(set({forbidden!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"


def _documented() -> set[str]:
    text = (REPOSITORY / ".env.example").read_text()
    return set(re.findall(r"^([A-Z][A-Z0-9_]*)=", text, re.M))


def _read_by_the_code() -> set[str]:
    """Names of variables in the sources: literals that look like ours, and whatever is taken from os.environ."""
    found: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if re.fullmatch(r"TENANTPROOF_[A-Z0-9_]+", node.value) else set()
            is_get = isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("environ.get", "getenv", "environ.pop")
            )
            if is_get and isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
                found |= {node.slice.value} if isinstance(node.slice, ast.Constant) else set()  # type: ignore[arg-type]
    return found - {"TENANTPROOF_PROVEN"}  # a level of verification summaries (SLSA), no variable


def test_every_variable_that_the_code_reads_is_documented() -> None:
    assert sorted(_read_by_the_code() - _documented()) == []


def test_every_documented_variable_is_read() -> None:
    literals = "\n".join(path.read_text() for path in SOURCES)
    suffixes = [f"{kind}_DSN".lstrip("_") for kind in KINDS]
    suffixes += re.findall(r'environment_name\(\w+, "([A-Z_]+)"\)', literals)
    patterns = [re.compile(rf"TENANTPROOF_[A-Z0-9]+_{suffix}") for suffix in suffixes]
    for name in _documented():
        assert f'"{name}"' in literals or any(p.fullmatch(name) for p in patterns), f"{name} is read nowhere"


def test_every_variable_has_its_comment() -> None:
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    for at, line in enumerate(lines):
        if re.match(r"[A-Z]", line):
            above = next((x for x in reversed(lines[:at]) if not re.match(r"[A-Z]", x)), "")
            assert above.startswith("# "), line
            assert line.endswith("="), f"{line}: values do not belong in the example"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"usage: tenantproof {verb}" in said
    assert "--json" in said
    example = re.search(r"example: (?:\S+=\S+ )*tenantproof (.*)", " ".join(said.split()))
    assert example is not None, said
    assert example[1].split()[0] == verb
    for flag in re.findall(r"--[a-z-]+", example[1]):
        assert flag in said.partition("example:")[0], f"{verb} has no {flag}"


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert [verb for verb in VERBS if f"  {verb} " not in said and f"  {verb}\n" not in said] == []


def test_documents_name_verbs_and_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    helped: dict[str, str] = {}
    for path in DOCUMENTS:
        for verb, rest in re.findall(r"(?:^|`|\$ | {4})tenantproof ([a-z-]+)([^`\n]*)", path.read_text(), re.M):
            assert verb in VERBS, f"{path.name}: there is no verb {verb}"
            if verb not in helped:
                main([verb, "--help"])
                helped[verb] = capsys.readouterr().out
            for flag in re.findall(r"(?<!\S)--[a-z-]+", rest.partition("#")[0]):
                assert flag in helped[verb], f"{path.name}: {verb} has no {flag}"


def test_no_module_is_too_long_to_read() -> None:
    assert [p.name for p in SOURCES if len(p.read_text().splitlines()) > 460] == []


def test_the_readme_shows_the_recipe_that_is_tested() -> None:
    recipes = [
        re.findall(r"```sh\n(.*?)```", (REPOSITORY / name).read_text(), re.S)[0]
        for name in ("README.md", "docs/VERIFYING.md")
    ]
    assert recipes[0] == recipes[1]


def test_the_readmes_own_control_is_one() -> None:
    code = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.S)[0]
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    declared = control_of(names["check_invoices"])
    assert declared is not None
    assert declared.faults


def test_nothing_is_kept_that_is_to_be_ignored() -> None:
    """What a build or a test fetched, committed by mistake."""
    line = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not (REPOSITORY / ".git").exists(), done.stderr
    assert done.stdout == ""


def test_the_architecture_names_every_room_and_no_other() -> None:
    text = (REPOSITORY / "docs" / "ARCHITECTURE.md").read_text()
    assert len(text.splitlines()) <= 60
    rooms = {name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`([\w./]+)`", row)}
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == folders | {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    for path in re.findall(r"`(\w+/[\w/]+\.py)`", text):
        assert (PACKAGE / path).is_file(), path


def test_what_the_architecture_says_of_cryptography_is_what_is_checked() -> None:
    """The import contract of that sentence allows the modules that it names, and no other."""
    contracts = (REPOSITORY / "pyproject.toml").read_text().split("[[tool.importlinter.contracts]]")
    (contract,) = (text for text in contracts if '"nacl", "cryptography"' in text)
    allowed = {f"{name.replace('.', '/')}.py" for name in re.findall(r'"pytest_tenantproof\.([\w.]+) ->', contract)}
    sentence = re.search(
        r"of PyNaCl and cryptography, (.*?)\.\n", (REPOSITORY / "docs/ARCHITECTURE.md").read_text(), re.S
    )
    assert sentence is not None
    assert set(re.findall(r"`([\w/]+\.py)`", sentence[1])) == allowed
