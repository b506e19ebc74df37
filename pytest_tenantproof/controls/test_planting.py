"""2xx: rows that triggers write with more rights than whoever fired them."""

from pglast.stream import RawStream

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.expressions import same_expression
from pytest_tenantproof.catalog.model import Table, Trigger
from pytest_tenantproof.catalog.recording import Recording, recordings
from pytest_tenantproof.catalog.tracing import Tracer
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import INTEGRITY
from pytest_tenantproof.model import Severity


@control(
    "TP251",
    title="What a definer trigger inserts is its row's tenant's",
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
def test_definer_triggers_plant_nothing(catalog: Catalog, findings: Findings) -> None:
    """A SECURITY DEFINER trigger writes past row security. If the tenant of a row that it inserts comes from what the
    client wrote, a setting or a look-up, the client plants rows in another tenant.

    Let it be the tenant column of the row that fired the trigger, or a trusted expression.
    """
    columns = {table.name: tuple(c.name for c in table.columns) for table in catalog.tenant_tables}
    for table in catalog.isolated_tables:
        for trigger in table.triggers:
            function = catalog.functions.get(trigger.function)
            if function is None or not function.security_definer or table.is_partition:
                continue
            for each in recordings(function, columns):
                if not _rows_own(catalog, table, trigger, each):
                    detail = f"trigger {trigger.name} of {table.name} inserts for a tenant that is not its row's"
                    findings.add(each.table, f"{detail}, by {function.signature}")


def _rows_own(catalog: Catalog, table: Table, trigger: Trigger, insert: Recording) -> bool:
    """Whether every value of the inserted tenant column is the row's own tenant, or a trusted expression."""
    own, target = catalog.tenant_column(table), catalog.tenant_column(catalog.tables[insert.table])
    trusted = catalog.settings.trusted_tenant_expressions
    transitions = {trigger.old_table: "old", trigger.new_table: "new"}
    tracer = Tracer(catalog.functions[trigger.function], {k: v for k, v in transitions.items() if k})
    fine = {f"new.{own.name}", f"old.{own.name}"} if own else set()
    origins = [tracer.origin(v, insert.select) for v in insert.values.get(target.name if target else "", ())]
    return all(
        origin.columns <= fine and all(any(same_expression(RawStream()(e), t) for t in trusted) for e in origin.ends)
        for origin in origins
    )
