"""The back end of examples/ does what it says, and the checks read what is there."""

import importlib.util
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from pytest_tenantproof.client import TenantPool
from pytest_tenantproof.codebase import raw_connects, read_code, ungated_writes
from pytest_tenantproof.errors import GateRefused, ScanError
from tests.client.conftest import CONFIG, Product
from tests.support import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "backend"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_back_end_serves_each_tenant_its_own(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    app = load(EXAMPLE / "app.py")
    monkeypatch.setenv("BACKEND_DSN", product.backend)
    monkeypatch.chdir(REPOSITORY)
    with psycopg.connect(product.admin) as connection:
        row = connection.execute(
            "SELECT unit_id::text FROM messages WHERE tenant_id = %s LIMIT 1", [product.one]
        ).fetchone()
    assert row is not None
    pool: TenantPool = app.open_pool()
    with pool:
        assert app.messages_of(pool, product.one, "7", row[0])
        assert app.messages_of(pool, product.other, "7", row[0]) == []
        assert not app.rename_unit(pool, product.other, "7", row[0], "taken")


def test_the_script_asks_the_gate(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load(EXAMPLE / "scripts" / "add_demo_tenant.py")
    monkeypatch.setenv("TENANTPROOF_STAGING_WRITER_DSN", product.admin)
    monkeypatch.chdir(CONFIG.parent)
    with pytest.raises(GateRefused, match="may not be seeded"):
        script.main("staging")


def test_the_checks_read_all_of_it() -> None:
    code = read_code(REPOSITORY, ["examples/backend"])
    assert sorted(code.files) == ["examples/backend/app.py", "examples/backend/scripts/add_demo_tenant.py"]
    assert [found.where for found in raw_connects(code.files)] == ["examples/backend/scripts/add_demo_tenant.py:12"]
    assert list(raw_connects(code.beside(["examples/backend/scripts/*"]))) == []
    assert list(ungated_writes(read_code(REPOSITORY, ["examples/backend/scripts"]).files)) == []
    with pytest.raises(ScanError, match="holds no source file"):
        read_code(REPOSITORY, ["examples/nowhere"])
