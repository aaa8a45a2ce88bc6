"""The recorder's questions to learner and network, and its notes on each agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import State


class Judge(Protocol):
    """Computes what only the learner can: build binds it to the stack and the trainer."""

    def parameters(self, agent: int) -> Vector:
        """Return a copy of the agent's row, `(stride,)`."""

    def error(self, parameters: Vector) -> tuple[float, float] | None:
        """Return objective and error of `(b, stride)`, where they are known."""

    def divergence(self, agents: Sequence[int], parameters: Vector) -> float | None:
        """Return the mean KL divergence of the policies from that of the mean parameters."""

    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return mean greedy returns."""

    def average(self, agents: Sequence[int], parameters: Vector) -> Vector:
        """Return the mean parameters as each agent would run them, `(b, stride)`."""


@dataclass(slots=True)
class Entry:
    """One agent at the end of one of its rounds."""

    parameters: Vector
    time: int
    returns: float
    episodes: int
    loss: float
    bytes_sent: int
    staleness: float
    env_steps: int
    measures: Mapping[str, float]


def distances(rows: Vector, agents: Sequence[int]) -> tuple[list[float], float]:
    """Return each agent's distance to the mean, and the consensus distance sqrt(mean_i ||theta_i - mean||^2)."""
    chosen = rows if len(agents) == len(rows) else rows[list(agents)]
    mean = chosen.mean(axis=0, dtype=np.float64)
    squares = [float(np.square(row - mean).sum()) for row in chosen]
    return [s**0.5 for s in squares], (sum(squares) / len(squares)) ** 0.5


class Sum:
    """A sum of vectors with the rounding error of every addition, so that their order does not matter.

    A collected run then equals a simulated one in which agents finished a round in another order.
    Knuth, The art of computer programming 2, section 4.2.2, theorem B.
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
    """The distance that the mean over agents has moved by mixing alone.

    Args:
        agents: number of agents n.
    """

    def __init__(self, agents: int) -> None:
        self._n = agents
        self._open: dict[int, Sum] = {}
        self._total = np.zeros(0)

    def save(self) -> State:
        """Return the state; arrays are shared."""
        open_rows = {row: found.parts() for row, found in self._open.items()}
        return {"open": open_rows, "total": self._total}

    def restore(self, state: State) -> None:
        """Take over what `save` returned."""
        self._open = {
            row: Sum(high.copy(), error.copy()) for row, (high, error) in state["open"].items()
        }
        self._total = state["total"].copy()

    def add(self, row: int, before: Vector, after: Vector) -> None:
        """Mixing moved one agent, within `row`."""
        moved = np.subtract(after, before, dtype=np.float64)
        if row in self._open:
            self._open[row].add(moved)
        else:
            self._open[row] = Sum(moved)

    def close(self, row: int) -> None:
        """Count what was added to `row`."""
        moved = self._open.pop(row, None)
        if moved is not None:
            mean = moved.total() / self._n
            self._total = self._total + mean if self._total.size else mean

    @property
    def norm(self) -> float:
        """The distance."""
        return float(np.linalg.norm(self._total))
