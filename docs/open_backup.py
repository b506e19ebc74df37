"""Opens one archive of a tenantproof backup without tenantproof, for psql to load.

    pip install cryptography pynacl zstandard
    python open_backup.py FOLDER RUN PRIVATE_KEY_FILE [TENANT] > tenant.sql   # no TENANT: the global tables
    psql -v ON_ERROR_STOP=1 --single-transaction -f tenant.sql "$DSN"

FOLDER is a copy of the store: runs/, keys/ (aws s3 sync ... FOLDER). Give `--schema` as TENANT for the schema.
The signature of manifest.json is not checked here: `tenantproof verify` and `openssl` do that.
"""

import base64
import hashlib
import io
import json
import re
import sys
from pathlib import Path

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.public import PrivateKey, SealedBox

CHUNK = (1 << 20) + 16


def opened(segment: bytes, data_key: bytes, context: bytes) -> bytes:
    """The plain text of one segment; raises when a single bit of it is not as it was written."""
    if segment[:8] != b"TPBACK1\n":
        raise SystemExit("this is no segment of a backup")
    key = HKDF(SHA256(), 32, segment[8:40], b"tenantproof/segment/1\n" + context).derive(data_key)
    body = segment[40:]
    pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    plain = b"".join(
        AESGCM(key).decrypt(n.to_bytes(11, "big") + bytes([n == len(pieces) - 1]), piece, context)
        for n, piece in enumerate(pieces)
    )
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(plain)).read()


def main(folder: str, run: str, key_file: str, wanted: str = "") -> None:
    root, out = Path(folder), sys.stdout.buffer
    manifest = json.loads(base64.b64decode(json.loads((root / f"runs/{run}/manifest.json").read_bytes())["payload"]))
    private = PrivateKey(base64.b64decode(re.sub(r"^tpbkey1:", "", Path(key_file).read_text().strip())))
    me = hashlib.sha256(bytes(private.public_key)).hexdigest()[:16]
    tenant = None if wanted in ("", "--schema") else wanted
    archive = next(a for a in manifest["archives"] if a["tenant"] == tenant)
    wrapped = json.loads((root / archive["key_object"]).read_bytes())
    wrapping = AESGCM(SealedBox(private).decrypt(base64.b64decode(wrapped["boxes"][me])))
    sealed = base64.b64decode(next(entry["key"] for entry in wrapped["keys"] if entry["tenant"] == tenant))
    whose = json.dumps([wrapped["schema"], run, tenant], separators=(",", ":")).encode()
    data_key = wrapping.decrypt(sealed[:12], sealed[12:], whose)
    tables = manifest["tables"]
    listed = json.dumps([[t["name"], t["columns"]] for t in tables], separators=(",", ":"))
    tables_sha256 = hashlib.sha256(listed.encode()).hexdigest()
    for row in sorted(archive["segments"]):
        segment = dict(zip(manifest["segment_fields"], row, strict=True))
        if min(segment["table"], 0) != (-1 if wanted == "--schema" else 0):
            continue  # -1 is the schema, -2 the catalog
        name = "@schema" if segment["table"] < 0 else tables[segment["table"]]["name"]
        with (root / manifest["objects"][segment["object"]]["name"]).open("rb") as pack:
            pack.seek(segment["offset"])
            sealed = pack.read(segment["length"])
        bound = ["tenantproof/backup/1", run, tenant, name, tables_sha256]
        plain = opened(sealed, data_key, json.dumps(bound, separators=(",", ":")).encode())
        if hashlib.sha256(plain).hexdigest() != segment["sha256"]:
            raise SystemExit(f"{name} is not what the manifest says")
        if name == "@schema":
            out.write(plain)
            continue
        columns = ", ".join('"' + c.replace('"', '""') + '"' for c in tables[segment["table"]]["columns"])
        out.write(f"COPY {name} ({columns}) FROM stdin;\n".encode() + plain + b"\\.\n\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
