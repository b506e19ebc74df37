"""Hooks (thin), collection, fixtures, xdist."""
