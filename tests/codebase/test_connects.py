"""What reaches a database past the client, and what only looks like it."""

import pytest

from pytest_tenantproof.codebase import raw_connects


def lines(text: str, path: str = "app.py") -> list[tuple[int, str]]:
    return [(found.line, found.detail) for found in raw_connects({path: text})]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("import psycopg\n\npsycopg.connect('')\n", 3, "uses psycopg.connect"),
        ("import psycopg as p\nx = p.AsyncConnection\n", 2, "uses psycopg.AsyncConnection"),
        ("import psycopg\nrun(psycopg)\n", 2, "hands psycopg on"),
        ("import psycopg\ngetattr(psycopg, 'conn' + 'ect')('')\n", 2, "hands psycopg on"),
        ("from psycopg import connect\n", 1, "imports connect from psycopg"),
        ("from psycopg import *\n", 1, "imports * from psycopg"),
        ("from psycopg.connection import Connection\n", 1, "imports Connection"),
        ("import psycopg.connection\n", 1, "imports psycopg.connection"),
        ("def f():\n    import psycopg_pool\n", 2, "imports psycopg_pool"),
        ("from psycopg_pool import ConnectionPool\n", 1, "imports ConnectionPool"),
        ("import asyncpg\n", 0, ""),
        ("import asyncpg\nasyncpg.create_pool()\n", 2, "uses asyncpg.create_pool"),
        ("import sqlalchemy.ext.asyncio\n", 1, "imports sqlalchemy.ext.asyncio"),
        ("from sqlalchemy import create_engine as c\n", 1, "imports create_engine"),
        ("from django.db import connection\n", 1, "imports connection from django.db"),
        ("from django import db\n", 1, "imports db from django"),
        ("from supabase import create_client\n", 1, "imports create_client"),
        ("__import__('psycopg2').connect('')\n", 1, "imports psycopg2"),
        ("import importlib\nimportlib.import_module('psycopg')\n", 2, "imports psycopg"),
        ("import importlib as i\ni.import_module(name)\n", 2, "by a name made at run time"),
        ("import subprocess\nsubprocess.run(['/usr/bin/psql', '-c', q])\n", 2, "runs psql"),
        ("os.system('psql -c x')\n", 1, "runs psql"),
        ("if True:\n  x = (\n", 2, "cannot be parsed"),
        ("x = '\0'\n", 1, "cannot be parsed"),
    ],
)
def test_a_way_past_the_client(text: str, line: int, says: str) -> None:
    found = lines(text)
    if not line:
        assert found == []
        return
    assert [f for f in found if f[0] == line and says in f[1]], found


@pytest.mark.parametrize(
    "text",
    [
        "from psycopg import sql\nfrom psycopg.rows import dict_row\nfrom psycopg.errors import UniqueViolation\n",
        "import psycopg\ntry:\n    pass\nexcept psycopg.errors.UniqueViolation:\n    pass\n",
        "import psycopg.errors\nprint(psycopg.errors.UniqueViolation)\n",
        "from pytest_tenantproof.client import TenantPool\n",
        "from . import psycopg\nfrom .psycopg import connect\n",
        "connect = 1\nx.connect('psycopg')\n",
        "import importlib\nimportlib.import_module('json')\n",
        "print('psqlish', 'a psql b')\n",
    ],
)
def test_what_is_harmless(text: str) -> None:
    assert lines(text) == []


def test_other_languages_are_not_python() -> None:
    assert lines("this is no python", "app.ts") == []
