"""Tokens that look real and open nothing."""

import base64
import json
from typing import Any

from pytest_tenantproof.config import Settings
from pytest_tenantproof.scan import Known, known_of


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()


def jwt(**claims: Any) -> str:
    signature = base64.urlsafe_b64encode(bytes(range(32))).rstrip(b"=").decode()
    return f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded({'iss': 'supabase', **claims})}.{signature}"


def known(**environment: str) -> Known:
    return known_of(Settings(), environment)
