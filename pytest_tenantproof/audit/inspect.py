"""What a run has to know of a target's seals: whether they hold, and what they do not cover yet."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from pytest_tenantproof.audit.events import END, leaves, reading
from pytest_tenantproof.audit.seals import Seal, read_seals
from pytest_tenantproof.audit.verify import Tampered, compare
from pytest_tenantproof.errors import AuditError

__all__ = ["Sealed", "compared", "head_of", "read_chain"]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A chain, and what the log is against it. `broken`: why the chain itself does not verify. `unsealed`: the time
    of the oldest event that no seal covers. `unread`: why the log was not compared."""

    chain: tuple[Seal, ...] = ()
    broken: str = ""
    tampered: tuple[Tampered, ...] = ()
    unsealed: datetime | None = None
    unread: str = ""


def read_chain(folder: Path, keys: Mapping[str, bytes]) -> Sealed:
    """The chain alone, without a database."""
    try:
        return Sealed(tuple(read_seals(folder, keys)))
    except AuditError as error:
        return Sealed(broken=error.message)


def compared(connection: psycopg.Connection[Any], folder: Path, sealed: Sealed) -> Sealed:
    """The same with the database's events. Raises AuditError when they cannot be read."""
    tampered = compare(connection, folder, sealed.chain)
    with reading(connection):
        later = next(leaves(connection, sealed.chain[-1].end, END, 1), None)
    return replace(sealed, tampered=tuple(tampered), unsealed=later.at if later else None)


def head_of(folder: Path) -> str:
    """The sha256 of the newest seal; "" where there is none. Bundles keep it, so that a chain cut later is noticed."""
    files = sorted(folder.glob("*.seal.jsonl"))
    return hashlib.sha256(files[-1].read_bytes()).hexdigest() if files else ""
