"""Attacks of Byzantine agents. None is built yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.exchange.attacks.base import Attack

RULES: Members[Attack] = Members(__name__, {})
