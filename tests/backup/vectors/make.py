"""Makes segments.json anew: `python -m tests.backup.vectors.make`. Only for a new version of the format."""

import base64
import json
from pathlib import Path

from pytest_tenantproof.backup.crypto import data_key_id, new_keypair, seal_key, wrap
from pytest_tenantproof.backup.format import Fingerprint, SegmentWriter, segment_context
from pytest_tenantproof.backup.keyring import key_context

WRAPPING = b"w" * 32
CASES = {
    "rows of a tenant": ("6f1c0c9e", "public.messages", "".join(f"{n}\tline {n}\\n\\\\.\n" for n in range(40))),
    "no rows": ("6f1c0c9e", "public.units", ""),
    "global table": (None, 'public."Odd ""name"""', "1\t\\N\n2\tü\n"),
}


def main() -> None:
    pair, made = new_keypair(), []
    for number, (name, (tenant, table, text)) in enumerate(CASES.items()):
        key, out, fingerprint = bytes([number]) * 32, bytearray(), Fingerprint()
        context = segment_context("20261124T020000Z-0a1b2c3d", tenant, table, "5e" * 32)
        writer = SegmentWriter(out.extend, key, context, salt=bytes([0xA0 + number]) * 32)
        writer.write(text.encode())
        writer.close()
        for line in text.encode().splitlines(keepends=True):
            fingerprint.add([line])
        made.append(
            {
                "name": name,
                "data_key": key.hex(),
                "key_id": data_key_id(key),
                "private_key": pair.private_text,
                "box": wrap(WRAPPING, [pair.recipient])[pair.recipient.id],
                "wrapped": seal_key(WRAPPING, key, key_context("20261124T020000Z-0a1b2c3d", tenant)),
                "context": context.decode(),
                "plain": base64.b64encode(text.encode()).decode(),
                "fingerprint": fingerprint.hex(),
                "segment": base64.b64encode(out).decode(),
            }
        )
    (Path(__file__).parent / "segments.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
