"""What may stand between a run and its server: a proxy that changes the start-up message or the server's answers.

It speaks the wire protocol (PostgreSQL documentation, "Message Formats"): the start-up packet has no type byte, so it
is the one message that has to be parsed; every other byte passes as it is.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from psycopg.conninfo import make_conninfo

from pytest_tenantproof.target import EmbeddedPostgres

__all__ = ["standing_between"]

Change = Callable[[bytes], bytes]
_PROTOCOL_3 = 3 << 16


def _same(data: bytes) -> bytes:
    return data


@contextlib.contextmanager
def standing_between(server: EmbeddedPostgres, *, start_up: Change = _same, answer: Change = _same) -> Iterator[str]:
    """A DSN that reaches a server on a Unix socket through changes of the start-up parameters and of its answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    socket_file = server.home / f".s.PGSQL.{server.port}"

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                client, _ = listener.accept()
                threading.Thread(target=_serve, args=(client, socket_file, start_up, answer), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield make_conninfo("", host="127.0.0.1", port=listener.getsockname()[1], user="postgres", dbname="postgres")
    finally:
        listener.close()


def _serve(client: socket.socket, socket_file: Path, start_up: Change, answer: Change) -> None:
    with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
        server.connect(str(socket_file))
        server.sendall(_started(client, start_up))
        threading.Thread(target=_pump, args=(client, server, _same), daemon=True).start()
        _pump(server, client, answer)


def _started(client: socket.socket, change: Change) -> bytes:
    """The client's start-up packet, changed. Requests for TLS and GSS before it are declined."""
    while True:
        (length,) = struct.unpack("!I", client.recv(4, socket.MSG_WAITALL))
        body = client.recv(length - 4, socket.MSG_WAITALL)
        if struct.unpack("!I", body[:4])[0] >> 16 == _PROTOCOL_3 >> 16:
            body = body[:4] + change(body[4:])
            return struct.pack("!I", len(body) + 4) + body
        client.sendall(b"N")


def _pump(source: socket.socket, sink: socket.socket, change: Change) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(change(data))
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
