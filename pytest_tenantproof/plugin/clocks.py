"""The clocks that a report shows: local, the database's, and a timestamp authority's where one is configured."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_tenantproof.attest.authority import Authority
from pytest_tenantproof.config import Settings
from pytest_tenantproof.errors import EvidenceError
from pytest_tenantproof.target import TargetInfo

if TYPE_CHECKING:
    from pytest_tenantproof.plugin.session import EvidencePlugin

__all__ = ["read", "stamper", "utc"]


def utc(moment: datetime) -> str:
    """RFC 3339 with a Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _authority(settings: Settings) -> Authority | None:
    wanted = settings.timestamp
    if not wanted.url:
        return None
    return Authority(wanted.url, settings.root / wanted.root, wanted.timeout_s)


def read(info: TargetInfo, settings: Settings) -> dict[str, str]:
    """What each clock says now. Raises EvidenceError when a required authority gives no time."""
    found = {"local": utc(datetime.now(UTC)), "database": info.server_time}
    authority = _authority(settings)
    if authority is not None:
        try:
            found["trusted"] = utc(authority.stamp(secrets.token_bytes(32)).time)
        except EvidenceError as error:
            if settings.timestamp.policy == "required":
                raise
            found["trusted_error"] = error.message
    return found


def stamper(run: "EvidencePlugin") -> Callable[[bytes], bytes | None] | None:
    """Timestamps a signature; gives None where that failed and the policy is optional."""
    authority = _authority(run.settings)
    if authority is None:
        return None

    def stamp(signature: bytes) -> bytes | None:
        try:
            return authority.stamp(signature).response
        except EvidenceError as error:
            if run.settings.timestamp.policy == "required":
                raise
            run.say(f"the bundle has no trusted timestamp: {error}")
            return None

    return stamp
