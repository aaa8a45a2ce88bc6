"""Checker of the participation contract, for built-in rules and a user's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pfrl.consensus.participation.base import Participation, Standing
from p2pfrl.core.contract import described, name_of, require, require_rule
from p2pfrl.core.rng import Purpose, generator


def check_participation(rule: Participation, agents: int = 8) -> None:
    """Raise an error if a participation rule breaks the contract of `Participation`.

    It checks several rounds and sets of present agents. The rule must choose at least one agent
    that is present, unless it `may_choose_nobody`, in sorted order. Equal arguments must give equal
    choices, and `expected` must be between one and all.

    Args:
        rule: the rule to check.
        agents: number of agents n.

    Raises:
        ContractError: with the expected and the actual result.
    """
    require_rule(rule, Participation, "check_participation")
    name, rng = name_of(rule), generator(3, Purpose.CHECK)
    where = f"{name}.choose"
    model = np.zeros(3)
    numbers = {agent: float(agent + 1) for agent in range(agents)}
    trained = dict.fromkeys(range(agents), model)
    for round in range(20):
        count = int(rng.integers(1, agents + 1))
        present = sorted(int(i) for i in rng.choice(agents, count, replace=False))
        seen = Standing(1, model, numbers, numbers, trained, (1.0,))
        found = [rule.choose(round, tuple(present), seen) for _ in range(2)]
        got = f"expected agents, got {described(found[0])}"
        require(isinstance(found[0], Sequence | np.ndarray), where, got)
        chosen, again = map(list, found)
        require(chosen == again, where, f"round {round}: chose {chosen}, then {again}")
        some = bool(chosen) or rule.may_choose_nobody
        require(some, where, f"round {round}: chose nobody of {present}")
        require(set(chosen) <= set(present), where, f"chose {chosen}, but {present} are present")
        require(chosen == sorted(chosen), where, f"expected ascending agents, got {chosen}")
    expected = rule.expected(agents)
    message = f"expected between 0 and {agents} agents, got {expected}"
    require(0.0 <= expected <= agents, f"{name}.expected", message)
