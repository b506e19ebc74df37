"""2xx: code that runs with somebody else's rights, or changes who the caller seems to be."""

import re

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.dynamic import runs_callers_sql
from pytest_tenantproof.catalog.evaluate import ROW_TO_JSON
from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.catalog.plpgsql import body_of, exit_of, without_comments
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._bound import is_caller_bound, prover
from pytest_tenantproof.controls._context import sets_identity
from pytest_tenantproof.controls._maps import FLOW, FUNCTIONS
from pytest_tenantproof.model import Severity

_CALM_SETTINGS = frozenset(
    [
        "search_path",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "timezone",
        "datestyle",
        "intervalstyle",
        "work_mem",
        "maintenance_work_mem",
        "jit",
        "plan_cache_mode",
        "enable_seqscan",
        "enable_nestloop",
        "enable_hashjoin",
        "extra_float_digits",
        "default_text_search_config",
        "plpgsql.variable_conflict",
        "random_page_cost",
        "cursor_tuple_fraction",
    ]
)
_BUILT_IN_TYPES = frozenset(
    """
    bool boolean bpchar bytea char character cidr date daterange decimal float4 float8 inet int int2 int4 int8 integer
    bigint smallint interval json jsonb jsonpath macaddr money name numeric oid regclass regrole text time timestamp
    timestamptz timetz tsquery tsvector uuid varchar xid xid8 xml
    """.split()
)
_CONTEXT = re.compile(
    r"\bset_config\s*\(|\bset\s+(local\s+|session\s+)?(role|session\s+authorization|row_security|\"?request\.|\"?app\.)"
    r"|\breset\s+(role|all|session)|\bset\s+(local\s+|session\s+)?\"?\w+\.\w+\"?\s*(=|to)\b",
    re.I,
)
_LITERAL = r"(?:'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"
_RUNS_TEXT = re.compile(
    r"\b((query|cursor)_to_xml\w*|ts_(stat|rewrite)|dblink\w*)\"?\s*\("
    rf"|\b(crosstab\w*|connectby|xpath_table)\"?\s*\((?!\s*{_LITERAL}\s*(,\s*'(?:[^']|'')*'\s*)*\))",
    re.I | re.S,
)
_RANGES = re.compile(r"\bAS \$function\$(multi)?range_constructor[0-3]\$function\$\s*\Z")
_READS_CONTEXT = re.compile(
    r"\bcurrent_setting\s*\(|\bauth\.(jwt|uid|role|email)\s*\(|\bfrom\s+[\w.\"]+|\b(current_user|session_user|now\s*\()",
    re.I,
)


def _clients(catalog: Catalog, function: Function) -> list[str]:
    return [role for role in catalog.client_roles if catalog.callable_by(function, role)]


def _body(function: Function) -> str:
    return without_comments(function.body)


@control(
    "TP241",
    title="Clients can call no SECURITY DEFINER function, unless it is bound to the caller or declared",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by(
    "CREATE FUNCTION {schema}.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = ''"
    " AS 'SELECT count(*) FROM {tenant_table}'; GRANT EXECUTE ON FUNCTION {schema}.peek() TO {client_role}"
)
def test_no_definer_functions_for_clients(catalog: Catalog, findings: Findings) -> None:
    """It runs as its owner, past row security: whatever it returns or writes, any caller can have.

    Accepted are membership helpers proven to look at the caller's own rows only, and functions named in
    `exposed_functions`, whose bodies somebody reviewed. Remember that PUBLIC may execute a new function.
    """
    for function in catalog.snapshot.functions:
        if not function.security_definer or function.returns in ("trigger", "event_trigger"):
            continue
        roles = _clients(catalog, function)
        if roles and not is_caller_bound(catalog, function):
            fix = f"REVOKE EXECUTE ON FUNCTION {function.signature} FROM PUBLIC, {', '.join(roles)};"
            detail = f"{', '.join(roles)} can run it as {function.owner}: {prover(catalog).leaks(function)}"
            findings.add(function, detail, fix=fix, role=roles[0])


@control(
    "TP242",
    title="SECURITY DEFINER functions pin their search path to places clients cannot write",
    severity=Severity.HIGH,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by(
    "CREATE FUNCTION {schema}.unpinned() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';"
    "REVOKE EXECUTE ON FUNCTION {schema}.unpinned() FROM PUBLIC"
)
@falsified_by(
    "CREATE FUNCTION {schema}.early() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_temp, pg_catalog"
    " AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION {schema}.early() FROM PUBLIC"
)
def test_definer_functions_pin_search_path(catalog: Catalog, findings: Findings) -> None:
    """With the caller's search path, the caller decides which function and operator an unqualified name means.

    The same goes for one that names pg_temp, where anybody can create, before anything else.
    """
    for function in catalog.own_functions:
        if not function.security_definer:
            continue
        path = function.setting("search_path")
        if path is None:
            fix = f"ALTER {function.kind.upper()} {function.signature} SET search_path = '';"
            findings.add(function, f"runs as {function.owner} on the caller's search_path", fix=fix)
            continue
        named = [name.strip().strip('"') for name in path.split(",")]
        if "pg_temp" in named[:-1]:
            findings.add(function, "search_path names pg_temp before other schemas, where clients can create objects")
        for schema in named:
            found = catalog.schemas.get(schema)
            writable = [
                role for role in catalog.client_roles if found and "CREATE" in catalog.graph.granted(found.grants, role)
            ]
            if writable or schema == "$user":
                findings.add(function, f"search_path names {schema}, where clients can create objects")


@control(
    "TP243",
    title="No function lets a client change its own identity or run SQL of its choice",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by(
    "CREATE FUNCTION {schema}.become(t text) RETURNS text LANGUAGE sql"
    " AS $$ SELECT set_config('request.jwt.claims', t, false) $$;"
    "GRANT EXECUTE ON FUNCTION {schema}.become(text) TO {client_role}"
)
@falsified_by(
    "CREATE FUNCTION {schema}.run(q text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE q; END $$;"
    "GRANT EXECUTE ON FUNCTION {schema}.run(text) TO {client_role}"
)
def test_no_function_changes_the_caller(catalog: Catalog, findings: Findings) -> None:
    """Claims arrive as settings. A function that sets settings, roles, or runs its argument, rewrites them. So does a
    trigger that sets one which policies trust: the rest of the statement runs with it.

    A body in a language that cannot be read here counts as one that does.
    """
    for function in catalog.own_functions:
        if name := sets_identity(function, catalog.settings.trusted_settings):
            findings.add(function, f"a trigger that sets {name}, by which the caller is known")
        roles = _clients(catalog, function) if function.returns not in ("trigger", "event_trigger") else []
        if not roles or f"{function.signature}" in catalog.settings.exposed_functions:
            continue
        for problem in _identity_problems(function):
            findings.add(function, f"{', '.join(roles)} can call it, and it {problem}", role=roles[0])


def _identity_problems(function: Function) -> list[str]:
    text, found = _body(function), []
    if _CONTEXT.search(text):
        found.append("sets roles or settings")
    if _RUNS_TEXT.search(text):
        found.append("runs SQL made at run time")
    if function.language == "plpgsql":
        body = body_of(function)
        kinds = {kind for kind, _ in body.walk()} if body else set()
        if body and runs_callers_sql(body):
            found.append("runs SQL made at run time")
        if {"PLpgSQL_stmt_commit", "PLpgSQL_stmt_rollback"} & kinds:
            found.append("ends the transaction that the caller's tenant is bound to")
        if body is None:
            found.append("cannot be parsed")
    elif function.language != "sql" and not _makes_ranges(function):
        found.append(f"is written in {function.language}, which cannot be analysed")
    if re.search(r"\bpg_(try_)?advisory_\w*lock\w*\s*\(", text, re.I):
        found.append("takes advisory locks, by which tenants can block each other")
    return found


def _makes_ranges(function: Function) -> bool:
    """Whether it is a constructor that CREATE TYPE ... AS RANGE made."""
    return function.language == "internal" and _RANGES.search(function.definition) is not None


@control(
    "TP244",
    title="No user-defined function is declared leakproof",
    severity=Severity.HIGH,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by(
    "CREATE FUNCTION {schema}.loud(t text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF"
    " AS $$ BEGIN RAISE NOTICE '%', t; RETURN true; END $$"
)
def test_no_leakproof_functions(catalog: Catalog, findings: Findings) -> None:
    """LEAKPROOF lets the planner call the function on rows before the policy has hidden them."""
    for function in catalog.own_functions:
        if function.leakproof:
            fix = f"ALTER FUNCTION {function.signature} NOT LEAKPROOF;"
            findings.add(function, "is LEAKPROOF: it sees rows before policies are applied", fix=fix)


@control(
    "TP245",
    title="Functions pin no setting that decides who the caller is",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by(
    "CREATE FUNCTION {schema}.blind() RETURNS int LANGUAGE sql SET row_security = off AS 'SELECT 1';"
    "REVOKE EXECUTE ON FUNCTION {schema}.blind() FROM PUBLIC"
)
def test_function_settings_are_calm(catalog: Catalog, findings: Findings) -> None:
    """A SET clause runs each call under another claim, role, replication role, or without row security."""
    for function in catalog.own_functions:
        for pair in function.config:
            name, _, value = pair.partition("=")
            if name.lower() not in _CALM_SETTINGS and not (name == "row_security" and value == "on"):
                fix = f"ALTER {function.kind.upper()} {function.signature} RESET {name};"
                findings.add(function, f"pins {name}", fix=fix)


@control(
    "TP246",
    title="No function that reads the caller's context is declared IMMUTABLE",
    severity=Severity.HIGH,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by(
    "CREATE FUNCTION {schema}.who() RETURNS text LANGUAGE sql IMMUTABLE SET search_path = ''"
    " AS $$ SELECT current_setting('request.jwt.claims', true) $$;"
    "REVOKE EXECUTE ON FUNCTION {schema}.who() FROM PUBLIC"
)
def test_context_is_not_immutable(catalog: Catalog, findings: Findings) -> None:
    """IMMUTABLE results are folded into cached plans: the next tenant on the connection gets the last one's."""
    moving = {f.name for f in catalog.own_functions if f.volatility != "immutable"}
    for function in catalog.own_functions:
        if function.volatility != "immutable" or function.language not in ("sql", "plpgsql"):
            continue
        calls = set(re.findall(r"([\w\"]+\.[\w\"]+)\s*\(", _body(function)))
        if _READS_CONTEXT.search(_body(function)) or calls & moving:
            fix = f"ALTER FUNCTION {function.signature} STABLE;"
            findings.add(function, "is IMMUTABLE but depends on settings, tables or the session", fix=fix)


@control(
    "TP248",
    title="No user-defined operator, cast or type can take a built-in one's place",
    severity=Severity.HIGH,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by(
    "CREATE FUNCTION {schema}.eq(uuid, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';"
    "CREATE OPERATOR {schema}.= (LEFTARG = uuid, RIGHTARG = text, FUNCTION = {schema}.eq)"
)
@falsified_by(
    "CREATE FUNCTION {schema}.as_uuid(text) RETURNS uuid LANGUAGE sql IMMUTABLE SET search_path = ''"
    " AS 'SELECT $1::uuid';"
    "REVOKE EXECUTE ON FUNCTION {schema}.as_uuid(text) FROM PUBLIC;"
    "CREATE CAST (text AS uuid) WITH FUNCTION {schema}.as_uuid(text) AS IMPLICIT"
)
@falsified_by("CREATE DOMAIN {schema}.uuid AS text")
def test_nothing_built_in_is_replaced(catalog: Catalog, findings: Findings) -> None:
    """An operator with a better-matching signature wins over the built-in one wherever the path is not pinned.

    A cast between built-in types changes what every comparison means from then on, and a type by a built-in one's
    name what a column, an argument or a cast is that somebody declares under another path. A function called to_jsonb
    that takes one table's rows is called for these in place of the built-in one.
    """
    for operator in catalog.snapshot.operators:
        schema = operator.name.partition(".")[0]
        if schema in {*catalog.settings.exposed, *catalog.settings.schemas} or not catalog.is_admin(operator.owner):
            name = f"{operator.name} ({operator.left}, {operator.right})"
            findings.add(name, f"is defined by {operator.function}, and can take a built-in operator's place")
    for function in catalog.own_functions:
        if function.name.rpartition(".")[2] in ROW_TO_JSON:
            findings.add(function, "is called in place of the built-in one, which takes any type, for rows of its own")
    own = {type_.name for type_ in catalog.snapshot.types}
    for cast in catalog.snapshot.casts:
        if not {cast.source, cast.target} & own:
            by = f" by {cast.function}" if cast.function else ""
            findings.add(f"cast ({cast.source} AS {cast.target})", f"converts built-in types{by}, {cast.context}")
    for type_ in catalog.snapshot.types:
        if not type_.extension and type_.name.rpartition(".")[2] in _BUILT_IN_TYPES:
            findings.add(f"type {type_.name}", "has the name of a built-in type")


@control(
    "TP249",
    title="Triggers send no tenant rows out of the database",
    severity=Severity.HIGH,
    requirement="A1",
    maps=FLOW,
)
@falsified_by(
    "CREATE FUNCTION {schema}.tell() RETURNS trigger LANGUAGE plpgsql SET search_path = ''"
    " AS $$ BEGIN PERFORM pg_notify('all', to_jsonb(new)::text); RETURN new; END $$;"
    "REVOKE EXECUTE ON FUNCTION {schema}.tell() FROM PUBLIC;"
    "CREATE TRIGGER tell AFTER INSERT ON {tenant_table} FOR EACH ROW EXECUTE FUNCTION {schema}.tell()"
)
def test_triggers_do_not_reach_out(catalog: Catalog, findings: Findings) -> None:
    """Webhooks and notifications carry rows to where no policy applies, and no rollback takes them back."""
    for table in catalog.isolated_tables:
        for trigger in table.triggers:
            function = catalog.functions.get(trigger.function)
            for called in catalog.called_by(function) if function else ():
                if exit_ := exit_of(called):
                    detail = f"trigger {trigger.name} sends rows out: {called.signature} uses {exit_}"
                    findings.add(table, detail)


@control(
    "TP250",
    title="Triggers on tenant tables run code that clients cannot replace, on a pinned search path",
    severity=Severity.HIGH,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by(
    "CREATE FUNCTION {schema}.loose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;"
    "REVOKE EXECUTE ON FUNCTION {schema}.loose() FROM PUBLIC; ALTER FUNCTION {schema}.loose() OWNER TO {client_role};"
    "CREATE TRIGGER loose AFTER INSERT ON {tenant_table} FOR EACH ROW EXECUTE FUNCTION {schema}.loose()",
    also=("TP214",),
)
def test_trigger_functions_are_safe(catalog: Catalog, findings: Findings) -> None:
    """A trigger runs inside other tenants' writes: whoever owns its function sees and changes them."""
    kinds = (Kind.TENANT, Kind.MEMBERSHIP, Kind.REGISTRY, Kind.AUDIT, Kind.USER)
    for table in catalog.of_kind(*kinds):
        for trigger in table.triggers:
            function = catalog.functions.get(trigger.function)
            if function is None or function.extension:
                continue
            owned = [r for r in catalog.client_roles if function.owner in catalog.graph.becomes(r)]
            if owned:
                findings.add(function, f"runs in trigger {trigger.name} of {table.name}, and {owned[0]} can replace it")
