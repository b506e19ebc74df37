"""docs/controls/ says what the code says."""

from pytest_tenantproof.controls import astray, catalogue, lock_file, locked
from pytest_tenantproof.controls.docs import pages
from tests.support import REPOSITORY

FOLDER = REPOSITORY / "docs" / "controls"


def test_the_pages_are_in_step_with_the_code() -> None:
    made = pages()
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(made)
    for name, text in made.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, f"{name} is old: run `make docs`"


def test_the_catalogue_is_locked() -> None:
    assert lock_file().read_text(encoding="utf-8") == locked(catalogue()), "catalogue.lock is old: run `make docs`"
    assert astray() == ()


def test_every_control_has_its_place() -> None:
    text = "\n".join(pages().values())
    for control in catalogue():
        assert f"## {control.id}\n" in text
        assert f"xx.md#{control.id.lower()})" in text
        assert control.doc in text
