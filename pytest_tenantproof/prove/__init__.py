"""Negative controls: each control's faults, injected into a clone of the target's schema."""
