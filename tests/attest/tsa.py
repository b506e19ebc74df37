"""A timestamp authority made with openssl, served over HTTP."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CONFIG = """
[tsa]
default_tsa = main
[main]
serial = {folder}/serial
signer_cert = {folder}/tsa.crt
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = {digests}
accuracy = secs:1
ess_cert_id_alg = sha256
[leaf]
extendedKeyUsage = critical,timeStamping
"""


def _openssl(*arguments: str, data: bytes | None = None) -> bytes:
    return subprocess.run(["openssl", *arguments], input=data, check=True, capture_output=True).stdout


class Tsa:
    """`mode`: good, slow, error, garbage, replay (yesterday's answer), refuse (digests it does not take)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.mode, self.url = folder, "good", ""
        self.root, self.first = folder / "ca.crt", b""
        self.release = threading.Event()
        (folder / "serial").write_text("01")
        self.configure("sha256, sha512")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
        _openssl("req", "-x509", *curve, "-keyout", str(folder / "ca.key"), "-out", str(self.root), "-subj", "/CN=root")
        request = str(folder / "tsa.csr")
        _openssl("req", *curve[:4], "-nodes", "-keyout", str(folder / "tsa.key"), "-out", request, "-subj", "/CN=tsa")
        signing = ("-CA", str(self.root), "-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days", "30")
        extension = ("-extfile", str(folder / "tsa.cnf"), "-extensions", "leaf")
        _openssl("x509", "-req", "-in", request, *signing, *extension, "-out", str(folder / "tsa.crt"))

    def configure(self, digests: str) -> None:
        (self.folder / "tsa.cnf").write_text(_CONFIG.format(folder=self.folder, digests=digests))

    def answer(self, query: bytes) -> bytes:
        (self.folder / "query.tsq").write_bytes(query)
        self.configure("sha384" if self.mode == "refuse" else "sha256, sha512")
        config = ("-config", str(self.folder / "tsa.cnf"), "-queryfile", str(self.folder / "query.tsq"))
        made = subprocess.run(["openssl", "ts", "-reply", *config], check=False, capture_output=True).stdout
        self.first = self.first or made
        return self.first if self.mode == "replay" else made


@contextmanager
def serve(folder: Path) -> Iterator[Tsa]:
    tsa = Tsa(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            if tsa.mode == "slow":
                tsa.release.wait(20)
            body = b"no token" * 100 if tsa.mode == "garbage" else tsa.answer(query)
            self.send_response(500 if tsa.mode == "error" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tsa.url = f"http://127.0.0.1:{server.server_address[1]}/"
        try:
            yield tsa
        finally:
            tsa.release.set()
            server.shutdown()
