"""What counts as a credential, in which disguise, and what does not."""

import base64
import gzip
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
import zstandard

from bench.scan import build
from pytest_tenantproof.config import Settings
from pytest_tenantproof.config.guard import GuardSettings
from pytest_tenantproof.errors import ConfigError, ScanError
from pytest_tenantproof.scan import Known, Leak, known_of, scan
from tests.scan.support import encoded, jwt, known

SERVICE = jwt(role="service_role")
PASSWORD = "cobalt-heron-93-%-/quay"


def _packed(data: bytes, times: int) -> bytes:
    """gzip in gzip; without a time, so that each process makes the same bytes (they are in the test's id)."""
    return _packed(gzip.compress(data, mtime=0), times - 1) if times else data


def found(tmp_path: Path, content: str | bytes, knows: Known | None = None, name: str = "a.js") -> list[Leak]:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(scan([tmp_path], knows or known()).leaks)


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (f'k="{SERVICE}"', "service-role-jwt", "service_role"),
        (f"x{SERVICE}", "service-role-jwt", "service_role"),
        (f"`{jwt(role='authenticated', sub='1')}`", "jwt", "authenticated"),
        (f"'{jwt()}'", "jwt", "names no role"),
        (f"'{jwt(role=7)}'", "jwt", "names no role"),
        (f"'{jwt(role='x</script>')}'", "jwt", "names no role"),
        (f"{encoded({'alg': 'HS256'})}.AAAA.AAAA", "jwt", "cannot be read"),
        (f"{encoded([1, 2, 3, 4, 5, 6, 7])}.x.{SERVICE}", "service-role-jwt", "service_role"),
        ("sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz", "secret-key", "secret API key"),
        (f"sbp_{'0123456789abcdef' * 2}01234567", "platform-token", "personal"),
        ('"postgresql://app:hunter22@db.acme.io:5432/app"', "connection-string", "postgresql://app:***@db.acme.io"),
        ('"postgres:\\/\\/app:hunter22@db\\/app"', "connection-string", "postgres://app:***@db"),
        ('"mongodb+srv://a:b@cluster.example.net"', "connection-string", "mongodb+srv"),
        ('"postgres://postgres:password@db.acme.io/app"', "connection-string", "db.acme.io"),
        ('"host=db.acme.io user=app password=hunter22"', "connection-string", "password"),
        ("-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIPt", "private-key", "private key"),
        ("import.meta.env.VITE_SUPABASE_SERVICE_ROLE_KEY", "secret-variable", "VITE_SUPABASE_SERVICE_ROLE_KEY"),
    ],
)
def test_what_is_found(tmp_path: Path, content: str, kind: str, says: str) -> None:
    leaks = found(tmp_path, content)
    assert [leak.kind for leak in leaks] == [kind]
    assert says in leaks[0].detail


@pytest.mark.parametrize(
    "content",
    [
        jwt(role="anon"),
        "sb_publishable_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz",
        "/** needs the service_role key, never expose it */ if (role === 'service_role') {}",
        "postgres://user:password@localhost:5432/db",
        "postgres://user:${PASSWORD}@db.acme.io/app",
        "https://user@example.com/path?x=1",
        "-----BEGIN PRIVATE KEY-----",
        "pk.eyJ1IjoiYWNtZSIsImEiOiJjazEyMzQ1Njc4OTAifQ.abcdefghijk",
        "const MY_SUPABASE_SERVICE_ROLE_KEYS = 1",
        f"{encoded({'a': 1, 'b': 'no algorithm'})}.{encoded({'role': 'service_role'})}.x",
    ],
)
def test_what_is_harmless(tmp_path: Path, content: str) -> None:
    assert found(tmp_path, content) == []


def _double(data: bytes) -> bytes:
    return base64.b64encode(b"atob('" + base64.b64encode(data) + b"')")


DISGUISES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("a.js.gz", gzip.compress),
    "gzip without its ending": ("a.js", gzip.compress),
    "brotli": ("a.js.br", brotli.compress),
    "zstd": ("a.js.zst", zstandard.compress),
    "brotli in gzip": ("a.js.br.gz", lambda d: gzip.compress(brotli.compress(d), mtime=0)),
    "two gzip members": ("a.js.gz", lambda d: gzip.compress(b"// first\n", mtime=0) + gzip.compress(d, mtime=0)),
    "data url": ("a.css", lambda d: b"url(data:application/json;base64," + base64.b64encode(d) + b")"),
    "misaligned base64": ("a.js", lambda d: b"'ab" + base64.b64encode(b"x" + d)[1:] + b"'"),
    "url-safe base64": ("a.html", lambda d: b"'" + base64.urlsafe_b64encode(b"\xff\xfe\xfd" + d) + b"'"),
    "base64 of base64": ("a.js", _double),
    "utf-16 in wasm": ("a.wasm", lambda d: b"\0asm\1\0\0\0" + d.decode().encode("utf-16-le") + b"\0"),
    "text in wasm": ("a.wasm", lambda d: b"\0asm\1\0\0\0\xff\xfe" + d + b"\0"),
    "source map": ("a.js.map", lambda d: json.dumps({"sources": ["a"], "sourcesContent": [d.decode()]}).encode()),
    "library in a source map": (
        "a.js.map",
        lambda d: json.dumps({"sources": ["node_modules/x.js"], "sourcesContent": [d.decode()]}).encode(),
    ),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("secret", [SERVICE, "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz", PASSWORD])
def test_disguises(tmp_path: Path, disguise: str, secret: str) -> None:
    name, pack = DISGUISES[disguise]
    knows = known(SUPABASE_DB_PASSWORD=PASSWORD)
    leaks = found(tmp_path, pack(f'const k = "{secret}";'.encode()), knows, name)
    assert leaks, disguise
    assert {leak.kind for leak in leaks} <= {"service-role-jwt", "secret-key", "configured-secret"}
    assert not any(secret in json.dumps([leak.detail, leak.fingerprint, leak.inside]) for leak in leaks)


def test_the_offset_is_where_the_credential_is(tmp_path: Path) -> None:
    text = f"/* é */ a; b('{SERVICE}')"
    leak = found(tmp_path, text)[0]
    assert text.encode()[leak.offset :].startswith(SERVICE.encode())
    packed = found(tmp_path, gzip.compress(text.encode(), mtime=0), name="b.js.gz")[-1]
    assert (packed.offset, packed.inside) == (leak.offset, "gzip")


@pytest.mark.parametrize(
    "spelling",
    [
        PASSWORD,
        json.dumps(PASSWORD),
        PASSWORD.replace("/", "\\/"),
        "cobalt-heron-93-%25-%2Fquay",
        hashlib.sha256(PASSWORD.encode()).hexdigest(),
        hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).hexdigest().upper(),
        base64.b64encode(hashlib.sha512(PASSWORD.encode()).digest()).decode(),
    ],
)
def test_the_products_own_secrets_are_found_by_value_and_by_hash(tmp_path: Path, spelling: str) -> None:
    leaks = found(tmp_path, f"x = '{spelling}'", known(SUPABASE_DB_PASSWORD=PASSWORD))
    assert {leak.kind for leak in leaks} == {"configured-secret"}
    assert all("SUPABASE_DB_PASSWORD" in leak.detail and leak.fingerprint == "" for leak in leaks)


def test_the_tools_own_connection_strings_are_secrets(tmp_path: Path) -> None:
    knows = known(TENANTPROOF_PROD_DSN="postgresql://auditor:cobalt-heron@db/app", TENANTPROOF_SITE="https://acme.io/x")
    leaks = found(tmp_path, "var p = 'cobalt-heron', s = 'https://acme.io/x'", knows)
    assert [leak.detail for leak in leaks] == ["the password of TENANTPROOF_PROD_DSN"]


def test_a_secret_that_only_its_hash_is_known_of(tmp_path: Path) -> None:
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    settings = Settings(guard=GuardSettings(secret_hashes=(f"sha256:{digest}",)))
    leaks = found(tmp_path, f'k="{PASSWORD}";', known_of(settings, {}))
    assert [(leak.kind, leak.offset) for leak in leaks] == [("configured-secret", 3)]
    digest = hashlib.sha256(b"opaque-token-0123").hexdigest()
    settings = Settings(guard=GuardSettings(secret_hashes=(f"sha256:{digest}",)))
    assert len(found(tmp_path, "a:b,opaque-token-0123,c", known_of(settings, {}))) == 1
    with pytest.raises(ConfigError, match="is no hash"):
        known_of(Settings(guard=GuardSettings(secret_hashes=("md5:12",))), {})


def test_a_secret_too_short_to_look_for_is_an_error() -> None:
    with pytest.raises(ScanError, match="too short"):
        known(SUPABASE_DB_PASSWORD="abc")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.js.gz", b"not gzip at all"),
        ("a.js.gz", gzip.compress(b"x" * 9999, mtime=0)[:-9]),
        ("a.js.br", brotli.compress(b"x" * 9999)[:-4]),
        ("a.js.br", b"\xff\xff\xff"),
        ("a.js.zst", b"nothing"),
        ("a.js.gz.gz.gz.gz", _packed(b"x", times=4)),
        ("a.js.br", brotli.compress(bytes(600 << 20), quality=1)),
    ],
)
def test_what_cannot_be_unpacked_is_a_finding(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "index.html").write_text("<p>")
    assert [leak.kind for leak in found(tmp_path, content, name=name)] == ["unreadable"]


def test_nothing_to_scan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"no built front-end file|cannot be read"):
        scan([tmp_path / "missing"], known())
    with pytest.raises(ScanError, match="no built front-end file"):
        scan([tmp_path], known())
    (tmp_path / "logo.png").write_bytes(b"\x89PNG")
    with pytest.raises(ScanError, match="no built front-end file"):
        scan([tmp_path], known())
    (tmp_path / "index.html").symlink_to("gone.html")
    with pytest.raises(ScanError, match=r"cannot be read|no built front-end file"):
        scan([tmp_path], known())


def test_every_kind_of_file_is_read_also_behind_links(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "notes.txt").write_text(SERVICE)
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "index.html").write_text("<p>")
    (dist / ".env").write_text(f"KEY={SERVICE}")
    (dist / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(dist)
    assert {Path(leak.path).name for leak in scan([dist], known()).leaks} == {".env", "notes.txt"}


def test_a_large_front_end_is_scanned_in_seconds(tmp_path: Path) -> None:
    """30 MB in less than 5 s; of the processor's time, which does not depend on who else is at work. The one leak
    in all of it is found."""
    assert build(tmp_path, 30) > 30_000_000
    (tmp_path / "last.js").write_text(f"k='{SERVICE}'")
    begun = time.process_time()
    leaks = scan([tmp_path], known(SUPABASE_DB_PASSWORD=PASSWORD)).leaks
    assert time.process_time() - begun < 5
    assert [(Path(leak.path).name, leak.kind) for leak in leaks] == [("last.js", "service-role-jwt")]
