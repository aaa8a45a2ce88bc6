"""The contract of gates as a checker that anyone can run on a gate of their own."""

from __future__ import annotations

import numpy as np

from p2pfrl.core.contract import (
    ANSWER_AND_STATE,
    described,
    is_answer,
    name_of,
    pure,
    require,
    require_rule,
    turn_of,
)
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.turn import NoMemory
from p2pfrl.exchange.gates.base import Gate


class _Answers(NoMemory):
    """The memory of an agent whose learner answers every question with a one."""

    def recall(self, name: str) -> Vector:
        """Return a one."""
        return np.ones(1)


def check_gate(rule: Gate) -> None:
    """Raise where a gate breaks the contract of `Gate`; return silently where it keeps it.

    Checked over some exchanges: it answers True or False; it writes to nothing it sees; equal
    exchanges and states give equal answers.

    Raises:
        ContractError: with what was expected and what was got.
    """
    require_rule(rule, Gate, "check_gate")
    rule, rng = rule.bind(4), generator(4, Purpose.CHECK)
    where = f"{name_of(rule)}.decide"
    start = np.zeros(6)
    state = rule.init(start.copy())
    for count in range(8):
        payload = rng.standard_normal(6)
        turn = turn_of(0, payload, start, round=count, memory=_Answers())
        call = lambda p=payload, t=turn, s=state: rule.decide(p, t, s)  # noqa: E731
        answer = pure(where, call, [payload, start])
        got = f"expected {ANSWER_AND_STATE}, got {described(answer)}"
        require(is_answer(answer), where, got)
        state = answer[1]
