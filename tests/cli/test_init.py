"""init on the reference product, a product it has never seen, and an empty database."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.cli import main
from pytest_tenantproof.config import Settings, load_settings
from pytest_tenantproof.controls.judge import judge, static_ids
from pytest_tenantproof.model import Outcome


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PROD_DSN", "STAGING_DSN", "SIGNING_KEY_FILE", "SLACK_WEBHOOK", "INIT_DSN"):
        monkeypatch.delenv(f"TENANTPROOF_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def _initialised(dsn: str, folder: Path) -> Settings:
    assert main(["init", "--dsn", dsn, "--dir", str(folder)]) == 0
    return load_settings(folder / "tenantproof.toml")


def _red(dsn: str, settings: Settings) -> dict[str, list[str]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        catalog = Catalog(read_snapshot(connection), settings)
    results = [judge(i, catalog) for i in static_ids()]
    assert not [r for r in results if r.outcome is Outcome.ERROR]
    return {r.control: [f.object for f in r.findings] for r in results if r.outcome is Outcome.FAILED}


def test_the_reference_product_is_proven_with_what_it_writes(reference_database: str, tmp_path: Path) -> None:
    settings = _initialised(reference_database, tmp_path)
    assert settings.tenant_table == "public.tenants"
    assert settings.target("prod").class_ == "live"
    assert _red(reference_database, settings) == {}


def test_an_unknown_product_is_found_but_for_what_only_people_know(faults_database: str, tmp_path: Path) -> None:
    settings = _initialised(faults_database, tmp_path)
    assert settings.membership_tables == ("public.memberships",)
    assert settings.audit_tables == ("public.audit_events",)
    assert settings.trusted_tenant_expressions == ("private.current_tenant_id()",)
    assert settings.global_tables == ()
    assert "TP102" not in _red(faults_database, settings)


ACCOUNTS = """
CREATE SCHEMA app;
CREATE TABLE app.accounts (id uuid PRIMARY KEY, name text);
CREATE TABLE app.account_people
    (user_id uuid, account_id uuid REFERENCES app.accounts, PRIMARY KEY (user_id, account_id));
CREATE TABLE public.posts (id uuid PRIMARY KEY, account_id uuid NOT NULL REFERENCES app.accounts, user_id uuid);
CREATE TABLE public.comments (id uuid PRIMARY KEY, post_id uuid NOT NULL REFERENCES public.posts, body text);
CREATE TABLE public.countries (code text PRIMARY KEY);
CREATE FUNCTION app.add_current_account() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE FUNCTION app.get_account_ids() RETURNS SETOF uuid LANGUAGE sql AS 'SELECT account_id FROM app.account_people';
"""


def test_memberships_are_found_by_their_key_and_no_trigger_is_an_accessor(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    dsn = new_database()
    with psycopg.connect(dsn) as connection:
        connection.execute(ACCOUNTS.encode())
    settings = _initialised(dsn, tmp_path / "a" / "new folder")
    assert settings.tenant_table == "app.accounts"
    assert settings.membership_tables == ("app.account_people",)
    assert settings.trusted_tenant_expressions == ()
    assert [(c.table, c.column) for c in settings.child_tables] == [("public.comments", "post_id")]
    assert (
        '# Without a tenant column here: ["public.countries"]'
        in (tmp_path / "a/new folder/tenantproof.toml").read_text()
    )


def test_profiles_are_memberships(new_database: Callable[[], str], tmp_path: Path) -> None:
    dsn = new_database()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            b"CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid PRIMARY KEY);"
            b"CREATE TABLE orgs (id uuid PRIMARY KEY); CREATE TABLE profiles ("
            b"id uuid PRIMARY KEY REFERENCES auth.users, org_id uuid NOT NULL REFERENCES orgs)"
        )
    settings = _initialised(dsn, tmp_path)
    assert settings.membership_tables == ("public.profiles",)
    assert settings.user_column == "id"


def test_profiles_beside_memberships(new_database: Callable[[], str], tmp_path: Path) -> None:
    """The column that most memberships have; the profile's own key follows from that."""
    dsn = new_database()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            b"CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid PRIMARY KEY);"
            b"CREATE TABLE spaces (id uuid PRIMARY KEY);"
            b"CREATE TABLE users (id uuid PRIMARY KEY REFERENCES auth.users, space_id uuid NOT NULL REFERENCES spaces);"
            b"CREATE TABLE space_members (id uuid PRIMARY KEY, space_id uuid NOT NULL REFERENCES spaces,"
            b" user_id uuid NOT NULL REFERENCES users, UNIQUE (space_id, user_id))"
        )
    settings = _initialised(dsn, tmp_path)
    assert set(settings.membership_tables) == {"public.users", "public.space_members"}
    assert settings.user_column == "user_id"
    with psycopg.connect(dsn) as connection:
        catalog = Catalog(read_snapshot(connection), settings)
    named = {name: catalog.user_column(catalog.tables[name]) for name in settings.membership_tables}
    assert {name: column.name for name, column in named.items() if column} == {
        "public.users": "id",
        "public.space_members": "user_id",
    }


def test_a_column_by_a_name_of_its_own(new_database: Callable[[], str], tmp_path: Path) -> None:
    dsn = new_database()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            b"CREATE TABLE users (id uuid PRIMARY KEY); CREATE TABLE clinics (id uuid PRIMARY KEY);"
            b"CREATE TABLE doctors (id uuid PRIMARY KEY, clinic_id uuid REFERENCES clinics, by uuid REFERENCES users);"
            b"CREATE TABLE patients (id uuid PRIMARY KEY, clinic_id uuid REFERENCES clinics, by uuid REFERENCES users);"
            b"CREATE TABLE visits (id uuid PRIMARY KEY, patient_id uuid REFERENCES patients, by uuid REFERENCES users)"
        )
    settings = _initialised(dsn, tmp_path)
    assert (settings.tenant_table, settings.tenant_column) == ("public.clinics", ("clinic_id",))


def test_names_of_another_style(new_database: Callable[[], str], tmp_path: Path) -> None:
    dsn = new_database()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            b'CREATE TABLE "Organization" (id uuid PRIMARY KEY); CREATE TABLE "User" (id uuid PRIMARY KEY);'
            b'CREATE TABLE "Membership" ("organizationId" uuid NOT NULL REFERENCES "Organization" ON DELETE RESTRICT,'
            b' "userId" uuid NOT NULL REFERENCES "User", PRIMARY KEY ("organizationId", "userId"))'
        )
    settings = _initialised(dsn, tmp_path)
    assert settings.tenant_table == 'public."Organization"'
    assert settings.tenant_column == ("organizationId",)
    assert (settings.membership_tables, settings.user_column) == (('public."Membership"',), "userId")
    assert settings.user_tables == ('public."User"',)
    assert settings.global_tables == ()
    assert not {"TP101", "TP102", "TP119"} & set(_red(dsn, settings))


def test_a_product_without_the_platforms_roles(new_database: Callable[[], str], tmp_path: Path) -> None:
    dsn = new_database()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            b"CREATE ROLE shop_app LOGIN; CREATE TABLE tenant (tenant_id uuid PRIMARY KEY);"
            b"CREATE TABLE orders (tenant_id uuid NOT NULL REFERENCES tenant, order_id uuid,"
            b" PRIMARY KEY (tenant_id, order_id));"
            b"ALTER TABLE orders ENABLE ROW LEVEL SECURITY; GRANT SELECT ON orders TO shop_app;"
            b"CREATE POLICY own ON orders USING (tenant_id = current_setting('shop.tenant')::uuid)"
        )
    settings = _initialised(dsn, tmp_path)
    written = (tmp_path / "tenantproof.toml").read_text()
    assert settings.client_roles == ("shop_app",)
    assert '# trusted_settings = ["shop.tenant"]' in written
    red = _red(dsn, settings)
    assert red["TP204"] == ["public.orders"]
    assert "TP117" not in red
    (tmp_path / "tenantproof.toml").write_text(written.replace("# trusted_s", "trusted_s"))
    red = _red(dsn, load_settings(tmp_path / "tenantproof.toml"))
    assert not {"TP117", "TP204", "TP207", "TP228"} & set(red)
    with psycopg.connect(dsn) as connection:  # roles are the whole server's
        connection.execute("DROP OWNED BY shop_app; DROP ROLE shop_app")


def test_an_empty_database_says_what_is_missing(
    new_database: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--dsn", new_database(), "--dir", str(tmp_path)]) == 2
    said = capsys.readouterr().out
    for what in ("tenant_table", "tenant_column", "schemas", "storage", "alert channel", "staging", "signing key"):
        assert f"still missing: {what}" in said
    assert all("default taken:" in line and "set it in" in line for line in said.splitlines() if "missing" in line)
    load_settings(tmp_path / "tenantproof.toml")


def test_names_from_the_database_stay_inside_their_quotes(new_database: Callable[[], str], tmp_path: Path) -> None:
    dsn, evil = new_database(), 'x"]\nclient_roles = []\n#'
    with psycopg.connect(dsn, autocommit=True) as connection:
        name = psycopg.sql.Identifier(evil)
        connection.execute("CREATE TABLE public.tenants (id int PRIMARY KEY)")
        for table in (psycopg.sql.Identifier("mine"), psycopg.sql.Identifier(f"members{evil}")):
            text = "CREATE TABLE public.{} (tenant_id int REFERENCES public.tenants, user_id int)"
            connection.execute(psycopg.sql.SQL(text).format(table))
        connection.execute(psycopg.sql.SQL("CREATE TABLE public.{} (id int)").format(name))
    settings = _initialised(dsn, tmp_path)
    assert settings.global_tables == ()
    assert [table.count("\n") for table in settings.membership_tables] == [2]
    keys = [line.partition(" =")[0] for line in (tmp_path / "tenantproof.toml").read_text().splitlines()]
    assert keys.count("client_roles") == 1


def test_nothing_is_overwritten(reference_database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _initialised(reference_database, tmp_path)
    before = (tmp_path / "tenantproof.toml").read_text()
    capsys.readouterr()
    assert main(["init", "--dsn", reference_database, "--dir", str(tmp_path), "--json"]) == 4
    assert "exists" in json.loads(capsys.readouterr().out)["message"]
    assert (tmp_path / "tenantproof.toml").read_text() == before


def test_without_a_database_it_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 4
    assert "TENANTPROOF_INIT_DSN" in capsys.readouterr().err
