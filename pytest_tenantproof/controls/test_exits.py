"""2xx: ways out of the database, and settings that change what everybody sees."""

import re

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.model import Setting
from pytest_tenantproof.catalog.plpgsql import without_comments
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import ACCESS, CONFIG, FLOW
from pytest_tenantproof.model import Severity

_ISOLATED = (
    Kind.TENANT,
    Kind.MEMBERSHIP,
    Kind.REGISTRY,
    Kind.AUDIT,
    Kind.DERIVED,
    Kind.CHILD,
    Kind.USER,
    Kind.UNCLASSIFIED,
)
_HARMLESS = re.compile(
    r"^(statement_timeout|lock_timeout|transaction_timeout|idle_(in_transaction_)?session_timeout|timezone|datestyle"
    r"|intervalstyle|work_mem|maintenance_work_mem|temp_buffers|hash_mem_multiplier|application_name|jit\w*|enable_\w+"
    r"|random_page_cost|seq_page_cost|cpu_\w+|effective_\w+|max_parallel_\w+|parallel_\w+|default_transaction_isolation"
    r"|default_transaction_read_only|default_statistics_target|log_min_duration\w*|log_statement|log_lock_waits"
    r"|auto_explain\.\w+|pgaudit\.\w+|safeupdate\.\w+|statement_mem|lc_\w+|bytea_output|extra_float_digits"
    r"|default_text_search_config|vacuum_\w+|tcp_keepalives\w*|tcp_user_timeout|app\.settings\.\w+"
    r"|pgrst\.(db_max_rows|db_plan_enabled|db_tx_end|openapi_\w+|log_level|server_\w+|db_pool\w*|db_config|jwt_(aud|cache\w*|secret\w*)"
    r"|db_aggregates_enabled|db_channel\w*|db_use_legacy_gucs))$",
    re.I,
)
_SECRET = re.compile(r"(secret|password|private_key|service(_role)?_key|api_?key|_token)$")
_LIBRARIES = frozenset({"safeupdate", "supautils", "pg_stat_statements", "auto_explain", "pgaudit", "plan_filter", ""})


@control(
    "TP261",
    title="Publications carry no tenant rows but to the declared, policy-filtered platform",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=FLOW,
)
@falsified_by("CREATE PUBLICATION partner FOR TABLE {tenant_table}")
@falsified_by("CREATE PUBLICATION everything FOR ALL TABLES")
def test_publications_are_declared(catalog: Catalog, findings: Findings) -> None:
    """Logical replication reads past row security: a publication is a copy of every tenant's rows for its subscriber.

    A publication named in `realtime_publications` is filtered by row security on the platform's side, so each
    of its tables must have row security enabled and forced.
    """
    realtime = catalog.settings.realtime_publications
    for publication in catalog.snapshot.publications:
        name = f"publication {publication.name}"
        if publication.all_tables or publication.schemas:
            findings.add(name, "publishes every table of the database or of a schema, future ones too")
        for published in publication.tables:
            table = catalog.tables.get(published.table)
            if catalog.kind_of(published.table) not in _ISOLATED:
                continue
            if publication.name not in realtime:
                findings.add(name, f"publishes {published.table}, and is not declared")
            elif table is None or not (table.row_security and table.row_security_forced):
                findings.add(name, f"publishes {published.table}, whose row security is not enabled and forced")
        if publication.name not in realtime and not publication.tables and not publication.all_tables:
            findings.add(name, "is not declared in realtime_publications")


@control(
    "TP262",
    title="No subscription or foreign replication slot reads or writes past row security",
    severity=Severity.HIGH,
    requirement="A1",
    maps=FLOW,
)
@falsified_by(
    "CREATE SUBSCRIPTION tp_sub CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, slot_name = NONE)"
)
def test_no_subscriptions(catalog: Catalog, findings: Findings) -> None:
    """A subscription applies foreign rows past policies and ordinary triggers; a slot streams every change out."""
    for subscription in catalog.snapshot.subscriptions:
        rights = f"as {subscription.owner}" if subscription.run_as_owner else "as each table's owner"
        findings.add(f"subscription {subscription.name}", f"writes rows {rights}, past ordinary triggers")
    for slot in catalog.snapshot.replication_slots:
        if not slot.name.startswith("supabase_realtime"):
            findings.add(f"replication slot {slot.name}", f"streams every change by {slot.plugin}")


@control(
    "TP263",
    title="No large object can be read by clients",
    severity=Severity.HIGH,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("SELECT lo_create(999999); GRANT SELECT ON LARGE OBJECT 999999 TO PUBLIC")
@falsified_by("{lo_compat}", also=("TP266",))
def test_large_objects_are_private(catalog: Catalog, findings: Findings) -> None:
    """Large objects have an owner and grants but no row security, and no tenant."""
    for item in catalog.snapshot.large_objects:
        for role, grant in catalog.holders(item.grants, catalog.client_roles):
            findings.add(f"large object {item.oid}", f"{role} holds {grant.privilege}", role=role)
    compat = dict(catalog.snapshot.database.settings).get("lo_compat_privileges", "off")
    declared = [s for s in catalog.snapshot.settings if s.name == "lo_compat_privileges" and s.value in _ON]
    if compat in _ON or declared:
        findings.add("setting lo_compat_privileges", "switches every privilege check on large objects off")


_ON = frozenset({"on", "true", "yes", "1"})


@control(
    "TP264",
    title="Event triggers are on, and neither bind a tenant nor undo protection",
    severity=Severity.HIGH,
    requirement="A1",
    maps=CONFIG,
)
@falsified_by(
    "CREATE FUNCTION {schema}.hello() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
    " PERFORM set_config('app.tenant_id', 'x', false); END $$;"
    "REVOKE EXECUTE ON FUNCTION {schema}.hello() FROM PUBLIC;"
    "CREATE EVENT TRIGGER tp_hello ON login EXECUTE FUNCTION {schema}.hello()",
    min_version=17,
)
def test_event_triggers_are_harmless(catalog: Catalog, findings: Findings) -> None:
    """A login trigger can set a tenant for every session; a DDL trigger can grant and disable behind a migration."""
    for trigger in catalog.snapshot.event_triggers:
        function = catalog.functions.get(trigger.function)
        name = f"event trigger {trigger.name}"
        if trigger.event == "login":
            findings.add(name, "runs at every login, before any tenant is bound")
        if not catalog.is_admin(trigger.owner) or (function and not _trusted_owner(catalog, function.owner)):
            findings.add(name, f"can be replaced by {trigger.owner}")
        if trigger.enabled in ("disabled", "replica"):
            findings.add(name, f"is {trigger.enabled}", fix=f"ALTER EVENT TRIGGER {trigger.name} ENABLE ALWAYS;")
        text = without_comments(function.body) if function and not function.extension else ""
        if re.search(r"\bset_config\s*\(|\bdisable\b|\bgrant\b|\bno\s+force\b|\bbypassrls\b", text, re.I):
            findings.add(name, f"{trigger.function} changes settings, grants or protection")


def _trusted_owner(catalog: Catalog, owner: str) -> bool:
    reached = (catalog.graph.becomes(role) for role in catalog.client_roles)
    return catalog.is_admin(owner) or not any(owner in names for names in reached)


@control(
    "TP266",
    title="No role or database setting changes who sees what",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=CONFIG,
)
@falsified_by("ALTER ROLE {client_role} SET row_security = off")
@falsified_by("ALTER ROLE {gateway_role} SET search_path = pg_temp, {schema}")
@falsified_by("ALTER ROLE {client_role} SET search_path = {schema}, pg_catalog")
@falsified_by("ALTER ROLE {gateway_role} SET request.jwt.claims = '{{}}'")
@falsified_by("ALTER ROLE {gateway_role} SET role = '{service_role}'")
@falsified_by("ALTER ROLE {gateway_role} SET app.settings.jwt_secret = 'x'")
def test_settings_are_harmless(catalog: Catalog, findings: Findings) -> None:
    """ALTER ROLE or DATABASE ... SET makes every session begin with a claim, a role, or without row security.

    Settings known to only tune are accepted; any other one is a finding until it is removed or waived.
    """
    for setting in catalog.snapshot.settings:
        owner = f"role {setting.role}" if setting.role else "database" if setting.database else "every role"
        if catalog.is_admin(setting.role) and setting.name not in catalog.settings.trusted_settings:
            continue
        if problem := _setting_problem(catalog, setting):
            what = f"ALTER ROLE {setting.role}" if setting.role else "ALTER DATABASE ..."
            fix = f"{what} RESET {setting.name};"
            findings.add(owner, f"{setting.name} {problem}", fix=fix, role=setting.role or None)


def _setting_problem(catalog: Catalog, setting: Setting) -> str:
    name, value = setting.name.lower(), setting.value
    if _SECRET.search(name) and value:
        return "holds a secret, which every role reads in pg_db_role_setting"
    parts = [part.strip().strip('"') for part in value.split(",")]
    if name == "search_path":
        return _path_problem(catalog, parts)
    if name == "pgrst.db_schemas":
        hidden = sorted(set(parts) - {*catalog.settings.exposed, "graphql_public", "storage", ""})
        return f"serves {', '.join(hidden)}, which the config does not expose" if hidden else ""
    if name == "pgrst.db_anon_role":
        return "" if value in catalog.settings.anonymous_roles else f"lets callers without a login in as {value}"
    if name == "row_security":
        return "" if value.lower() in _ON else "is switched off for its sessions"
    if name.endswith("preload_libraries"):
        return f"loads {value}" if set(parts) - _LIBRARIES else ""
    if name in ("client_min_messages", "log_min_messages"):
        return "shows internals to the client" if value.lower().startswith(("debug", "log")) else ""
    if name == "plan_cache_mode":
        return "forces plans made for another tenant" if value == "force_generic_plan" else ""
    return "" if _HARMLESS.match(name) else "is set for its sessions, and is not known to be harmless"


def _path_problem(catalog: Catalog, schemas: list[str]) -> str:
    if _writable(catalog, schemas) or "pg_temp" in schemas[:-1]:
        return "names a schema where clients can create objects"
    late = "pg_catalog" in schemas[1:]
    return "names pg_catalog after a schema whose functions then take built-in ones' place" if late else ""


def _writable(catalog: Catalog, schemas: list[str]) -> bool:
    found = (catalog.schemas.get(name) for name in schemas)
    grants = [schema.grants for schema in found if schema]
    return any("CREATE" in catalog.graph.granted(g, role) for g in grants for role in catalog.client_roles)


@control(
    "TP267",
    title="The server itself applies triggers, privileges and row security",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=CONFIG,
)
@falsified_by("{replica_role}", also=("TP266",))
def test_server_settings_protect(catalog: Catalog, findings: Findings) -> None:
    """session_replication_role = replica switches every foreign key and ordinary trigger off, for everyone."""
    expected = {
        "session_replication_role": "origin",
        "allow_system_table_mods": "off",
        "event_triggers": "on",
    }
    actual = dict(catalog.snapshot.database.settings)
    for name, wanted in expected.items():
        if actual.get(name, wanted) != wanted:
            findings.add(f"setting {name}", f"is {actual[name]}, not {wanted}", fix=f"ALTER SYSTEM RESET {name};")
    for setting in catalog.snapshot.settings:
        if setting.name in expected and setting.value != expected[setting.name]:
            where = f"role {setting.role}" if setting.role else "database"
            findings.add(where, f"starts sessions with {setting.name} = {setting.value}")


@control(
    "TP268",
    title="Gateways show no client the number of rows that it cannot see",
    severity=Severity.LOW,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("{graphql_total_count}", also=("TP205",))
def test_no_gateway_directives_for_anonymous(catalog: Catalog, findings: Findings) -> None:
    """A comment directive can open counts and names of a table to callers who have no tenant."""
    anonymous = tuple(r for r in catalog.settings.anonymous_roles if r in catalog.graph.roles)
    for table in catalog.isolated_tables:
        if table.directive and any(catalog.privileges(table, role) for role in anonymous):
            findings.add(table, "is served to anonymous callers by a gateway directive")
