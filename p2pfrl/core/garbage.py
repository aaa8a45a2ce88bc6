"""How often Python looks for garbage in cycles. This module imports nothing."""

from __future__ import annotations

SELDOM = (50_000, 50, 100)
"""Thresholds of `gc` where nearly all that is made stays, or is freed when it is last used."""
