"""Checker of the server optimizer contract, for built-in rules and a user's own."""

from __future__ import annotations

import numpy as np

from p2pfrl.consensus.server_optimizers.base import ServerOptimizer
from p2pfrl.core.contract import (
    frozen,
    name_of,
    pure,
    require,
    require_array,
    require_pair,
    require_rule,
)
from p2pfrl.core.rng import Purpose, generator


def check_server_optimizer(rule: ServerOptimizer) -> None:
    """Raise an error if a server optimizer breaks the contract of `ServerOptimizer`.

    It checks some steps in float32 and float64. The model must keep its shape and dtype and stay
    finite. Inputs must remain unchanged, and equal inputs must give equal results. A model at its
    target must not move.

    Raises:
        ContractError: with the expected and the actual result.
    """
    require_rule(rule, ServerOptimizer, "check_server_optimizer")
    where, rng = f"{name_of(rule)}.step", generator(2, Purpose.CHECK)
    for dtype in ("float32", "float64"):
        model = rng.standard_normal(4).astype(dtype)
        found = rule.step(model, model.copy(), 1.0, rule.init(model))
        require_pair(found, where)
        stayed = found[0]
        require_array(stayed, where, (4,), np.dtype(dtype))
        moved = float(np.abs(stayed - model).max())
        require(moved == 0.0, where, f"a model at its target moved by {moved:.3g}")
        state = rule.init(model)
        for _ in range(5):
            model = frozen(model)
            target = frozen((model + rng.standard_normal(4)).astype(dtype))
            call = lambda m=model, t=target, s=state: rule.step(m, t, 0.5, s)  # noqa: E731
            found = pure(where, call, [model, target])
            require_pair(found, where)
            model, state = found
            require_array(model, where, (4,), np.dtype(dtype))
