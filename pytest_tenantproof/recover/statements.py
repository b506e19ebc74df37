"""SQL that finds the rows, built from quoted names alone."""

from collections.abc import Mapping

from psycopg import sql

from pytest_tenantproof.recover.hierarchy import Level, Parent

__all__ = ["Finder", "name"]


def name(table: str) -> sql.Composable:
    """A schema-qualified name as the catalog writes it, which is quoted already where it must be."""
    return sql.SQL(table)


def _column(row: str, column: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(sql.Identifier(row), sql.Identifier(column))


class Finder:
    """Builds, for each level, the conditions under which a row `r` is lost or can be mended."""

    def __init__(self, levels: tuple[Level, ...], registry: str, key: str) -> None:
        self._levels: Mapping[str, Level] = {level.table: level for level in levels}
        self._registry, self._key = registry, key

    def reason(self, level: Level, row: str = "r") -> sql.Composed:
        """Why the row must be quarantined, or NULL."""
        cases = [sql.SQL("WHEN {} THEN {}").format(when, sql.Literal(why)) for why, when in self._lost(level, row)]
        return sql.SQL("CASE {} END").format(sql.SQL(" ").join(cases))

    def _lost(self, level: Level, row: str) -> list[tuple[str, sql.Composed]]:
        found = [self._missing(level, parent, row) for parent in level.parents[:1]]
        found += [self._strays(level, parent, row) for parent in self._others(level)]
        tenant = _column(row, level.tenant)
        known = self._known(tenant)
        if level.parents:
            other = sql.SQL("{} AND {} <> {}").format(known, tenant, self.tenant(level, row))
            found.append((f"misaligned: belongs to another tenant than its {level.parents[0].table}", other))
        else:
            found.append(("tenant-less: its tenant is NULL", sql.SQL("{} IS NULL").format(tenant)))
            found.append(("orphaned: its tenant does not exist", sql.SQL("NOT {}").format(known)))
        for user in level.users:
            column = _column(row, user.column)
            there = sql.SQL("EXISTS (SELECT FROM {} u WHERE u.{} = {})")
            exists = there.format(name(user.table), sql.Identifier(user.key), column)
            found.append((f"orphaned: {user.column} is NULL or names no user", sql.SQL("NOT {}").format(exists)))
            found.append(("held twice: the same membership exists", self._twice(level, user, row)))
        return found

    def _twice(self, level: Level, user: Parent, row: str) -> sql.Composed:
        return sql.SQL("EXISTS (SELECT FROM {t} d WHERE d.{a} = {ra} AND d.{b} = {rb} AND d.ctid < {rc})").format(
            t=name(level.table),
            a=sql.Identifier(level.tenant),
            ra=_column(row, level.tenant),
            b=sql.Identifier(user.column),
            rb=_column(row, user.column),
            rc=_column(row, "ctid"),
        )

    def _known(self, tenant: sql.Composed) -> sql.Composed:
        return sql.SQL("EXISTS (SELECT FROM {} t WHERE t.{} = {})").format(
            name(self._registry), sql.Identifier(self._key), tenant
        )

    def _others(self, level: Level) -> list[Parent]:
        """Parents that are not above the nearest one, so that nothing derives them."""
        derived = {parent.column for parent in self._shared(level)}
        return [parent for parent in level.parents[1:] if parent.column not in derived]

    def _shared(self, level: Level) -> list[Parent]:
        """References that the nearest parent has too, by the same column to the same table."""
        if not level.parents:
            return []
        above = {(p.column, p.table) for p in self._levels[level.parents[0].table].parents}
        return [parent for parent in level.parents[1:] if (parent.column, parent.table) in above]

    def _missing(self, level: Level, parent: Parent, row: str) -> tuple[str, sql.Composed]:
        return f"orphaned: {parent.column} is NULL or names no row of {parent.table} that stays", sql.SQL(
            "NOT {}"
        ).format(self._stays(parent, row))

    def _stays(self, parent: Parent, row: str) -> sql.Composed:
        inner = f"{row}p"
        return sql.SQL("EXISTS (SELECT FROM {} {} WHERE {} = {} AND ({}) IS NULL)").format(
            name(parent.table),
            sql.Identifier(inner),
            _column(inner, parent.key),
            _column(row, parent.column),
            self.reason(self._levels[parent.table], inner),
        )

    def _strays(self, level: Level, parent: Parent, row: str) -> tuple[str, sql.Composed]:
        inner, target = f"{row}o", self._levels[parent.table]
        alike = sql.SQL(
            "EXISTS (SELECT FROM {} {} WHERE {} = {} AND ({}) IS NULL AND {} IS NOT DISTINCT FROM {})"
        ).format(
            name(parent.table),
            sql.Identifier(inner),
            _column(inner, parent.key),
            _column(row, parent.column),
            self.reason(target, inner),
            self.tenant(target, inner),
            self.tenant(level, row),
        )
        why = f"misaligned: {parent.column} names no row of {parent.table} of the same tenant"
        return why, sql.SQL("{} IS NOT NULL AND NOT {}").format(_column(row, parent.column), alike)

    def tenant(self, level: Level, row: str = "r") -> sql.Composed:
        """The tenant that the row's hierarchy gives it: its topmost ancestor's."""
        if not level.parents:
            return _column(row, level.tenant)
        parent, inner = level.parents[0], f"{row}t"
        return sql.SQL("(SELECT {} FROM {} {} WHERE {} = {})").format(
            self.tenant(self._levels[parent.table], inner),
            name(parent.table),
            sql.Identifier(inner),
            _column(inner, parent.key),
            _column(row, parent.column),
        )

    def derived(self, level: Level) -> dict[str, sql.Composed]:
        """Column -> the value that the nearest parent gives it, for row `r`."""
        if not level.parents:
            return {}
        found = {level.tenant: self.tenant(level)}
        for shared in self._shared(level):
            found[shared.column] = self._of_parent(level, shared.column)
        return found

    def _of_parent(self, level: Level, column: str) -> sql.Composed:
        parent = level.parents[0]
        target = self._levels[parent.table]
        value = self._ancestor(target, column, "rp")
        return sql.SQL("(SELECT {} FROM {} rp WHERE {} = {})").format(
            value, name(parent.table), _column("rp", parent.key), _column("r", parent.column)
        )

    def _ancestor(self, level: Level, column: str, row: str) -> sql.Composed:
        """A column of the parent as it will be once that is mended itself."""
        if any(shared.column == column for shared in self._shared(level)):
            nearest, inner = level.parents[0], f"{row}p"
            return sql.SQL("(SELECT {} FROM {} {} WHERE {} = {})").format(
                self._ancestor(self._levels[nearest.table], column, inner),
                name(nearest.table),
                sql.Identifier(inner),
                _column(inner, nearest.key),
                _column(row, nearest.column),
            )
        return _column(row, column)
