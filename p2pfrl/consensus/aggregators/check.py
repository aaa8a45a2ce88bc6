"""Checker of the aggregator contract, for built-in rules and a user's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived
from p2pfrl.core.contract import (
    described,
    frozen,
    is_pair,
    name_of,
    pure,
    require,
    require_array,
    require_rule,
)
from p2pfrl.core.rng import Purpose, generator

_SIZE = 5


def check_aggregator(rule: Aggregator, *, averages: bool = True) -> None:
    """Raise an error if an aggregator breaks the contract of `Aggregator`.

    It checks one to six payloads in float32 and float64. The result must have the payloads' shape
    and dtype, be finite and be a new array. Inputs must remain unchanged, and equal inputs must
    give equal results. With `averages` the result must lie between the payloads in every coordinate
    and move with them if all are shifted.

    Args:
        rule: the rule to check.
        averages: False for a rule that does not average its payloads.

    Raises:
        ContractError: with the expected and the actual result.
    """
    require_rule(rule, Aggregator, "check_aggregator")
    where, rng = f"{name_of(rule)}.aggregate", generator(1, Purpose.CHECK)
    for dtype in ("float32", "float64"):
        for count in range(1, 7):
            rows = frozen(rng.standard_normal((count, _SIZE)).astype(dtype))
            weights = rng.integers(1, 9, count).astype(float)

            def aggregate(vectors: np.ndarray, weights: np.ndarray = weights) -> np.ndarray:
                received = [
                    Arrived(i, vector, float(weight))
                    for i, (vector, weight) in enumerate(zip(vectors, weights, strict=True))
                ]
                model = np.zeros_like(vectors[0])
                found = rule.aggregate(received, model, rule.init(model))
                got = f"expected (array, memory), got {described(found)}"
                require(is_pair(found), where, got)
                return found[0]

            everyone = [Arrived(i, row, 1.0) for i, row in enumerate(rows)]
            used = rule.prefer(everyone)
            got = f"expected positions, got {described(used)}"
            require(isinstance(used, Sequence | np.ndarray), f"{name_of(rule)}.prefer", got)
            used = list(used)
            chose = f"expected ascending positions below {count}, at least one, got {used}"
            is_choice = bool(used) and sorted({*used} & {*range(count)}) == used
            require(is_choice, f"{name_of(rule)}.prefer", chose)
            out = pure(where, lambda r=rows: aggregate(r), [rows])  # type: ignore[misc]
            require_array(out, where, (_SIZE,), rows.dtype)
            require(
                not np.shares_memory(out, rows), where, "the result shares memory with a payload"
            )
            if not averages:
                continue
            slack = 1e-5
            low, high = rows.min(axis=0) - slack, rows.max(axis=0) + slack
            between = bool(((out >= low) & (out <= high)).all())
            require(between, where, f"{out} does not lie between its {count} payloads")
            off = float(np.abs(aggregate(rows + rows.dtype.type(3.0)) - out - 3.0).max())
            require(off < slack, where, f"payloads shifted by 3 move the result by {off:.3g} less")
