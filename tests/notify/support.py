"""Real servers that alerts go to."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any


@dataclass
class HttpSink:
    """An HTTP server that records what it gets and answers as it is told."""

    url: str = ""
    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hold: threading.Event | None = None
    drip: threading.Event | None = None
    """Until it is set, a byte of the answer's head now and then, and never the whole."""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next answers; after them `status` and `headers` hold."""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)


@contextmanager
def http_sink(certificate: tuple[Path, Path] | None = None) -> Iterator[HttpSink]:
    """With a certificate and its key, it speaks TLS as `localhost`."""
    sink = HttpSink()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sink.requests.append((self.command, self.path, json.loads(body) if body else None))
            time.sleep(sink.delay)
            if sink.hold is not None:
                sink.hold.wait(10)
                return
            if sink.drip is not None:
                self._drip(sink.drip)
                return
            status, headers = sink.answers.pop(0) if sink.answers else (sink.status, sink.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sink.body)

        def _drip(self, enough: threading.Event) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not enough.wait(0.05):
                with contextlib.suppress(OSError):
                    self.wfile.write(b"x")

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Tests read `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    place = f"http://127.0.0.1:{server.server_address[1]}"
    if certificate:
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        place = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    sink.url = f"{place}/services/T0/B0/secret"
    try:
        yield sink
    finally:
        for event in filter(None, (sink.hold, sink.drip)):
            event.set()
        server.shutdown()
        thread.join()
        server.server_close()
