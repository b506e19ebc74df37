"""tenantproof.toml + environment -> Settings."""

from pytest_tenantproof.config.load import find_config, load_settings, settings_from
from pytest_tenantproof.config.settings import (
    ChildTable,
    DerivedTable,
    Reference,
    Settings,
    TargetSettings,
    environment_name,
)

__all__ = [
    "ChildTable",
    "DerivedTable",
    "Reference",
    "Settings",
    "TargetSettings",
    "environment_name",
    "find_config",
    "load_settings",
    "settings_from",
]
