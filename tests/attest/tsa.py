"""A timestamp authority made with openssl, served over HTTP."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

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
    """`mode`: good, slow, error, garbage, replay (yesterday's answer), refuse (digests it does not take). The first
    `good` answers are good whatever the mode."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.mode, self.url, self.good = folder, "good", "", 0
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

    def limit(self, start: datetime, end: datetime) -> None:
        """Makes the authority's certificate and its root anew, with the same keys, valid from `start` to `end`."""
        key = load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        for path in (self.root, self.folder / "tsa.crt"):
            old = x509.load_pem_x509_certificate(path.read_bytes())
            made = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), old.serial_number, start, end)
            for extension in old.extensions:
                made = made.add_extension(extension.value, extension.critical)
            path.write_bytes(made.sign(key, SHA256()).public_bytes(Encoding.PEM))  # type: ignore[arg-type]

    def next_mode(self) -> str:
        if self.good:
            self.good -= 1
            return "good"
        return self.mode

    def answer(self, query: bytes, mode: str) -> bytes:
        (self.folder / "query.tsq").write_bytes(query)
        self.configure("sha384" if mode == "refuse" else "sha256, sha512")
        config = ("-config", str(self.folder / "tsa.cnf"), "-queryfile", str(self.folder / "query.tsq"))
        made = subprocess.run(["openssl", "ts", "-reply", *config], check=False, capture_output=True).stdout
        self.first = self.first or made
        return self.first if mode == "replay" else made


@contextmanager
def serve(folder: Path) -> Iterator[Tsa]:
    tsa = Tsa(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            mode = tsa.next_mode()
            if mode == "slow":
                tsa.release.wait(20)
                return  # whoever asked has gone
            body = b"no token" * 100 if mode == "garbage" else tsa.answer(query, mode)
            self.send_response(500 if mode == "error" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        tsa.url = f"http://127.0.0.1:{server.server_address[1]}/"
        try:
            yield tsa
        finally:
            tsa.release.set()
            server.shutdown()
