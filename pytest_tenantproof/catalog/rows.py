"""Rows of one query -> objects of the snapshot, for those that need nothing of other queries."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from pytest_tenantproof.catalog import codes
from pytest_tenantproof.catalog.acl import parse_acl
from pytest_tenantproof.catalog.model import Function, Publication, PublishedTable, Rule, Setting, Type

__all__ = ["Row", "by_name", "function", "publication", "rule", "setting", "signature", "type_"]

Row = tuple[Any, ...]

_SECRET = re.compile(r"secret|password|token|(?<!_)key|credential", re.I)


def by_name(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(items, key=lambda item: item.name))


def signature(name: str, arguments: list[str]) -> str:
    return f"{name}({', '.join(arguments)})"


def rule(row: Row) -> Rule:
    return Rule(row[1], codes.RULE_EVENTS[row[2]], row[3], codes.ENABLED[row[4]], row[5])


def function(row: Row) -> Function:
    return Function(
        signature=signature(row[1], row[3]),
        name=row[1],
        schema=row[2],
        arguments=tuple(row[3]),
        returns=row[4],
        language=row[5],
        owner=row[6],
        kind=codes.ROUTINES[row[7]],
        volatility=codes.VOLATILITY[row[8]],
        security_definer=row[9],
        leakproof=row[10],
        strict=row[11],
        config=tuple(sorted(row[12])),
        body=row[13],
        cost=row[14],
        grants=parse_acl(row[15]),
        extension=row[16],
        argument_names=tuple(row[17]),
        definition=row[18],
    )


def type_(row: Row) -> Type:
    return Type(
        name=row[1],
        kind=codes.TYPES[row[2]],
        owner=row[3],
        base=row[4],
        not_null=row[5],
        labels=tuple(row[6]),
        checks=tuple(row[7]),
        extension=row[8],
        attributes=tuple(row[9]),
        default=row[10],
    )


def setting(role: str, database: bool, pair: str) -> Setting:
    name, _, value = pair.partition("=")
    if _SECRET.search(name):
        value = "sha256:" + hashlib.sha256(value.encode()).hexdigest()
    return Setting(role, database, name, value)


def publication(row: Row) -> Publication:
    names = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
    tables = (PublishedTable(name, tuple(columns), condition) for name, columns, condition in row[9])
    return Publication(
        name=row[0],
        owner=row[1],
        all_tables=row[2],
        schemas=tuple(sorted(row[8])),
        tables=tuple(sorted(tables, key=lambda t: t.table)),
        operations=tuple(name for name, on in zip(names, row[3:7], strict=True) if on),
        via_root=row[7],
    )
