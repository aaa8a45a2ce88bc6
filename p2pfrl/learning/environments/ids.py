"""The ids of classes and functions that make environments."""

from __future__ import annotations

from typing import Any

from p2pfrl.core.modules import place_of

PETTINGZOO = "pettingzoo:"
"""Begins ids of PettingZoo environments."""


def id_of(maker: Any) -> str:
    """Return the id of a class or function: its place, after `pettingzoo:` for one of PettingZoo.

    That is a class whose spaces are methods, which take the name of an agent.
    """
    spaces = (getattr(maker, name, None) for name in ("observation_space", "action_space"))
    prefix = PETTINGZOO if isinstance(maker, type) and all(map(callable, spaces)) else ""
    return prefix + place_of(maker)
