"""Sealing audit events, verifying them later, and judging the order that they are in."""

from pytest_tenantproof.audit.events import make_partitions
from pytest_tenantproof.audit.inspect import Sealed, compared, head_of, read_chain
from pytest_tenantproof.audit.order import Order, order
from pytest_tenantproof.audit.seals import Seal, read_seals, seal, seals_folder
from pytest_tenantproof.audit.verify import Tampered, compare

__all__ = [
    "Order",
    "Seal",
    "Sealed",
    "Tampered",
    "compare",
    "compared",
    "head_of",
    "make_partitions",
    "order",
    "read_chain",
    "read_seals",
    "seal",
    "seals_folder",
]
