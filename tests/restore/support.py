"""A backup of a small product on one server, and another server to restore to."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from pytest_tenantproof.backup.restore import RestoreRequest, RestoreResult, run_restore
from pytest_tenantproof.backup.store import open_store
from pytest_tenantproof.config import Settings, TargetSettings
from pytest_tenantproof.target import EmbeddedPostgres
from tests.backup.support import Scene

MORE = """
CREATE TABLE audit(id bigint GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  INSERT INTO public.audit(what) VALUES (tg_op);
--
-- Name: x; Type: INDEX; Schema: public; Owner: postgres
--
  RETURN new;
END $body$;
CREATE TRIGGER log_it AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION log_it();
ALTER TABLE messages ENABLE ALWAYS TRIGGER log_it;
CREATE VIEW busy AS SELECT t.id, t.slug, count(*) FROM tenants t JOIN units u ON u.tenant_id = t.id GROUP BY t.id;
CREATE MATERIALIZED VIEW sizes AS SELECT tenant_id, count(*) AS n FROM messages GROUP BY 1;
CREATE INDEX ON messages (tenant_id, at);
ALTER TABLE plans ADD kind varchar(9) DEFAULT 'paid' CHECK (kind IN ('paid', 'free, isn''t it'));
ALTER TABLE units ENABLE ROW LEVEL SECURITY;
ALTER TABLE units FORCE ROW LEVEL SECURITY;
CREATE ROLE reader_{n} NOLOGIN;
GRANT SELECT ON units TO reader_{n};
CREATE POLICY own ON units TO reader_{n} USING (false);
"""
TARGETS = {
    "prod": TargetSettings(class_="live"),
    "staging": TargetSettings(class_="staging", restorable=True),
    "closed": TargetSettings(class_="staging"),
}


@dataclass
class Stage:
    """A scene with one backup, and the database that a restore of it replaces."""

    scene: Scene
    run: str
    server: EmbeddedPostgres
    database: str = "staging"

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.database)

    def request(self, **more: Any) -> RestoreRequest:
        given: dict[str, Any] = {
            "run": self.run,
            "target": "staging",
            "dsn": self.dsn,
            "settings": replace(self.scene.request().settings, targets=TARGETS),
            "store": open_store(self.scene.store),
            "key_store": open_store(self.scene.key_store),
            "trusted": self.scene.keys,
            "pair": self.scene.reader,
        }
        return RestoreRequest(**given | more)

    def restore(self, **more: Any) -> RestoreResult:
        return run_restore(self.request(**more))

    def databases(self) -> list[str]:
        with psycopg.connect(self.server.dsn(), autocommit=True) as admin:
            rows = admin.execute("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1").fetchall()
        return [name for (name,) in rows]

    def settings(self, **more: Any) -> Settings:
        return replace(self.request().settings, **more)


def content(dsn: str) -> dict[str, str]:
    """A digest of each table's rows."""
    found = {}
    with psycopg.connect(dsn) as connection:
        names = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for (name,) in names:
            rows = connection.execute(f"SELECT t::text FROM {name} t ORDER BY 1".encode()).fetchall()
            found[name] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return found


@contextmanager
def flipped(path: Path, at: int) -> Iterator[None]:
    """One bit of a file, the other way round."""
    before = path.read_bytes()
    changed = bytearray(before)
    changed[at] ^= 1
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(before)
