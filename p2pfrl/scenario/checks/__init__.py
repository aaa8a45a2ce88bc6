"""Checks of a whole scenario: what cannot be together, and why."""
