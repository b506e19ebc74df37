"""A believable data set for scratch targets: 4 tenants, 16 developments, 320 units, 6,000 messages."""

from pytest_tenantproof.demo.load import fill_demo, load_demo

__all__ = ["fill_demo", "load_demo"]
