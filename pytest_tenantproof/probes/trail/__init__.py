"""The audit log put to the test: every write leaves its event, no event is given back, nobody chooses a name in it."""

from dataclasses import dataclass, field
from typing import Any

import psycopg

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.probes.trail.changes import try_changes
from pytest_tenantproof.probes.trail.events import try_events
from pytest_tenantproof.probes.trail.names import try_names
from pytest_tenantproof.probes.trail.scene import Flaw, Tried, open_scene
from pytest_tenantproof.probes.turns import attacking

__all__ = ["Flaw", "Trail", "Tried", "follow"]


@dataclass(frozen=True, slots=True)
class Trail:
    """What was tried on the log: leaving events, changing events, and choosing the name in them."""

    events: Tried = field(default_factory=Tried)
    changes: Tried = field(default_factory=Tried)
    names: Tried = field(default_factory=Tried)


def follow(connection: psycopg.Connection[Any], catalog: Catalog) -> Trail:
    """Tries it as a role that may write the tables and read the log; every write is rolled back.

    Raises psycopg.Error only when the session itself ends.
    """
    with attacking(connection):
        scene, blind = open_scene(connection, catalog)
        if blind:
            return Trail(*(Tried(problems=dict(blind)) for _ in range(3)))
        return Trail(try_events(scene), try_changes(scene), try_names(scene))
