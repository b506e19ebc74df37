"""The baseline product, as the tests of migrations have it."""

from tests.migrate.conftest import baseline_template, product, untouched

__all__ = ["baseline_template", "product", "untouched"]
