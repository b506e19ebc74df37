"""2xx: what extensions bring within a client's reach."""

from pytest_tenantproof.catalog import Catalog
from pytest_tenantproof.catalog.model import Function
from pytest_tenantproof.control import Findings, control, falsified_by
from pytest_tenantproof.controls._maps import FUNCTIONS
from pytest_tenantproof.model import Severity

_DATA_EXTENSIONS = frozenset(
    [
        "bloom",
        "btree_gin",
        "btree_gist",
        "citext",
        "cube",
        "dict_int",
        "dict_xsyn",
        "earthdistance",
        "fuzzystrmatch",
        "hstore",
        "intarray",
        "isn",
        "ltree",
        "moddatetime",
        "pg_graphql",
        "pg_hashids",
        "pg_jsonschema",
        "pg_trgm",
        "pg_uuidv7",
        "pgcrypto",
        "pgjwt",
        "pgtap",
        "postgis",
        "postgis_topology",
        "rum",
        "seg",
        "tablefunc",
        "timescaledb",
        "tsm_system_rows",
        "tsm_system_time",
        "unaccent",
        "uuid-ossp",
        "vector",
        "plpgsql",
        "pg_stat_statements",
    ]
)
_TEXT_EXTENSIONS = frozenset({"pgtap", "tablefunc"})
"""Extensions that only compute, but on what a query returns that they are given as text."""


@control(
    "TP247",
    title="Extension functions within a client's reach only compute",
    severity=Severity.CRITICAL,
    requirement="A1",
    maps=FUNCTIONS,
)
@falsified_by("CREATE EXTENSION dblink SCHEMA {schema}")
@falsified_by("CREATE EXTENSION tablefunc SCHEMA {schema}")
def test_extension_functions_are_harmless(catalog: Catalog, findings: Findings) -> None:
    """dblink and http open connections, pageinspect reads raw pages, pg_surgery kills rows: none asks a policy.

    Extensions known to only compute on their arguments are accepted; any other one is a finding as soon as
    a client can call a function of it. One that runs the text it is given, as tablefunc does, must not be in an
    exposed schema.
    """
    reached: dict[str, tuple[Function, str]] = {}
    for function in catalog.snapshot.functions:
        served = function.extension in _TEXT_EXTENSIONS and function.schema in catalog.settings.exposed
        if function.extension and (served or function.extension not in _DATA_EXTENSIONS):
            for role in (r for r in catalog.client_roles if catalog.callable_by(function, r)):
                reached.setdefault(function.extension, (function, role))
    for extension, (function, role) in reached.items():
        detail = f"{role} can call its functions, e.g. {function.signature}"
        findings.add(f"extension {extension}", detail, role=role)
