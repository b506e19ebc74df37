"""Nothing is configured here: test fixtures are in tests/conftest.py, the plugin comes by its entry point."""
