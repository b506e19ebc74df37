"""A small product database, keys, a signer and stores for the tests of this room."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from pytest_tenantproof.attest.sign import Signer, new_seed
from pytest_tenantproof.backup.crypto import BackupKeypair, new_keypair
from pytest_tenantproof.backup.keyring import KeyRing
from pytest_tenantproof.backup.run import BackupRequest, BackupResult, run_backup
from pytest_tenantproof.backup.runs import load_manifest, read_plain
from pytest_tenantproof.backup.store import Store, StoreSpec
from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.backup import BackupSettings

SCHEMA = """
CREATE TABLE tenants(id uuid PRIMARY KEY, slug text UNIQUE NOT NULL, name text NOT NULL);
CREATE TABLE plans(id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE units(id uuid PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, label text,
  loud text GENERATED ALWAYS AS (upper(label)) STORED, UNIQUE (tenant_id, id));
CREATE TABLE messages(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL,
  unit_id uuid NOT NULL, body text, extra jsonb, raw bytea, at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (tenant_id, unit_id) REFERENCES units(tenant_id, id));
CREATE TABLE attachments(id int PRIMARY KEY, message_id bigint REFERENCES messages, path text NOT NULL);
CREATE TABLE scans(id int PRIMARY KEY, attachment_id int NOT NULL REFERENCES attachments, verdict text);
CREATE TABLE notes(tenant_id uuid, body text);
CREATE TABLE events(id bigint NOT NULL, tenant_id uuid NOT NULL, at date NOT NULL, PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
CREATE SEQUENCE counter;
"""
ROWS = r"""
INSERT INTO tenants SELECT md5('t' || i)::uuid, 't' || i, E'Tenant\t' || i FROM generate_series(1, {tenants}) i;
INSERT INTO plans VALUES (1, 'small'), (2, E'large\\N\n');
INSERT INTO units SELECT md5('u' || t.slug || i)::uuid, t.id, 'unit ' || i FROM tenants t, generate_series(1, 3) i;
INSERT INTO messages(tenant_id, unit_id, body, extra, raw)
  SELECT u.tenant_id, u.id, 'body ' || i || repeat(' words', i % 20) || E'\n\t\\.', '{{"a": "b\\n"}}', '\x00ff0a09'
  FROM units u, generate_series(1, {messages}) i;
INSERT INTO attachments SELECT id, id, 'file' || id FROM messages WHERE id % 3 = 0;
INSERT INTO attachments VALUES (-1, NULL, 'lost');
INSERT INTO scans SELECT id, id, 'clean' FROM attachments;
INSERT INTO notes SELECT id, 'note' FROM tenants;
INSERT INTO notes VALUES (NULL, 'nobody''s');
INSERT INTO events SELECT row_number() OVER (), t.id, date '2025-06-01' + i * 100
  FROM tenants t, generate_series(1, 4) i;
SELECT setval('counter', 42);
"""


def seed(dsn: str, *, tenants: int = 5, messages: int = 20) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        connection.execute(ROWS.format(tenants=tenants, messages=messages).encode())


@dataclass
class Scene:
    """A database, where its backups go, and who can read them."""

    dsn: str
    store: StoreSpec
    key_store: StoreSpec
    key: Signer = field(default_factory=lambda: Signer(new_seed()))
    reader: BackupKeypair = field(default_factory=new_keypair)
    escrow: BackupKeypair = field(default_factory=new_keypair)
    backup: BackupSettings = field(default_factory=lambda: BackupSettings(workers=0))
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, bytes]:
        return {self.key.key_id: self.key.public}

    def request(self, **more: Any) -> BackupRequest:
        recipients = (self.reader.recipient.text, self.escrow.recipient.text)
        backup = self.backup if self.backup.recipients else replace(self.backup, recipients=recipients)
        asked: dict[str, Any] = {
            "target": "prod",
            "dsn": self.dsn,
            "settings": Settings(backup=backup, **self.settings),
            "store": self.store,
            "key_store": self.key_store,
            "signer": self.key,
            "now": datetime.now(UTC),
        }
        return BackupRequest(**asked | more)

    def run(self, **more: Any) -> BackupResult:
        stores = {name: more.pop(name) for name in ("opened", "opened_keys") if name in more}
        return run_backup(self.request(**more), store=stores.get("opened"), key_store=stores.get("opened_keys"))


def local(path: Path) -> StoreSpec:
    return StoreSpec((path / "store").absolute().as_uri())


def contents(store: Store, scene: Scene, run: str) -> dict[tuple[str | None, str], bytes]:
    """Everything in a backup, decrypted: (tenant, table) -> COPY text."""
    manifest = load_manifest(store, run, scene.keys)
    ring, found = KeyRing(store, manifest, scene.reader), {}
    for archive in manifest.archives:
        key = ring.key(archive)
        for segment in archive.segments:
            plain = b"".join(read_plain(store, manifest, archive, segment, key))
            found[archive.tenant, segment.table] = plain
    return found


def copied(dsn: str, query: str) -> list[bytes]:
    """What COPY gives for a query, under the settings that backups use, sorted."""
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SET timezone = 'UTC'")
        cursor.execute("SET datestyle = 'ISO, YMD'")
        with cursor.copy(f"COPY ({query}) TO STDOUT".encode()) as copy:
            return sorted(bytes(row) for row in copy)
