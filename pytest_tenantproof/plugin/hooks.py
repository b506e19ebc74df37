"""What pytest calls. Without --evidence the plugin adds its options and nothing else."""

import pytest

from pytest_tenantproof.control import FAMILIES

__all__ = ["pytest_addoption", "pytest_configure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tenantproof", "evidence of tenant isolation and recovery")
    group.addoption(
        "--evidence",
        metavar="TARGET",
        help="collect evidence on TARGET: embedded, container, or a name in tenantproof.toml",
    )
    group.addoption("--evidence-dir", metavar="DIR", default="evidence", help="where bundles go (default: evidence/)")
    group.addoption("--evidence-config", metavar="FILE", help="another tenantproof.toml")
    group.addoption(
        "--notify",
        choices=("always", "failure", "never"),
        default="always",
        help="which runs Slack and e-mail are told of: each (default), those that change what is wrong, none",
    )
    group.addoption(
        "--prove",
        action="store_true",
        help="also inject every control's faults into a clone of the target's schema",
    )


def pytest_configure(config: pytest.Config) -> None:
    for family, what in FAMILIES.values():
        config.addinivalue_line("markers", f"{family}: controls of {what}")
    config.addinivalue_line("markers", "gate: critical and high controls a deploy must not break")
    if config.getoption("--evidence"):
        from pytest_tenantproof.plugin.session import register

        register(config)
