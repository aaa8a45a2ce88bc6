"""Checks of a whole scenario: combinations of rules that do not work, with reasons."""
