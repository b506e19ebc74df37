"""3xx: attacks on two fresh tenants that really happen, and are rolled back."""

from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import ACCESS, INTEGRITY
from pytest_tenantproof.model import Severity
from pytest_tenantproof.probes import Breach, Probed, Stored, unknown

_HEAD = "-- Shows the breach with made-up tenants, and rolls back; then mend the policy or key of this object.\n"


def _report(probes: Probed, findings: Findings, *operations: str) -> None:
    """One finding for what several identities of a role can do alike, with the first one's script."""
    alike: dict[tuple[str, ...], list[Breach]] = {}
    for breach in probes.breaches:
        if breach.operation in operations:
            said = breach.detail.removeprefix(breach.identity.name)
            alike.setdefault((breach.object, breach.operation, breach.identity.role, said), []).append(breach)
    for (name, operation, role, _), (first, *more) in alike.items():
        others = f", and so could {len(more)} other kinds of its sessions" if more else ""
        fix = _HEAD + first.script
        findings.add(name, f"{first.detail}{others}", fix=fix, role=role or None, operation=operation)


@control(
    "TP301",
    title="No identity reads another tenant's row",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("CREATE POLICY tp_open ON {tenant_table} FOR SELECT USING (true)", also=("TP202", "TP204"))
@falsified_by("ALTER TABLE {tenant_table} DISABLE ROW LEVEL SECURITY", also=("TP201", "TP812"))
@falsified_by(
    "CREATE VIEW {schema}.tp_view AS SELECT * FROM {tenant_table}; GRANT SELECT ON {schema}.tp_view TO {client_role}",
    also=("TP231",),
)
def test_no_one_reads_anothers_row(probes: Probed, findings: Findings) -> None:
    """Two tenants are made with a row in every table. Then everybody but the second tenant's own user tries to read
    that tenant's rows: anonymous, without claims, with empty, malformed, forged and contradictory ones, as the
    other tenant, by real logins; in tables, partitions, views and functions, by SELECT and by COPY. Missing
    privileges are granted first, inside the transaction, so that a policy is judged and not the lack of a grant.
    Functions are called with the tenant's id and with the keys of its rows; a yes or no that depends on them counts.
    """
    _report(probes, findings, "SELECT", "COPY TO")


@control(
    "TP302",
    title="No identity writes a row into another tenant",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("CREATE POLICY tp_open ON {tenant_table} FOR INSERT WITH CHECK (true)", also=("TP202", "TP204"))
def test_no_one_writes_into_another_tenant(probes: Probed, findings: Findings) -> None:
    """A row planted in another tenant is shown to its users as their own, and a membership row makes the attacker
    one of them. The statement is one that its rightful owner's data would take; what a constraint stopped after
    row security had let it pass counts as a breach.
    """
    _report(probes, findings, "INSERT", "COPY FROM")


@control(
    "TP303",
    title="No identity changes or takes over another tenant's row, or gives its own away",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("CREATE POLICY tp_open ON {tenant_table} FOR UPDATE USING (true)", also=("TP202", "TP204"))
@falsified_by(
    "CREATE POLICY tp_open ON {tenant_table} FOR UPDATE USING ({tenant_column} = {trusted}) WITH CHECK (true)",
    also=("TP204",),
)
def test_no_one_changes_anothers_row(probes: Probed, findings: Findings) -> None:
    """UPDATE without a WHERE clause needs no right to read, so an open UPDATE policy is one even where nobody can
    see what it changes. Rows are watched by where they are stored: whatever touches them is noticed, also when a
    function that the attacker calls does it for them.
    """
    _report(probes, findings, "UPDATE", "MOVE")


@control(
    "TP304",
    title="No identity deletes another tenant's row",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by("CREATE POLICY tp_open ON {tenant_table} FOR DELETE USING (true)", also=("TP202", "TP204"))
def test_no_one_deletes_anothers_row(probes: Probed, findings: Findings) -> None:
    """A foreign key often hides an open DELETE policy until a table without children is met. Foreign keys are
    disabled inside the transaction, so that row security alone has to refuse.
    """
    _report(probes, findings, "DELETE")


@control("TP305", title="No client truncates a table", severity=Severity.CRITICAL, requirement="A1", maps=ACCESS)
@falsified_by("GRANT TRUNCATE ON {tenant_table} TO {client_role}", also=("TP205", "TP215"))
def test_no_client_truncates(probes: Probed, findings: Findings) -> None:
    """TRUNCATE is subject to no policy: whoever holds the privilege empties the table for every tenant."""
    _report(probes, findings, "TRUNCATE")


@control(
    "TP310",
    title="No row can point at another tenant's parent, whoever writes it",
    severity=Severity.HIGH,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by(
    "CREATE UNIQUE INDEX tp_plain ON {link_target} ({link_target_key}); ALTER TABLE {child} DROP CONSTRAINT {link};"
    "ALTER TABLE {child} ADD CONSTRAINT {link} FOREIGN KEY ({link_column})"
    " REFERENCES {link_target} ({link_target_key})",
    also=("TP105", "TP111", "TP126"),
)
def test_misalignment_is_refused(probes: Probed, findings: Findings) -> None:
    """Tried as the session's own role, with user triggers disabled: the composite foreign key has to refuse it, so
    that neither a back-end bug nor a disabled trigger can mix two tenants' data.
    """
    _report(probes, findings, "ALIGN")


@control(
    "TP311",
    title="Rows that are there satisfy the constraints that are",
    severity=Severity.HIGH,
    requirement="D1",
    maps=INTEGRITY,
)
@falsified_by(given={"stored": (Stored("public.x", "x_fk", broken=True),)})
@falsified_by(given={"stored": (Stored("public.x", "that tenant_id is not null", broken=True),)})
def test_stored_rows_satisfy_their_constraints(stored: tuple[Stored, ...], findings: Findings) -> None:
    """A restore or a bulk load with session_replication_role = replica checks no foreign key, and the key reads as
    valid ever after. A row of one tenant may so point at another's parent although the schema forbids it.

    For each foreign key and check one row that breaks it is looked for, and one that belongs to no tenant, reading only
    and within a time limit.
    Repair the rows (`tenantproof recover`), then drop the constraint and add it again.
    """
    for each in stored:
        if each.broken:
            findings.add(each.table, f"holds a row that its constraint {each.constraint} forbids")
    if not len(findings) and (open_questions := list(unknown(stored))):
        findings.not_run("; ".join(open_questions[:20]))
    if not stored:
        findings.not_run("no constraint of a tenant table could be looked at")


@control(
    "TP312",
    title="Every table with tenants' rows could be attacked",
    severity=Severity.HIGH,
    requirement="G1",
    maps=ACCESS,
)
@falsified_by(given={"probes": Probed(problems={"public.x": "23514 at x_check"}, tables=["public.y"])})
def test_probes_are_complete(probes: Probed, findings: Findings) -> None:
    """An attack that could not be made proves nothing. Named are tables for which no row could be made, with the
    constraint that refused it, and attempts that ended in an error which is no refusal (a time-out, a broken
    function). Mend what is named, or give the table a row that can be cloned.
    """
    if not probes.tables:
        findings.not_run("no table could be attacked")
    if probes.problems:
        findings.not_run("; ".join(f"{name}: {why}" for name, why in sorted(probes.problems.items())))


@control(
    "TP321",
    title="On the live target no identity reads another tenant's rows",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=ACCESS,
)
@falsified_by(given={"live_probes": Probed(problems={"(claims)": "unproven"}, tables=["public.x"])})
def test_no_one_reads_anothers_rows_live(live_probes: Probed, findings: Findings) -> None:
    """What was shown on staging is shown once more where the data is: two existing tenants, every identity, reading
    only, in a session that cannot write. Needs TENANTPROOF_<TARGET>_PROBE_DSN there: a role that reads the registry and
    memberships and may become the client roles. No id and no row of a tenant is kept. Other targets are read alike,
    where they have tenants with rows; a live one without that DSN rests on such a bundle.
    """
    _report(live_probes, findings, "SELECT")
    if not len(findings) and live_probes.problems:
        findings.not_run("; ".join(f"{name}: {why}" for name, why in sorted(live_probes.problems.items())))
    if not live_probes.tables:
        findings.not_run("no table could be attacked")
