"""The shape of [tenantproof.elsewhere]. Every field is a key; its docstring line is its documentation."""

from dataclasses import dataclass

__all__ = ["ElsewhereSettings"]


@dataclass(frozen=True, slots=True)
class ElsewhereSettings:
    """[tenantproof.elsewhere]: what a class of target cannot run by design is proven by another target's bundle."""

    max_age_days: int = 7
    """A bundle older than this many days proves nothing here."""
    keys: tuple[str, ...] = ()
    """PEM files of public keys whose bundles count, beside this run's own key; relative to the config file."""
