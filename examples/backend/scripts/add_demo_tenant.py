"""Adds a tenant to show around in. Asks the gate on the very connection that writes."""

import os
import sys

import psycopg

from pytest_tenantproof.gates import require_demo_seed


def main(target: str) -> None:
    with psycopg.connect(os.environ[f"TENANTPROOF_{target.upper()}_WRITER_DSN"]) as connection:
        require_demo_seed(connection, target)
        connection.execute(
            "INSERT INTO public.tenants (id, slug, name) VALUES (gen_random_uuid(), 'show-house', 'Show House')"
        )


if __name__ == "__main__":
    main(sys.argv[1])
