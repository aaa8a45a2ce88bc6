"""The contract of payloads as a checker that anyone can run on a payload of their own."""

from __future__ import annotations

import numpy as np

from p2pfrl.core.contract import (
    frozen,
    name_of,
    pure,
    require,
    require_array,
    require_rule,
    turn_of,
)
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.turn import NoMemory
from p2pfrl.exchange.payloads.base import Payload


class _Gradient(NoMemory):
    """The memory of an agent whose learner computes a gradient that leads from `start` to `own`."""

    def __init__(self, gradient: Vector) -> None:
        self._gradient = gradient

    def recall(self, name: str) -> Vector:
        """Return the gradient."""
        return self._gradient


def check_payload(rule: Payload) -> None:
    """Raise where a payload of parameters breaks the contract of `Payload`.

    Checked: one agent's payload leads a coordinator at the agent's start to where the agent is, and
    half the way when it is scaled by one half; inputs are left unchanged; equal inputs give equal
    vectors.

    Raises:
        ContractError: with the method, what was expected and what was got.
    """
    require_rule(rule, Payload, "check_payload")
    name, rng = name_of(rule), generator(6, Purpose.CHECK)
    start, own = frozen(rng.standard_normal(6)), frozen(rng.standard_normal(6))
    turn = turn_of(0, own, start, memory=_Gradient(start - own))
    payload = pure(f"{name}.extract", lambda: rule.extract(turn), [start, own])
    require_array(payload, f"{name}.extract", (6,), own.dtype)
    target = rule.target(start, payload)
    require_array(target, f"{name}.target", (6,), own.dtype)
    off = float(np.abs(target - own).max())
    message = f"leads a coordinator at the agent's start {off:.3g} away from the agent"
    require(off < 1e-9, f"{name}.target", message)
    scaled = rule.scaled(payload, start, 0.5)
    require_array(scaled, f"{name}.scaled", (6,), own.dtype)
    half = rule.target(start, scaled)
    off = float(np.abs(half - (start + own) / 2).max())
    require(off < 1e-9, f"{name}.scaled", f"half a payload leads {off:.3g} away from half the way")
