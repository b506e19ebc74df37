"""2xx: rows that triggers read and write with more rights than whoever fired them."""

from pglast import ast

from pytest_tenantproof.catalog import Catalog, Kind
from pytest_tenantproof.catalog.model import Trigger
from pytest_tenantproof.catalog.recording import Recording, recordings
from pytest_tenantproof.catalog.tracing import Tracer
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._bound import prover
from pytest_tenantproof.controls._maps import INTEGRITY
from pytest_tenantproof.controls._tied import Judged, untied
from pytest_tenantproof.model import Severity


@control(
    "TP251",
    title="What a definer trigger reads and writes is its row's tenant's",
    severity=Severity.HIGH,
    requirement="A1",
    maps=INTEGRITY,
)
@falsified_by(
    "CREATE FUNCTION {schema}.tp_plant() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS"
    " $$ BEGIN INSERT INTO {tenant_table} ({tenant_column}) VALUES (new.{text_column}::uuid); RETURN new; END $$;"
    "REVOKE EXECUTE ON FUNCTION {schema}.tp_plant() FROM PUBLIC;"
    "CREATE TRIGGER tp_plant AFTER INSERT ON {tenant_table} FOR EACH ROW EXECUTE FUNCTION {schema}.tp_plant()"
)
@falsified_by(
    "CREATE FUNCTION {schema}.tp_touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS"
    " $$ BEGIN UPDATE {tenant_table} SET {text_column} = new.{text_column}; RETURN new; END $$;"
    "REVOKE EXECUTE ON FUNCTION {schema}.tp_touch() FROM PUBLIC;"
    "CREATE TRIGGER tp_touch AFTER INSERT ON {tenant_table} FOR EACH ROW EXECUTE FUNCTION {schema}.tp_touch()"
)
def test_definer_triggers_stay_in_their_tenant(catalog: Catalog, findings: Findings) -> None:
    """A SECURITY DEFINER trigger writes past row security. If the tenant of a row that it inserts comes from what the
    client wrote, a setting or a look-up, the client plants rows in another tenant. If it reads or changes rows by what
    the client wrote, the client reaches other tenants' rows, or learns by an error that they are there.

    Let it be the tenant column of the row that fired the trigger, a trusted expression, or a tenant that the trigger
    has just made. Each query on tenants' rows must ask for that tenant, for the row itself (once it is stored), for one
    that it references or that references it by keys that carry the tenant, or for the caller's own membership.
    Functions that it calls are read too; SQL made at run time is a finding. A trigger on the user table must not take
    the tenant from what users say of themselves; and no trigger makes one and the same user a member of whatever
    tenant comes along.
    """
    columns = {table.name: tuple(c.name for c in table.columns) for table in catalog.tenant_tables}
    judged: Judged = {}
    for table in (*catalog.isolated_tables, *catalog.of_kind(Kind.USER)):
        for trigger in table.triggers:
            function = catalog.functions.get(trigger.function)
            if function is None or not function.security_definer or table.is_partition:
                continue
            for each in recordings(function, columns):
                found = Tracer(function, {k: v for k, v in _transitions(trigger) if k})
                where = f"trigger {trigger.name} of {table.name} inserts"
                if _fixed_user(catalog, found, each):
                    findings.add(each.table, f"{where} a user who is always the same, by {function.signature}")
            for target, what in untied(catalog, table, trigger, function, judged):
                where = f"trigger {trigger.name} of {table.name}"
                detail = f"{where} {what} rows that are not provably its row's tenant's, by {function.signature}"
                findings.add(target or table, detail if target else f"{where}: {what}")


def _transitions(trigger: Trigger) -> tuple[tuple[str, str], ...]:
    return (trigger.old_table, "old"), (trigger.new_table, "new")


def _fixed_user(catalog: Catalog, tracer: Tracer, insert: Recording) -> bool:
    """Whether a membership is made for a user that the function names: somebody who joins every tenant."""
    target = catalog.tables[insert.table]
    column = prover(catalog).world.user_column(target) if catalog.kind(target) is Kind.MEMBERSHIP else None
    origins = [tracer.origin(v, insert.select) for v in insert.values.get(column or "", ())]
    return any(isinstance(end, ast.A_Const) and not end.isnull for origin in origins for end in origin.ends)
