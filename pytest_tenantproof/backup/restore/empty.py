"""A staging database emptied for a restore into it, where the server allows no new database and no renaming."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pytest_tenantproof.backup.manifest import Manifest
from pytest_tenantproof.backup.restore.dump import SchemaDump
from pytest_tenantproof.catalog.compare import PLATFORM
from pytest_tenantproof.errors import RestoreError

__all__ = ["NOTHING_KEPT", "Kept", "empty", "require_emptiable", "set_mark"]

Connection = psycopg.Connection[Any]
_SYSTEM = r"^pg_|^information_schema$"


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays: schemas that belong to the platform or hold an extension, and the extensions."""

    schemas: frozenset[str] = frozenset()
    extensions: frozenset[str] = frozenset()

    def holds(self, name: str) -> bool:
        """Whether an object, named as format('%I.%I') does, is in a schema that stays."""
        return any(name.startswith((f"{s}.", f"{sql.Identifier(s).as_string(None)}.")) for s in self.schemas)


NOTHING_KEPT = Kept()


def require_emptiable(connection: Connection, manifest: Manifest, dump: SchemaDump) -> Kept:
    """What stays when the database is emptied. Raises RestoreError, with nothing changed, when the role may not
    empty it, or when the backup holds rows for a schema that stays, or definitions for one that is no platform's."""
    row = connection.execute(
        "SELECT pg_catalog.pg_has_role(datdba, 'USAGE') FROM pg_catalog.pg_database"
        " WHERE datname = pg_catalog.current_database()"
    ).fetchone()
    if row is None or not row[0]:
        raise RestoreError("the role does not own the database.", remedy="restore as the database's owner.")
    rows = connection.execute(
        "SELECT n.nspname::text FROM pg_catalog.pg_namespace n WHERE n.nspname !~ %s AND n.nspname <> 'public'"
        " AND (NOT pg_catalog.pg_has_role(n.nspowner, 'USAGE')"
        "  OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid)"
        "  OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::regclass"
        "             AND d.objid = n.oid AND d.deptype = 'e'))",
        [_SYSTEM],
    ).fetchall()
    extensions = connection.execute("SELECT extname::text FROM pg_catalog.pg_extension").fetchall()
    kept = Kept(frozenset(name for (name,) in rows), frozenset(name for (name,) in extensions))
    if held := next((table.name for table in manifest.tables if kept.holds(table.name)), ""):
        raise RestoreError(
            f"the backup holds rows of {held}, in a schema that this role may not replace.",
            remedy="restore elsewhere; or leave the platform's tables out of backups (exclude_tables).",
        )
    own = kept.schemas - PLATFORM | kept.schemas & {"tenantproof"}
    if made := next((e for e in dump.entries if e.schema in own and e.type not in ("ACL", "COMMENT")), None):
        raise RestoreError(
            f"the backup makes {made.type} {made.schema}.{made.name}, in a schema that this role may not replace.",
            remedy="restore as a role that owns the product's schemas, or elsewhere.",
        )
    return kept


def empty(connection: Connection, kept: Kept, mark: str) -> None:
    """Drops all that may be dropped, and marks the database, in one transaction. Raises psycopg.Error, or RestoreError
    when something remains; then nothing was changed."""
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '20s'")
        connection.execute("SET LOCAL statement_timeout = 0")
        set_mark(connection, mark)
        for statement in (*_publications(connection), *_defaults(connection), *_schemas(connection, kept)):
            connection.execute(statement)
        while dropped := list(_in_public(connection)):
            for statement in dropped:
                connection.execute(statement)
            if list(_in_public(connection)) == dropped:
                raise RestoreError("objects in schema public remain.", remedy="drop them by hand, and restore again.")


def set_mark(connection: Connection, mark: str) -> None:
    """The comment on the database, which no dump carries."""
    name = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(mark)))


def _schemas(connection: Connection, kept: Kept) -> Iterator[sql.Composed]:
    rows = connection.execute(
        "SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname !~ %s AND nspname <> 'public'"
        " AND nspname <> ALL (%s)",
        [_SYSTEM, list(kept.schemas)],
    ).fetchall()
    return (sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)) for (name,) in rows)


def _publications(connection: Connection) -> Iterator[sql.Composed]:
    rows = connection.execute(
        "SELECT pubname::text FROM pg_catalog.pg_publication WHERE pg_catalog.pg_has_role(pubowner, 'USAGE')"
    ).fetchall()
    return (sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name)) for (name,) in rows)


def _defaults(connection: Connection) -> Iterator[sql.Composed]:
    """Default privileges would grant on restored objects what the backup does not."""
    kinds = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS"}
    rows = connection.execute(
        "SELECT DISTINCT d.defaclrole::regrole::text, n.nspname::text, d.defaclobjtype::text,"
        " CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END"
        " FROM pg_catalog.pg_default_acl d LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace"
        " CROSS JOIN pg_catalog.aclexplode(d.defaclacl) a"
        " WHERE a.grantee <> d.defaclrole AND pg_catalog.pg_has_role(d.defaclrole, 'USAGE')"
    ).fetchall()
    for role, schema, kind, grantee in rows:
        where = sql.SQL(" IN SCHEMA {}").format(sql.Identifier(schema)) if schema else sql.SQL("")
        yield sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}{} REVOKE ALL ON {} FROM {}").format(
            sql.SQL(role), where, sql.SQL(kinds[kind]), sql.SQL(grantee)
        )


def _in_public(connection: Connection) -> Iterator[sql.Composed]:
    """What lies in public and is no extension's. The schema itself stays: its owner is the server's choice."""
    rows = connection.execute(
        "SELECT DISTINCT i.type, i.identity FROM pg_catalog.pg_depend d"
        " CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) i"
        " WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.deptype = 'n'"
        " AND d.refobjid = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e"
        " WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e') ORDER BY 1 DESC, 2"
    ).fetchall()
    words = {"composite type": "TYPE", "statistics object": "STATISTICS", "extension": ""}
    for kind, identity in rows:
        if word := words.get(kind, kind.upper()):
            yield sql.SQL("DROP {} IF EXISTS {} CASCADE").format(sql.SQL(word), sql.SQL(identity))
