"""Snapshot -> the DDL that makes it: a schema without its data, and without any right to read it.

Order within a list does not matter: the statements are run until none is left that still succeeds.
"""

from collections.abc import Iterable, Iterator

from psycopg import sql

from pytest_tenantproof.catalog.model import (
    PUBLIC,
    Constraint,
    Function,
    Grant,
    Publication,
    PublishedTable,
    Snapshot,
    Table,
    Trigger,
    Type,
)

__all__ = ["finishing", "foundation", "objects"]

_ATTRIBUTES = (
    ("superuser", "SUPERUSER"),
    ("bypass_rls", "BYPASSRLS"),
    ("replication", "REPLICATION"),
    ("create_role", "CREATEROLE"),
    ("create_db", "CREATEDB"),
    ("login", "LOGIN"),
    ("inherit", "INHERIT"),
)
_KIND_WORDS = {"table": "TABLE", "partitioned": "TABLE", "view": "VIEW", "matview": "MATERIALIZED VIEW"}
_SYSTEM = ("pg_catalog", "information_schema")


def ident(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _grantee(name: str) -> str:
    return PUBLIC if name == PUBLIC else ident(name)


def foundation(snapshot: Snapshot, superuser: str) -> Iterator[str]:
    """Roles, memberships, schemas, extensions: what everything else stands on."""
    for role in snapshot.roles:
        if role.name.startswith("pg_") or role.name == superuser:
            continue
        words = " ".join(word if getattr(role, field) else f"NO{word}" for field, word in _ATTRIBUTES)
        yield f"CREATE ROLE {ident(role.name)} {words}"
    for m in snapshot.memberships:
        if not (m.member.startswith("pg_") or m.member == superuser):
            options = f"ADMIN {m.admin}, INHERIT {m.inherit}, SET {m.set}"
            yield f"GRANT {ident(m.role)} TO {ident(m.member)} WITH {options}"
    for schema in snapshot.schemas:
        yield f"CREATE SCHEMA IF NOT EXISTS {ident(schema.name)}"
        yield f"ALTER SCHEMA {ident(schema.name)} OWNER TO {ident(schema.owner)}"
    for extension in snapshot.extensions:
        yield f"CREATE EXTENSION IF NOT EXISTS {ident(extension.name)} SCHEMA {ident(extension.schema)}"


def objects(snapshot: Snapshot) -> Iterator[str]:
    """Types, functions, tables with all that belongs to them, views."""
    for type_ in snapshot.types:
        yield from _type(type_)
    for function in snapshot.functions:
        yield from _function(function)
    by_name = {table.name: table for table in snapshot.tables}
    for table in snapshot.tables:
        if table.schema not in _SYSTEM and not table.extension:
            yield from _table(table, by_name)
    for operator in snapshot.operators:
        schema, _, name = operator.name.partition(".")
        sides = f"LEFTARG = {operator.left}, RIGHTARG = {operator.right}"
        yield f"CREATE OPERATOR {schema}.{name} ({sides}, FUNCTION = {operator.function.partition('(')[0]})"
        yield f"ALTER OPERATOR {schema}.{name} ({operator.left}, {operator.right}) OWNER TO {ident(operator.owner)}"
    for cast in snapshot.casts:
        how = f"WITH FUNCTION {cast.function}" if cast.function else "WITH INOUT"
        context = "" if cast.context == "explicit" else f" AS {cast.context.upper()}"
        yield f"CREATE CAST ({cast.source} AS {cast.target}) {how}{context}"


def _type(type_: Type) -> Iterator[str]:
    if type_.extension:
        return
    if type_.kind == "enum":
        yield f"CREATE TYPE {type_.name} AS ENUM ({', '.join(map(_literal, type_.labels))})"
    elif type_.kind == "domain":
        not_null = " NOT NULL" if type_.not_null else ""
        default = f" DEFAULT {type_.default}" if type_.default else ""
        yield f"CREATE DOMAIN {type_.name} AS {type_.base}{default}{not_null} {' '.join(type_.checks)}"
    elif type_.kind == "composite":
        yield f"CREATE TYPE {type_.name} AS ({', '.join(type_.attributes)})"
    elif type_.kind == "range":
        yield f"CREATE TYPE {type_.name} AS RANGE (SUBTYPE = {type_.base})"
    else:
        return
    yield f"ALTER {'DOMAIN' if type_.kind == 'domain' else 'TYPE'} {type_.name} OWNER TO {ident(type_.owner)}"


def _function(function: Function) -> Iterator[str]:
    if not function.definition:
        return
    yield function.definition
    yield f"ALTER {function.kind.upper()} {function.signature} OWNER TO {ident(function.owner)}"


def _table(table: Table, by_name: dict[str, Table]) -> Iterator[str]:
    if table.kind == "sequence":
        if not table.owned_by:
            yield f"CREATE SEQUENCE {table.name} CACHE {table.cache} {'CYCLE' if table.cycles else 'NO CYCLE'}"
            yield f"ALTER SEQUENCE {table.name} OWNER TO {ident(table.owner)}"
        return
    if table.kind in ("view", "matview"):
        options = f" WITH ({', '.join(table.options)})" if table.options else ""
        tail = " WITH NO DATA" if table.kind == "matview" else ""
        word = _KIND_WORDS[table.kind]
        yield f"CREATE {word} {table.name}{options} AS {table.definition.rstrip().rstrip(';')}{tail}"
        yield f"ALTER {word} {table.name} OWNER TO {ident(table.owner)}"
        yield from (trigger.definition for trigger in table.triggers)
        return
    if table.kind == "foreign":
        return
    yield _create(table)
    for constraint in table.constraints:
        if not constraint.inherited and not _of_parent(table, constraint, by_name):
            yield f"ALTER TABLE {table.name} ADD CONSTRAINT {ident(constraint.name)} {constraint.definition}"
    for index in table.indexes:
        if not index.constraint and not table.is_partition:
            yield index.definition
    yield from _behaviour(table, by_name)


def _of_parent(table: Table, constraint: Constraint, by_name: dict[str, Table]) -> bool:
    """Whether a partition's key comes with its parent's."""
    if not table.is_partition or constraint.kind not in ("primary", "unique", "foreign"):
        return False
    above = (by_name[p] for p in table.parents if p in by_name)
    return any(c.kind == constraint.kind and c.columns == constraint.columns for p in above for c in p.constraints)


def _create(table: Table) -> str:
    unlogged = "UNLOGGED " if table.persistence == "unlogged" else ""
    if table.is_partition:
        by = f" PARTITION BY {table.partition_key}" if table.partition_key else ""
        return f"CREATE {unlogged}TABLE {table.name} PARTITION OF {table.parents[0]} {table.partition_bound}{by}"
    columns = []
    for column in table.columns:
        parts = [ident(column.name), column.type]
        if column.generated:
            parts.append(f"GENERATED ALWAYS AS ({column.default}) {column.generated.upper()}")
        elif column.identity:
            parts.append(f"GENERATED {column.identity.upper()} AS IDENTITY")
        elif column.default:
            parts.append(f"DEFAULT {column.default}")
        parts.append("NOT NULL" if column.not_null and column.not_null_valid else "")
        columns.append(" ".join(filter(None, parts)))
    inherits = f" INHERITS ({', '.join(table.parents)})" if table.parents else ""
    by = f" PARTITION BY {table.partition_key}" if table.partition_key else ""
    return f"CREATE {unlogged}TABLE {table.name} ({', '.join(columns)}){inherits}{by}"


def _behaviour(table: Table, by_name: dict[str, Table]) -> Iterator[str]:
    above = {t.name: t for p in table.parents if p in by_name for t in by_name[p].triggers if t.level == "ROW"}
    for trigger in table.triggers:
        if not (table.is_partition and trigger.name in above):
            yield trigger.definition
        yield from _enabled(table, trigger)
    yield from (rule.definition for rule in table.rules)
    for policy in table.policies:
        kind = "PERMISSIVE" if policy.permissive else "RESTRICTIVE"
        roles = ", ".join(_grantee(role) for role in policy.roles)
        using = f" USING ({policy.using})" if policy.using else ""
        check = f" WITH CHECK ({policy.check})" if policy.check else ""
        head = f"CREATE POLICY {ident(policy.name)} ON {table.name} AS {kind} FOR {policy.command}"
        yield f"{head} TO {roles}{using}{check}"
    if table.row_security:
        yield f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY"
    if table.row_security_forced:
        yield f"ALTER TABLE {table.name} FORCE ROW LEVEL SECURITY"
    yield f"ALTER TABLE {table.name} OWNER TO {ident(table.owner)}"


def _enabled(table: Table, trigger: Trigger) -> Iterator[str]:
    words = {"always": "ENABLE ALWAYS", "replica": "ENABLE REPLICA", "disabled": "DISABLE"}
    if word := words.get(trigger.enabled):
        yield f"ALTER TABLE {table.name} {word} TRIGGER {ident(trigger.name)}"


def finishing(snapshot: Snapshot, superuser: str) -> Iterator[str]:
    """Grants and what refers to everything: privileges, publications, settings, event triggers."""
    for schema in snapshot.schemas:
        yield from _grants("SCHEMA", ident(schema.name), schema.grants)
    for table in snapshot.tables:
        if not table.extension and (table.schema not in _SYSTEM):
            word = "SEQUENCE" if table.kind == "sequence" else "TABLE"
            yield from _grants(word, table.name, table.grants)
            for column in table.columns:
                yield from _column_grants(table, column.name, column.grants)
    for function in snapshot.functions:
        if function.definition:
            yield from _grants(function.kind.upper(), function.signature, function.grants)
    yield from _grants("DATABASE", "current", snapshot.database.grants)
    for default in snapshot.default_privileges:
        where = f" IN SCHEMA {ident(default.schema)}" if default.schema else ""
        head = f"ALTER DEFAULT PRIVILEGES FOR ROLE {ident(default.owner)}{where}"
        for grant in default.grants:
            yield f"{head} GRANT {grant.privilege} ON {default.kind.upper()} TO {_grantee(grant.grantee)}"
    for publication in snapshot.publications:
        yield _publication(publication)
    for trigger in snapshot.event_triggers:
        head = f"CREATE EVENT TRIGGER {ident(trigger.name)} ON {trigger.event}"
        tags = f" WHEN TAG IN ({', '.join(map(_literal, trigger.tags))})" if trigger.tags else ""
        yield f"{head}{tags} EXECUTE FUNCTION {trigger.function}"
        if trigger.enabled == "always":
            yield f"ALTER EVENT TRIGGER {ident(trigger.name)} ENABLE ALWAYS"
    for setting in snapshot.settings:
        if setting.role and setting.role != superuser:
            name = ".".join(ident(part) for part in setting.name.split("."))
            yield f"ALTER ROLE {ident(setting.role)} SET {name} = {_literal(setting.value)}"


def _publication(publication: Publication) -> str:
    parts = [_published(table) for table in publication.tables]
    parts += [f"TABLES IN SCHEMA {ident(schema)}" for schema in publication.schemas]
    what = " FOR ALL TABLES" if publication.all_tables else f" FOR {', '.join(parts)}" if parts else ""
    publish = f"publish = '{', '.join(publication.operations).lower()}'"
    root = f"publish_via_partition_root = {publication.via_root}"
    return f"CREATE PUBLICATION {ident(publication.name)}{what} WITH ({publish}, {root})"


def _published(table: PublishedTable) -> str:
    columns = f" ({', '.join(map(ident, table.columns))})" if table.columns else ""
    return f"TABLE ONLY {table.table}{columns}" + (f" WHERE ({table.filter})" if table.filter else "")


def _grants(word: str, name: str, grants: Iterable[Grant]) -> Iterator[str]:
    if name == "current":
        yield "DO $$ BEGIN EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()); END $$"
    else:
        yield f"REVOKE ALL ON {word} {name} FROM PUBLIC"
    for grant in grants:
        option = " WITH GRANT OPTION" if grant.grantable else ""
        text = f"GRANT {grant.privilege} ON {word} {{}} TO {_grantee(grant.grantee)}{option}"
        if name == "current":
            yield f"DO $$ BEGIN EXECUTE format({_literal(text.format('%I'))}, current_database()); END $$"
        else:
            yield text.format(name)


def _column_grants(table: Table, column: str, grants: Iterable[Grant]) -> Iterator[str]:
    for grant in grants:
        yield f"GRANT {grant.privilege} ({ident(column)}) ON {table.name} TO {_grantee(grant.grantee)}"
