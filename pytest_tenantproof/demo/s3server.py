"""An S3 server for laptops: moto, with two buckets and two identities whose rights it enforces.

`python -m pytest_tenantproof.demo.s3server FOLDER PID` serves until FOLDER is gone or process PID has ended,
so that nothing is left behind by a run that was killed.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_tenantproof.errors import TargetUnreachable

__all__ = ["BUCKET", "KEY_BUCKET", "S3Server", "start_s3"]

BUCKET = "tenantproof-backups"
"""Versioned, with Object Lock."""
KEY_BUCKET = "tenantproof-keys"
"""Versioned, without Object Lock: erasure destroys keys."""
_STATE = "s3server.json"
_ACCOUNT = "123456789012"
# What an identity that backs up needs: no right to delete anything, and none to shorten or bypass a lock.
WRITER = (
    "s3:PutObject",
    "s3:PutObjectRetention",
    "s3:GetObject*",
    "s3:GetBucket*",
    "s3:HeadObject",
    "s3:HeadBucket",
    "s3:List*",
    "s3:AbortMultipartUpload",
)


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where it is, and the credentials (access key, secret) of who backs up and of who may do all."""

    endpoint: str
    writer: tuple[str, str] = field(repr=False)
    keeper: tuple[str, str] = field(repr=False)


def start_s3(folder: Path, pid: int, *, seconds: float = 30) -> S3Server:
    """Starts one that serves as long as `folder` and process `pid` exist. Raises TargetUnreachable."""
    state = folder / _STATE
    command = [sys.executable, "-m", "pytest_tenantproof.demo.s3server", str(folder), str(pid)]
    null = subprocess.DEVNULL
    done = subprocess.run(command, check=False, start_new_session=True, stdin=null, stdout=null, stderr=null)
    deadline = time.monotonic() + seconds
    while not state.is_file():
        if done.returncode != 0 or time.monotonic() > deadline:
            raise TargetUnreachable(
                "the embedded S3 server did not start.",
                remedy="install what it needs: pip install 'pytest-tenantproof[drill]'.",
            )
        time.sleep(0.02)
    data = json.loads(state.read_bytes())
    return S3Server(data["endpoint"], tuple(data["writer"]), tuple(data["keeper"]))


def _identity(name: str, actions: tuple[str, ...]) -> tuple[str, str]:
    from moto.iam.models import iam_backends

    iam: Any = iam_backends[_ACCOUNT]["aws"]
    allowed = [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]
    iam.create_user("us-east-1", name)
    iam.put_user_policy(name, "rights", json.dumps({"Version": "2012-10-17", "Statement": allowed}))
    key = iam.create_access_key(name)
    return key.access_key_id, key.secret_access_key


def _serve(folder: Path, pid: int) -> None:
    import boto3
    from moto import settings
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    writer, keeper = _identity("writer", WRITER), _identity("keeper", ("s3:*",))
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=keeper[0],
        aws_secret_access_key=keeper[1],
    )
    s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    s3.create_bucket(Bucket=KEY_BUCKET)
    s3.put_bucket_versioning(Bucket=KEY_BUCKET, VersioningConfiguration={"Status": "Enabled"})
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    part = folder / f"{_STATE}.part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(asdict(S3Server(endpoint, writer, keeper)), out)
    part.rename(folder / _STATE)
    while folder.is_dir() and _runs(pid):
        time.sleep(0.3)
    os._exit(0)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Becomes a process of its own once what it needs is known to be installed."""
    import moto.iam.models
    import moto.server  # noqa: F401 - the fork below serves it; a missing one is told here

    if os.fork() == 0:
        _serve(Path(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)


if __name__ == "__main__":
    main()
