"""Who hears of a run, from a real server that records what it gets."""

import json

from tests.notify.support import http_sink
from tests.plugin.conftest import Run


def test_a_run_tells_whom_it_should(run: Run) -> None:
    with http_sink() as sink:
        told = {"TENANTPROOF_SLACK_WEBHOOK": sink.url, "TENANTPROOF_INVARIANT_PING_URL": sink.url}
        done = run("--evidence=staging", "-m", "invariant", **told)
        assert done.returncode == 0, done.stdout
        assert [method for method, _, _ in sink.requests] == ["GET"]
        sink.requests.clear()
        narrowed = run("--evidence=staging", "-m", "invariant", "-k", "registry", **told)
        assert narrowed.returncode == 2
        [(method, _, payload)] = sink.requests
        said = json.dumps(payload)
        assert (method, "not proven" in said, "tenantproof verify" in said) == ("POST", True, True)
        sink.requests.clear()
        assert run("--evidence=staging", "-m", "invariant", "--notify=never", **told).returncode == 0
        assert sink.requests == []
        sink.status = 500
        loud = run("--evidence=staging", "-m", "invariant", **told)
        assert loud.returncode == 1
        assert "was not delivered" in loud.stdout + loud.stderr
        assert sink.url not in loud.stdout + loud.stderr
