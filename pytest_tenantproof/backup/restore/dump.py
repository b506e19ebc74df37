"""A schema dump (pg_dump --schema-only, plain SQL) cut into its entries, so that rows go in before what slows them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_tenantproof.errors import RestoreError

__all__ = ["Entry", "SchemaDump", "parse_dump"]

# What pg_dump calls post-data; with it comes all that follows, privileges too.
_AFTER = {
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "EVENT TRIGGER",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "POLICY",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "ROW SECURITY",
    "RULE",
    "STATISTICS",
    "SUBSCRIPTION",
    "TRIGGER",
}
# Quoted text of every kind is skipped, so that nothing in a function's body can pass for an entry.
_TOKEN = re.compile(
    r"""(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
    | /\*.*?\*/
    | --[^\n]*""",
    re.S | re.X,
)
_HEAD = re.compile(r"-- Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*); Owner: (?P<owner>.*)")
_RESTRICT = re.compile(r"^\\(?:un)?restrict [A-Za-z0-9]+$", re.M)
_TABLE = re.compile(
    r'^(?:CREATE (?:UNIQUE )?INDEX (?:[a-z_0-9]+|"(?:[^"]|"")+") ON (?:ONLY )?|ALTER TABLE (?:ONLY )?)'
    r'(?P<table>(?:\w+|"(?:[^"]|"")+")\.(?:\w+|"(?:[^"]|"")+"))\s',
    re.M,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a dump and the SQL that makes it."""

    name: str
    type: str
    schema: str
    owner: str
    sql: str

    @property
    def table(self) -> str:
        """The table that an index or a constraint is of; "" where it is not told."""
        match = _TABLE.search(self.sql)
        return match["table"] if match else ""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        return self.type, self.schema, self.name, self.owner


@dataclass(frozen=True, slots=True)
class SchemaDump:
    """`settings` is what each session begins with; `before` and `after` are what precedes and follows the rows."""

    settings: str
    before: tuple[Entry, ...]
    after: tuple[Entry, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.before + self.after

    def without(self, schemas: frozenset[str], extensions: frozenset[str]) -> "SchemaDump":
        """Without what is in these schemas, and without these schemas and extensions themselves."""
        gone = {("SCHEMA", name) for name in schemas} | {("EXTENSION", name) for name in extensions}
        named = {f"{kind} {name}" for kind, name in gone}

        def stays(entry: Entry) -> bool:
            return entry.schema not in schemas and (entry.type, entry.name) not in gone and entry.name not in named

        return SchemaDump(self.settings, tuple(filter(stays, self.before)), tuple(filter(stays, self.after)))


def parse_dump(text: str) -> SchemaDump:
    """Raises RestoreError for what is no whole dump."""
    heads = list(_heads(text))
    if not heads or "-- PostgreSQL database dump complete" not in text[heads[-1].start() :]:
        raise RestoreError("the schema in the backup is no whole dump.", remedy="use another backup.")
    ends = [head.start() for head in heads[1:]] + [len(text)]
    entries = [
        Entry(head["name"], head["type"], head["schema"], head["owner"], text[head.end() : end])
        for head, end in zip(heads, ends, strict=True)
    ]
    last = entries[-1]
    entries[-1] = Entry(last.name, last.type, last.schema, last.owner, _RESTRICT.sub("", last.sql))
    cut = next((n for n, entry in enumerate(entries) if entry.type in _AFTER), len(entries))
    return SchemaDump(_RESTRICT.sub("", text[: heads[0].start()]), tuple(entries[:cut]), tuple(entries[cut:]))


def _heads(text: str) -> Iterator[re.Match[str]]:
    for token in _TOKEN.finditer(text):
        if token[0].startswith("-- Name: ") and (head := _HEAD.fullmatch(text, token.start(), token.end())):
            yield head
