"""Test plugins must be named at the root; the fixtures are in tests/conftest.py."""

pytest_plugins = ["pytester"]
