"""Test vectors of the backup format."""
