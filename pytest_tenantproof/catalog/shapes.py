"""What the server writes for a stored expression, asked for once for all objects that must give the same text.

To write an expression as SQL the server opens its table, which for thousands of tables costs more than all other
reading. A stored tree (pg_node_tree) numbers the columns of its own table, so that equal trees over equally named
columns are written alike, unless the table's own name can come into the text.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from pytest_tenantproof.errors import CatalogError

__all__ = ["names_its_table", "written"]

# Its name may be written, or decide how another one is: before columns in the reach of a FROM clause, for a column of
# an enclosing query, and for a whole row.
_NAMED = re.compile(r":(rtekind|varlevelsup [1-9]|varattno 0\b)")


@lru_cache(maxsize=1000)
def names_its_table(tree: str) -> bool:
    """Whether the text of a stored tree may depend on more of its table than the columns' names."""
    return _NAMED.search(tree) is not None


def written(
    shapes: dict[int, object], ask: Callable[[list[int]], Iterable[tuple[Any, ...]]]
) -> dict[int, tuple[str, ...]]:
    """The texts of each object, by oid. `ask` gives (oid, text, ...) for one object of each shape.

    Raises CatalogError when the server does not write one, as for a table that was dropped just now.
    """
    first: dict[object, int] = {}
    for oid, shape in shapes.items():
        first.setdefault(shape, oid)
    texts = {oid: tuple(found) for oid, *found in ask(list(first.values()))}
    if any(None in texts.get(oid, (None,)) for oid in first.values()):
        raise CatalogError("the schema changed while it was read.", remedy="run it again when no migration runs.")
    return {oid: texts[first[shape]] for oid, shape in shapes.items()}
