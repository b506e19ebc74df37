"""Behind a real PgBouncer in transaction mode, with fewer server connections than clients."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pytest_tenantproof.client import TenantPool
from tests.client.conftest import CONFIG, Product
from tests.support import free_port, lacks

BOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@pytest.fixture
def bounced(product: Product, tmp_path: Path) -> Iterator[str]:
    """A DSN of the back end through PgBouncer, which has one server connection for everybody."""
    if BOUNCER is None:
        lacks("pgbouncer", "PgBouncer is not installed; reuse of a server connection is tested without it too")
    server, port = conninfo_to_dict(product.backend), free_port()
    (tmp_path / "users.txt").write_text('"app_backend" ""\n')
    (tmp_path / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server['host']} port={server['port']} dbname={server['dbname']}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {tmp_path}/users.txt\npool_mode = transaction\ndefault_pool_size = 1\nmax_client_conn = 50\n"
    )
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    command = [str(BOUNCER), "-u", "nobody", str(tmp_path / "pgbouncer.ini")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    dsn = make_conninfo("", host="127.0.0.1", port=port, user="app_backend", dbname=server["dbname"])
    try:
        _wait(dsn)
        yield dsn
    finally:
        process.terminate()
        process.wait()


def _wait(dsn: str) -> None:
    for _ in range(100):
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("PgBouncer did not start")


def test_one_server_connection_serves_many_tenants(bounced: str, product: Product) -> None:
    backends: set[int] = set()
    wrong: list[object] = []
    with TenantPool(bounced, config=CONFIG, min_size=4, max_size=4) as pool:

        def work(tenant: str) -> None:
            for _ in range(15):
                with pool.tenant(tenant, actor="user:1") as db:
                    rows = db.execute("SELECT DISTINCT tenant_id::text, pg_backend_pid() FROM units")
                backends.update(row[1] for row in rows)
                wrong.extend(row for row in rows if row[0] != tenant)

        threads = [threading.Thread(target=work, args=[t]) for t in (product.one, product.other) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.execute("SELECT current_setting('request.jwt.claims', true)") == [("",)]
    assert wrong == []
    assert len(backends) == 1
