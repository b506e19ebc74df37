"""A safe way home for rows that lost their parent, their tenant, or both."""

from pytest_tenantproof.recover.run import Step, apply_plan, plan, undo

__all__ = ["Step", "apply_plan", "plan", "undo"]
