"""A dead-man's ping: a watcher elsewhere raises the alarm when it stays away."""

from dataclasses import dataclass, field

from pytest_tenantproof.config.notify import PING_VARIABLE
from pytest_tenantproof.notify.alert import Alert, Level
from pytest_tenantproof.notify.http import refused, request, require_https

__all__ = ["PingNotifier"]


@dataclass(frozen=True, slots=True)
class PingNotifier:
    """Fetches a URL when all is well, and only then. `url` is a secret: whoever has it can feign health."""

    url: str = field(repr=False)
    timeout: float = 10.0
    name: str = "dead-man's ping"

    def __post_init__(self) -> None:
        require_https(self.url, PING_VARIABLE)

    def wants(self, alert: Alert) -> bool:
        return alert.level is Level.OK

    def send(self, alert: Alert) -> None:
        reply = request("GET", self.url, f"the {self.name}", timeout=self.timeout)
        if not 200 <= reply.status < 300:
            raise refused(reply, f"the {self.name}", f"correct {PING_VARIABLE}.")
