"""The shape of [tenantproof.guard]. Every field is a key; its docstring line is its documentation."""

from dataclasses import dataclass

__all__ = ["GuardSettings"]


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """[tenantproof.guard]. Folders are relative to the config file; an empty list says that there is nothing."""

    client_bundles: tuple[str, ...] | None = None
    """Folders of built front-end files, e.g. dist. Unset: the scan control is `not_run`; []: no front end."""
    secret_variables: tuple[str, ...] = (
        "SUPABASE_SERVICE_ROLE_KEY",
        "SUPABASE_SECRET_KEY",
        "SUPABASE_JWT_SECRET",
        "SUPABASE_DB_PASSWORD",
        "DEMO_SEED_SECRET",
    )
    """Environment variables whose names, values and hashes no front-end file may hold (TENANTPROOF_* count too)."""
    secret_hashes: tuple[str, ...] = ()
    """sha256:<hex> of secrets to look for where the scan does not get to know them."""
