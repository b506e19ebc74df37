"""The one-letter codes of the system catalogs, in words (PostgreSQL documentation, "System Catalogs")."""

__all__ = [
    "ACTIONS",
    "COMMANDS",
    "CONSTRAINTS",
    "DEFAULT_KINDS",
    "ENABLED",
    "EVENTS",
    "GENERATED",
    "IDENTITY",
    "KINDS",
    "MATCH",
    "PERSISTENCE",
    "ROUTINES",
    "RULE_EVENTS",
    "TYPES",
    "VOLATILITY",
]

KINDS = {"r": "table", "p": "partitioned", "v": "view", "m": "matview", "f": "foreign", "S": "sequence"}
PERSISTENCE = {"p": "permanent", "u": "unlogged", "t": "temporary"}
CONSTRAINTS = {"p": "primary", "u": "unique", "f": "foreign", "c": "check", "x": "exclusion"}
ACTIONS = {
    "a": "NO ACTION",
    "r": "RESTRICT",
    "c": "CASCADE",
    "n": "SET NULL",
    "d": "SET DEFAULT",
    " ": "NO ACTION",
}
MATCH = {"s": "simple", "f": "full", "p": "partial", " ": "simple"}
ENABLED = {"O": "origin", "A": "always", "R": "replica", "D": "disabled"}
COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}
RULE_EVENTS = {"1": "SELECT", "2": "UPDATE", "3": "INSERT", "4": "DELETE"}
GENERATED = {"": "", "s": "stored", "v": "virtual"}
IDENTITY = {"": "", "a": "always", "d": "by default"}
ROUTINES = {"f": "function", "p": "procedure", "a": "aggregate", "w": "window"}
VOLATILITY = {"i": "immutable", "s": "stable", "v": "volatile"}
TYPES = {"e": "enum", "d": "domain", "r": "range", "c": "composite"}
DEFAULT_KINDS: dict[str, str] = {
    "r": "tables",
    "S": "sequences",
    "f": "functions",
    "T": "types",
    "n": "schemas",
    "L": "large objects",
}
EVENTS = ((4, "INSERT"), (8, "DELETE"), (16, "UPDATE"), (32, "TRUNCATE"))
