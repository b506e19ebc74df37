"""The shipped migrations give a proven product on every supported major."""

import psycopg
import pytest

from pytest_tenantproof.catalog import Catalog, read_snapshot
from pytest_tenantproof.controls.judge import judge, static_ids
from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.model import Outcome
from pytest_tenantproof.target import start
from tests.servers import MAJORS, bin_of
from tests.support import reference_settings


@pytest.mark.parametrize("major", MAJORS)
def test_migrated_and_loaded_every_control_is_green(major: int) -> None:
    with start(bin_of(major)) as server:
        apply(server.dsn(), migrations_folder())
        load_demo(server.dsn())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            snapshot = read_snapshot(connection)
        assert snapshot.major == major
        catalog = Catalog(snapshot, reference_settings())
        red = [r for r in (judge(i, catalog) for i in static_ids()) if r.outcome is Outcome.FAILED]
        assert not [(r.control, r.findings) for r in red]
        assert not [i for i in static_ids() if judge(i, catalog).outcome is Outcome.ERROR]
