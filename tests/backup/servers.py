"""Object stores that tests talk to, each a real server in a process of its own, and a proxy that makes them fail."""

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def client(endpoint: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )


@contextlib.contextmanager
def server(command: list[str], port: int, **environment: str) -> Iterator[str]:
    """Runs a server until the block ends; its address, once it listens."""
    null = subprocess.DEVNULL
    with subprocess.Popen(command, env=os.environ | environment, stdin=null, stdout=null, stderr=null) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """moto without rights; multipart uploads may have small parts, so that tests need little data."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with server(command, port, S3_UPLOAD_PART_MIN_SIZE="1", MOTO_S3_DEFAULT_KEY_BUFFER_SIZE="16777216") as url:
        yield url


_KINDS = (
    (r"POST .*\?uploads", "CreateMultipartUpload"),
    (r"GET [^?]*\?(.*&)?uploads", "ListMultipartUploads"),
    (r"PUT .*partNumber=", "UploadPart"),
    (r"POST .*uploadId=", "CompleteMultipartUpload"),
    (r"DELETE .*uploadId=", "AbortMultipartUpload"),
    (r"PUT .*\?(.*&)?retention", "PutObjectRetention"),
    (r"GET .*\?(.*&)?versions", "ListObjectVersions"),
    (r"GET .*\?(.*&)?list-type", "ListObjectsV2"),
    (r"PUT ", "PutObject"),
    (r"HEAD ", "HeadObject"),
    (r"GET ", "GetObject"),
    (r"DELETE ", "DeleteObject"),
)


def kind_of(method: str, path: str) -> str:
    return next(kind for pattern, kind in _KINDS if re.match(pattern, f"{method} {path}"))


@dataclass
class Proxy:
    """Stands before a server. `faults`: request kind -> how its next requests fail, one entry for each.

    500, 503: an answer with that status. "drop": the connection is closed before the request is passed on.
    "lost": it is passed on, and the answer is dropped. `always` fails every request of a kind. `refuse` is a
    pattern of header names that the server behind does not know; `damage` is a kind whose bodies are changed.
    """

    url: str = ""
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    always: dict[str, int | str] = field(default_factory=dict)
    refuse: str = ""
    damage: str = ""
    seen: list[str] = field(default_factory=list)
    failed: list[tuple[str, int | str]] = field(default_factory=list)

    def fault(self, kind: str) -> int | str | None:
        self.seen.append(kind)
        waiting = self.faults.get(kind)
        found = self.always.get(kind) or (waiting.pop(0) if waiting else None)
        if found:
            self.failed.append((kind, found))
        return found


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A real HTTP proxy before `upstream`."""
    state, address = Proxy(), urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = state.fault(kind_of(self.command, self.path))
            unknown = [n for n in self.headers if state.refuse and re.match(state.refuse, n.lower())]
            if isinstance(fault, int):
                return self._answer(fault, b"<Error><Code>InternalError</Code></Error>", {})
            if unknown:
                return self._answer(501, b"<Error><Code>NotImplemented</Code></Error>", {})
            if fault == "drop":
                return self._drop()
            body = body[::-1] if state.damage == kind_of(self.command, self.path) else body
            behind = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
            behind.request(self.command, self.path, body, dict(self.headers))
            answer = behind.getresponse()
            content, headers = answer.read(), dict(answer.getheaders())
            behind.close()
            return self._drop() if fault == "lost" else self._answer(answer.status, content, headers)

        def _drop(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            length = headers.get("Content-Length", str(len(content)))
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

        def log_message(self, format: str, *args: Any) -> None:
            """Tests read `seen`."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    state.url = f"http://127.0.0.1:{listening.server_address[1]}"
    try:
        yield state
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
