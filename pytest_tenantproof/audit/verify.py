"""Compares audit events with their seals, and names what was changed, removed or inserted."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from pytest_tenantproof.attest.merkle import root_hash
from pytest_tenantproof.audit.events import END, START, Event, leaves, reading
from pytest_tenantproof.audit.seals import Seal, read_leaves

__all__ = ["Tampered", "compare"]

_SKEW = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Tampered:
    """One difference. `where` names the range; `what` the event, or why no event can be named."""

    where: str
    what: str


def compare(connection: psycopg.Connection[Any], folder: Path, chain: Sequence[Seal]) -> list[Tampered]:
    """Every difference between the database's events and a verified chain, unsealed events' dates included.

    Raises AuditError when the events cannot be read.
    """
    found: list[Tampered] = []
    with reading(connection):
        for number, of in enumerate(chain):
            events = list(leaves(connection, of.start, of.end))
            found += _range(folder, of, events)
            found += _dates(f"{of.range}", events, chain[:number])
        rest = chain[-1].end if chain else START
        found += _dates("not sealed yet", leaves(connection, rest, END), chain)
    return found


def _range(folder: Path, of: Seal, events: Sequence[Event]) -> Iterator[Tampered]:
    if len(events) == of.events and root_hash([e.leaf for e in events]).hex() == of.root:
        return
    stored = read_leaves(folder, of)
    if stored is None:
        yield Tampered(of.range, f"has {len(events)} events of {of.events}, and their root differs (no stored leaves)")
        return
    there = {e.place: e.leaf for e in events}
    if len(there) < len(events):
        yield Tampered(of.range, "several events bear the same number: some were inserted")
    for place in sorted(stored.keys() | there.keys()):
        if place not in there:
            yield Tampered(of.range, f"event {place.id} of transaction {place.xid} was removed")
        elif place not in stored:
            yield Tampered(of.range, f"event {place.id} of transaction {place.xid} was inserted")
        elif stored[place] != there[place]:
            yield Tampered(of.range, f"event {place.id} of transaction {place.xid} was changed")


def _dates(where: str, events: Iterator[Event] | Sequence[Event], before: Sequence[Seal]) -> Iterator[Tampered]:
    """Events of transactions that began after a seal was made, and are dated before it."""
    limits = [of.xmax for of in before]
    for event in events:
        place = bisect_right(limits, event.place.xid)
        if place and event.at < before[place - 1].time - _SKEW:
            yield Tampered(where, f"event {event.place.id} of transaction {event.place.xid} is dated before its time")
