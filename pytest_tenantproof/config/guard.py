"""The shape of [tenantproof.guard]. Every field is a key; its docstring line is its documentation."""

from dataclasses import dataclass

__all__ = ["GuardSettings"]


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """[tenantproof.guard]. Folders are relative to the config file; an empty list says that there is nothing."""

    client_bundles: tuple[str, ...] | None = None
    """Folders of built front-end files, e.g. dist. Unset: the scan control is `not_run`; []: no front end."""
    code_paths: tuple[str, ...] | None = None
    """Folders or files of server code that has to go through the client. Unset: `not_run`; []: there is none here."""
    client_modules: tuple[str, ...] = ()
    """Files (patterns) of the code that may connect by themselves and know service-role credentials."""
    script_paths: tuple[str, ...] | None = None
    """Folders or files of seed, demo and onboarding scripts. Unset: `not_run`; []: there are none."""
    gated_files: tuple[str, ...] = ()
    """Files (patterns), e.g. SQL, that nothing but a gated script runs."""
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
