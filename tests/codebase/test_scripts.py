"""Scripts that write without asking, and ones that ask."""

import pytest

from pytest_tenantproof.codebase import ungated_writes

GATE = "from pytest_tenantproof.gates import require_demo_seed\n"


def lines(text: str, path: str = "seed.py") -> list[int]:
    return [found.line for found in ungated_writes({path: text})]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("db.execute('INSERT INTO t VALUES (1)')\n", [1]),
        ("SQL = '''\ndelete  from t'''\n\ndef main():\n    db.execute(SQL)\n", [1]),
        ("def f():\n    db.execute(f'TRUNCATE {table}')\n    db.execute('truncate table t')\n", [3]),
        ("db.execute('UPDATE t SET a = 1'); db.execute('DROP TABLE t'); db.copy('COPY t (a) FROM STDIN')\n", [1, 1, 1]),
        ("supabase.table('t').delete().eq('id', 1).execute()\n", [1]),
        ("supabase.schema('x').from_('t').insert(rows)\n", [1]),
        ("def require_demo_seed(*a): pass\ndef main():\n    require_demo_seed(c, 't')\n    x('DELETE FROM t')\n", [4]),
        ("from my.gates import require_demo_seed\nrequire_demo_seed(c)\nx('DELETE FROM t')\n", [3]),
        (GATE + "if careful:\n    require_demo_seed(c, 't')\nx('DELETE FROM t')\n", [4]),
        (GATE + "try:\n    require_demo_seed(c, 't')\nexcept Exception:\n    pass\nx('DELETE FROM t')\n", [6]),
        (GATE + "def main():\n    x('DELETE FROM t')\n    require_demo_seed(c, 't')\n", [3]),
        (GATE + "x('DELETE FROM t')\nrequire_demo_seed(c, 't')\n", [2]),
        (GATE + "x('DELETE FROM t')\ndef main():\n    require_demo_seed(c, 't')\n", [2]),
        (GATE + "later = lambda: require_demo_seed(c, 't')\nx('DELETE FROM t')\n", [3]),
        (GATE + "require_demo_seed\nx('DELETE FROM t')\n", [3]),
        ("def broken(:\n", [1]),
    ],
)
def test_writes_without_the_gate(text: str, found: list[int]) -> None:
    assert lines(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "print('select from insert')\nconfig.update({'a': 1})\nitems.insert(0, 'x')\n",
        GATE + "require_demo_seed(c, 't')\nx('DELETE FROM t')\n",
        GATE + "SQL = 'DELETE FROM t'\ndef f():\n    with c:\n        require_demo_seed(c, 't')\n        x(SQL)\n",
        GATE + "def fill(c):\n    x('DELETE FROM t')\ndef main():\n    require_demo_seed(c, 't')\n    fill(c)\n",
        "from pytest_tenantproof import gates\ngates.require_demo_seed(c, 't')\nx('DELETE FROM t')\n",
        "import pytest_tenantproof.gates as g\n"
        "if __name__ == '__main__':\n    g.require_demo_seed(c)\n    x('DROP TABLE t')\n",
    ],
)
def test_what_is_fine(text: str) -> None:
    assert lines(text) == []


def test_files_that_cannot_ask() -> None:
    assert lines("-- seed\nINSERT INTO t VALUES (1);\nTRUNCATE t;\n", "seed.sql") == [2, 3]
    assert lines("psql -c 'drop schema public cascade'\n", "reset.sh") == [1]
    assert lines("SELECT 1;\n", "report.sql") == []
