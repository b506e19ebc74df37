"""Fixtures of this room: an HTTP server and an SMTP server that record."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from tests.notify.support import HttpSink, http_sink


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink() as running:
        yield running


class Mailbox:
    """An SMTP server: `password` is the one it accepts, `refuse` what it answers to a recipient, `busy` to how many
    it first says "later"."""

    def __init__(
        self, certificate: tuple[Path, Path] | None = None, *, implicit: bool = False, host: str = "127.0.0.1"
    ) -> None:
        self.messages: list[EmailMessage] = []
        self.password = b"right"
        self.refuse: dict[str, str] = {}
        self.busy = 0
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.port = int(probe.getsockname()[1])
        context = None
        if certificate:
            context = SSLContext(PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        self.controller: Any = Controller(
            self,
            hostname=host,
            port=self.port,
            authenticator=self._authenticate,
            auth_require_tls=False,
            ssl_context=context if implicit else None,
            tls_context=None if implicit else context,
        )

    def _authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = data.password == self.password
        return AuthResult(success=right, handled=right)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.busy:
            self.busy -= 1
            return "451 4.7.1 greylisted, try again later"
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.messages.append(BytesParser(policy=default).parsebytes(envelope.content))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[Callable[..., Mailbox]]:
    """Starts an SMTP server."""
    with ExitStack() as stack:

        def started(*given: Any, **more: Any) -> Mailbox:
            box = Mailbox(*given, **more)
            box.controller.start()
            stack.callback(box.controller.stop)
            return box

        yield started


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that nobody else trusts, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += [
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"
