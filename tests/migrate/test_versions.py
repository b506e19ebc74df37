"""The shipped migrations give a proven product on every supported major."""

from dataclasses import replace

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge, static_ids
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.errors import MigrationError
from pytest_tenantproof.migrate import apply, migrations_folder, read_folder
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import start
from tests.servers import MAJORS, bin_of
from tests.support import reference_settings

# What a managed platform makes for its customer: no superuser, but roles and a database of its own.
PLATFORM = """
CREATE ROLE anon NOLOGIN NOINHERIT;
CREATE ROLE authenticated NOLOGIN NOINHERIT;
CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT;
CREATE ROLE product LOGIN NOSUPERUSER CREATEROLE CREATEDB BYPASSRLS;
GRANT anon, authenticated, service_role TO authenticator;
GRANT anon, authenticated, service_role, authenticator TO product WITH ADMIN OPTION;
CREATE DATABASE product OWNER product
"""


@pytest.mark.parametrize("major", MAJORS)
def test_an_owner_who_is_no_superuser_migrates(major: int) -> None:
    with start(bin_of(major)) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            for statement in PLATFORM.split(";"):
                admin.execute(statement)
        dsn = server.dsn("product", user="product")
        if major == 15:  # there only a superuser makes a role that passes row security
            with pytest.raises(MigrationError, match="004_canaries failed") as refused:
                apply(dsn, migrations_folder())
            assert "CREATE ROLE tenantproof_counter NOLOGIN INHERIT BYPASSRLS" in refused.value.remedy
            with psycopg.connect(server.dsn(), autocommit=True) as admin:
                admin.execute("CREATE ROLE tenantproof_counter NOLOGIN INHERIT BYPASSRLS")
        apply(dsn, migrations_folder())
        load_demo(dsn)
        with psycopg.connect(dsn, autocommit=True) as owner:
            for migration in read_folder(migrations_folder()):  # again: each is idempotent
                with owner.transaction():
                    owner.execute(migration.sql)
            assert owner.execute("SELECT tenantproof.audit_partitions(14)").fetchone() == (2,)
            settings = reference_settings()
            settings = replace(settings, admin_roles=(*settings.admin_roles, "product"))
            catalog = Catalog(read_snapshot(owner), settings)
        red = [r for r in (judge(i, catalog) for i in static_ids()) if r.outcome is not Outcome.PASSED]
        assert not [(r.control, r.outcome, r.findings) for r in red if r.outcome in (Outcome.FAILED, Outcome.ERROR)]


@pytest.mark.parametrize("major", MAJORS)
def test_migrated_and_loaded_every_control_is_green(major: int) -> None:
    with start(bin_of(major)) as server:
        apply(server.dsn(), migrations_folder())
        load_demo(server.dsn())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            snapshot = read_snapshot(connection)
        assert snapshot.major == major
        catalog = Catalog(snapshot, reference_settings())
        red = [r for r in (judge(i, catalog) for i in static_ids()) if r.outcome is Outcome.FAILED]
        assert not [(r.control, r.findings) for r in red]
        assert not [i for i in static_ids() if judge(i, catalog).outcome is Outcome.ERROR]
