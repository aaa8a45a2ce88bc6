"""Optimizer steps by the native engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.learning.learners.base import State
from p2pfrl.learning.native.library import Moments, Rule, step
from p2pfrl.learning.optimizers import SGD, Adam, Apply, Factors, Keep, Optimizer, RMSprop

KNOWN = (Adam, RMSprop, SGD, Keep)
"""Optimizers that the engine has."""


class NativeOptimizer:
    """An optimizer whose steps the engine takes; it clips gradients first.

    Attributes:
        moments, squares, counts: of the optimizer.
        rule: the optimizer, as the engine knows it.

    Args:
        optimizer: one of `KNOWN`.
        max_norm: bound on the norm of a gradient, 0 for none.
    """

    def __init__(self, optimizer: Optimizer, max_norm: float = 0.0) -> None:
        self._optimizer = optimizer
        self.moments, self.squares = optimizer.moments, optimizer.squares
        self.counts = optimizer.counts
        self._lr = 0.0 if isinstance(optimizer, Keep) else getattr(optimizer, "lr", 0.0)
        if isinstance(optimizer, Adam):
            self.rule = Rule("adam", optimizer.eps, optimizer.betas, max_norm)
        elif isinstance(optimizer, RMSprop):
            self.rule = Rule("rmsprop", optimizer.eps, (0.0, optimizer.decay), max_norm)
        else:
            self.rule = Rule("sgd" if isinstance(optimizer, SGD) else "keep", max_norm=max_norm)

    def init(self, layout: Layout, rows: int) -> State:
        """Return the state before the first step."""
        return self._optimizer.init(layout, rows)

    def bind(
        self, parameters: Vector, gradient: Vector, state: State, factors: Factors | None = None
    ) -> Apply:
        """Return a function that clips the gradient and takes one step on these arrays."""
        held, rates = self.held(state), self.rates(len(parameters), factors)
        return lambda: step(self.rule, parameters, held, rates, gradient)

    def held(self, state: State) -> Moments:
        """Return the optimizer's arrays."""
        names = ("gradient",) if self.rule.kind == "keep" else self.moments
        arrays: list[Vector] = [state[name] for name in names]  # type: ignore[misc]
        counts: list[Vector] = [state[name] for name in self.counts]  # type: ignore[misc]
        has_two = len(arrays) > 1
        return Moments(
            first=arrays[0] if has_two or self.rule.kind == "keep" else None,
            second=arrays[-1] if has_two or self.rule.kind == "rmsprop" else None,
            counts=counts[0] if counts else None,
        )

    def rates(self, rows: int, factors: Factors | None) -> NDArray[np.float32]:
        """Return the learning rates `(b,)`."""
        factors = np.ones(rows) if factors is None else factors
        return (self._lr * factors).astype(np.float32)
