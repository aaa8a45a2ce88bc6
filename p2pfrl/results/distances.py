"""Distances between agents, and the drift of their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.core.state import State


class Distances:
    """Distances of agents to their mean, over chosen parts of the parameters.

    Args:
        layout: names and shapes of the parameters.
        parts: the parts over which distances are measured; None for all.
    """

    def __init__(self, layout: Layout, parts: Sequence[str] | None) -> None:
        self._layout = layout
        self._parts = parts

    def of(self, parameters: Vector, agents: Sequence[int]) -> tuple[list[float], float]:
        """Return each agent's distance to the mean, and the consensus distance."""
        rows = parameters if self._parts is None else self._layout.pack(parameters, self._parts)
        return distances(rows, agents)

    def to_mean(
        self, parameters: Vector, agents: Sequence[int], others: Sequence[int]
    ) -> list[float]:
        """Return the distance of each of `others` to the mean of `agents`."""
        rows = parameters if self._parts is None else self._layout.pack(parameters, self._parts)
        mean = rows[list(agents)].mean(axis=0, dtype=np.float64)
        return [float(np.square(rows[i] - mean).sum()) ** 0.5 for i in others]

    def of_part(self, part: str, parameters: Vector, agents: Sequence[int]) -> float:
        """Return the consensus distance of one part, nan if there is no such part."""
        if part not in self._layout.parts:
            return float("nan")
        chosen = self._layout.pack(parameters[list(agents)], (part,))
        return distances(chosen, range(len(agents)))[1]


def distances(rows: Vector, agents: Sequence[int]) -> tuple[list[float], float]:
    """Return each agent's distance to the mean, and the consensus distance.

    The consensus distance is sqrt(mean_i ||theta_i - mean||^2).
    """
    chosen = rows if len(agents) == len(rows) else rows[list(agents)]
    mean = chosen.mean(axis=0, dtype=np.float64)
    squares = [float(np.square(row - mean).sum()) for row in chosen]
    return [s**0.5 for s in squares], (sum(squares) / len(squares)) ** 0.5


class Sum:
    """A sum of vectors with rounding errors kept, so that the order of addition does not matter.

    A run collected from processes then equals a simulated run in which agents ended a round in
    another order.

    Reference: Knuth, The art of computer programming 2, section 4.2.2, theorem B.
    """

    __slots__ = ("_error", "_high")

    def __init__(
        self, first: NDArray[np.float64], error: NDArray[np.float64] | None = None
    ) -> None:
        self._high = first
        self._error = np.zeros_like(first) if error is None else error

    def parts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the sum and its rounding error."""
        return self._high, self._error

    def add(self, x: NDArray[np.float64]) -> None:
        """Add a vector."""
        high = self._high + x
        part = high - self._high
        self._error += (self._high - (high - part)) + (x - part)
        self._high = high

    def total(self) -> NDArray[np.float64]:
        """Return the sum, rounded once."""
        total: NDArray[np.float64] = self._high + self._error
        return total


class Drift:
    """The distance that mixing alone has moved the mean over agents.

    Args:
        agents: number of agents n.
    """

    def __init__(self, agents: int) -> None:
        self._n = agents
        self._open: dict[int, Sum] = {}
        self._total = np.zeros(0)

    def save(self) -> State:
        """Return the state. Arrays are shared, not copied."""
        open_rows = {row: found.parts() for row, found in self._open.items()}
        return {"open": open_rows, "total": self._total}

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned."""
        self._open = {
            row: Sum(high.copy(), error.copy()) for row, (high, error) in state["open"].items()
        }
        self._total = state["total"].copy()

    def add(self, row: int, before: Vector, after: Vector) -> None:
        """Add the move of one agent from `before` to `after` by mixing in round `row`."""
        moved = np.subtract(after, before, dtype=np.float64)
        if row in self._open:
            self._open[row].add(moved)
        else:
            self._open[row] = Sum(moved)

    def close(self, row: int) -> None:
        """Add the moves of round `row` to the drift."""
        moved = self._open.pop(row, None)
        if moved is not None:
            mean = moved.total() / self._n
            self._total = self._total + mean if self._total.size else mean

    @property
    def norm(self) -> float:
        """Norm of the drift."""
        return float(np.linalg.norm(self._total))
