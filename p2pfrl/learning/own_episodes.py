"""Policy gradients of episodes that belong to no agent: a coordinator plays them."""

from __future__ import annotations

import numpy as np
from typing_extensions import override

from p2pfrl.core.own_episodes import OwnEpisodes
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.learning.corrections.base import Again, Correction, State
from p2pfrl.learning.learners.base import Batch, Stack

_GRADIENT = "gradient"


class Elsewhere(Correction):
    """Leaves the gradient as it is, and computes the one at another point on the same samples.

    Attributes:
        other: `(1, stride)` the other point.
        found: `(1, stride)` the gradient there.
    """

    @property
    @override
    def bends(self) -> bool:
        """Yes: it asks for gradients elsewhere."""
        return True

    def __init__(self) -> None:
        self.other: Vector = np.zeros((1, 0))
        self.found: Vector = np.zeros((1, 0))

    @override
    def adjust(self, rows: Vector, gradient: Vector, state: State, again: Again) -> None:
        """Compute the gradient at the other point."""
        self.found = again(self.other)


class StackEpisodes(OwnEpisodes):
    """Episodes of a learner that computes gradients and takes no steps.

    Args:
        stack: bound to an environment, with `elsewhere` as its correction.
        elsewhere: the correction.
        parts: of the parameters, which vectors hold.
        start: `(1, stride)` the parts that vectors do not hold.
        seed: of the run.
    """

    def __init__(
        self, stack: Stack, elsewhere: Elsewhere, parts: tuple[str, ...], start: Vector, seed: int
    ) -> None:
        self._stack, self._elsewhere, self._parts = stack, elsewhere, parts
        self._start, self._seed = start, seed

    @override
    def gradients(self, model: Vector, before: Vector, number: int) -> tuple[Vector, Vector]:
        layout = self._stack.layout
        self._elsewhere.other = self._row(before)
        state = self._stack.init([0]) | {_GRADIENT: np.zeros_like(self._start)}
        found = self._stack.update(Batch([0], [number], self._row(model), state)).state[_GRADIENT]
        return layout.pack(found[0], self._parts), layout.pack(
            self._elsewhere.found[0], self._parts
        )

    @override
    def generator(self, number: int) -> np.random.Generator:
        return generator(self._seed, Purpose.TRAJECTORIES, number)

    def _row(self, vector: Vector) -> Vector:
        row = self._start.copy()
        self._stack.layout.unpack(vector, row[0], self._parts)
        return row
