"""Real servers for the tests: one embedded Postgres 18 a worker, and the other majors on demand."""

import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from pytest_tenantproof.demo import load_demo
from pytest_tenantproof.migrate import apply, migrations_folder
from pytest_tenantproof.target import EmbeddedPostgres, find_bin, start
from tests.report.browser import Browser, browser, missing
from tests.support import create_database, lacks, load_faults_base

# How fast a busy machine makes values up says nothing about the product.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


# What a shell runs in the background ignores SIGINT, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One server for this worker; the major that the product ships for."""
    with start(find_bin(18)) as server:
        yield server


@pytest.fixture
def new_database(postgres: EmbeddedPostgres) -> Callable[[], str]:
    """Makes a fresh database on the worker's server and returns its DSN. Roles are shared in the cluster."""
    return lambda: create_database(postgres)


@pytest.fixture(scope="session")
def reference_database() -> Iterator[str]:
    """The reference schema with demo data, on a server of its own. Change it inside a rollback only."""
    with start(find_bin(18)) as server:
        apply(server.dsn(), migrations_folder())
        load_demo(server.dsn())
        yield server.dsn()


@pytest.fixture(scope="session")
def faults_database() -> Iterator[str]:
    """The fault benchmark's hardened schema, on a server of its own. Change it inside a rollback only."""
    with start(find_bin(18)) as server:
        yield load_faults_base(server)


@pytest.fixture
def window(opened_browser: Browser) -> Browser:
    """The browser, with nothing in its log of what the pages of other tests complained of."""
    opened_browser.log()
    return opened_browser


@pytest.fixture(scope="session")
def opened_browser() -> Iterator[Browser]:
    """One browser for all tests of a process."""
    if lacking := missing():
        lacks("browser", f"{lacking}; .ci/run installs them")
    with browser() as opened:
        yield opened
