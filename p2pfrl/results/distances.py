"""Distances between agents, and the drift of their mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Layout, Places, Vector
from p2pfrl.core.state import State


class Sums(Protocol):
    """An engine that has the sums of this module, with the same bits; `NativeSums` is one."""

    def add_moves(self, moves: Sequence[Vector], sums: NDArray[np.float64]) -> bool:
        """Add moves to a sum with its rounding errors, as `add_move` does; return whether it did.

        It does not where numbers are none of its own.

        Args:
            moves: vectors before and after a move, in turns.
            sums: `(2, d)` the sum and its rounding errors.
        """

    def squares(
        self, vectors: Sequence[Vector], others: Sequence[Vector], sums: Sequence[Places]
    ) -> list[list[float]]:
        """Return squared distances of each of `others` to the mean of `vectors`, over each sum."""


@dataclass(frozen=True, slots=True)
class Apart:
    """How far agents are from their mean.

    Attributes:
        own: by agent, in order, its distance to the mean.
        consensus: the consensus distance sqrt(mean_i ||theta_i - mean||^2).
        parts: by name, the consensus distance of a part.
    """

    own: list[float]
    consensus: float
    parts: Mapping[str, float]


class Distances:
    """Distances of agents to their mean, over chosen parts of the parameters.

    Few rows at a time become numbers of 64 bits, so that they stay in the processor's cache.

    Args:
        layout: names and shapes of the parameters.
        parts: the parts over which distances are measured; None for all.
        also: parts whose own consensus distance is asked for.
        engine: computes them, where numbers are float32; None: numpy does.
    """

    def __init__(
        self,
        layout: Layout,
        parts: Sequence[str] | None,
        also: Sequence[str] = (),
        engine: Sums | None = None,
    ) -> None:
        self._layout = layout
        self._size = layout.size
        self._engine = engine if layout.dtype == "float32" else None
        stride = layout.stride
        self._also = [part for part in also if part in layout.parts]
        compared = [parts, *((part,) for part in self._also)]
        self._places = [layout.places(own) for own in compared]
        self._rows = [
            [slice(0, stride)] if own is None else [row for _, row in layout.slices(own)]
            for own in compared
        ]
        self._block = max(1, _BLOCK // stride)

    @cached_property
    def _wide(self) -> NDArray[np.float64]:
        """Room for a sum and a block, which an engine does not need."""
        return np.zeros((self._block + 1, self._layout.stride))

    def of(self, vectors: Sequence[Vector]) -> Apart:
        """Return how far agents with parameters `(d,)` each are from their mean."""
        squares, *parts = self._squares(vectors, vectors, len(self._places))
        of_parts = {
            part: (sum(found) / len(found)) ** 0.5
            for part, found in zip(self._also, parts, strict=True)
        }
        return Apart([s**0.5 for s in squares], (sum(squares) / len(squares)) ** 0.5, of_parts)

    def to_mean(self, vectors: Sequence[Vector], others: Sequence[Vector]) -> list[float]:
        """Return the distance of each of `others` to the mean of `vectors`."""
        (found,) = self._squares(vectors, others, 1)
        return [s**0.5 for s in found]

    def _squares(
        self, vectors: Sequence[Vector], others: Sequence[Vector], count: int
    ) -> list[list[float]]:
        """Return squared distances of `others` to the mean, over the first `count` sums."""
        if self._engine is not None:
            return self._engine.squares(vectors, others, self._places[:count])
        mean, squares = self.mean(vectors), [list[float]() for _ in range(count)]
        for wide in self._blocks(others):
            np.subtract(wide, mean, out=wide)
            np.square(wide, out=wide)
            for found, rows in zip(squares, self._rows, strict=False):
                found += _sums(wide, rows)
        return squares

    def mean(self, vectors: Sequence[Vector]) -> NDArray[np.float64]:
        """Return the mean of parameters `(d,)` as a row `(stride,)` of 64 bits."""
        total: NDArray[np.float64] | None = None
        for wide in self._blocks(vectors):
            if total is None:
                total = np.add.reduce(wide, axis=0)
            else:  # the sum so far comes first, as in a sum of all rows
                self._wide[0] = total
                total = np.add.reduce(self._wide[: len(wide) + 1], axis=0)
        assert total is not None
        return total / len(vectors)

    def _blocks(self, vectors: Sequence[Vector]) -> Iterator[NDArray[np.float64]]:
        """Yield some of the vectors after the other as rows, which the next overwrite."""
        for first in range(0, len(vectors), self._block):
            some = vectors[first : first + self._block]
            wide, packed = self._wide[1 : len(some) + 1], np.concatenate(some)
            packed = packed.reshape(len(some), self._size)
            for compact, row in self._layout.slices():
                wide[:, row] = packed[:, compact]
            yield wide


_BLOCK = 2**16
"""Numbers that are looked at together: half a megabyte."""


def _sums(rows: NDArray[np.float64], places: Sequence[slice]) -> list[float]:
    """Return the sum of each row's numbers at some places."""
    chosen = [rows[:, place] for place in places]
    whole = chosen[0] if len(chosen) == 1 else np.concatenate(chosen, axis=1)
    found: list[float] = whole.sum(axis=1).tolist()
    return found


def distances(rows: Vector) -> tuple[list[float], float]:
    """Return the distance of each row `(n, k)` to their mean, and the consensus distance."""
    mean = rows.mean(axis=0, dtype=np.float64)
    squares = [float(np.square(row - mean).sum()) for row in rows]
    return [s**0.5 for s in squares], (sum(squares) / len(squares)) ** 0.5


def add_move(before: Vector, after: Vector, sums: NDArray[np.float64]) -> None:
    """Add `after - before` to a sum with its rounding errors, so that the order does not matter.

    A run collected from processes then equals a simulated run in which agents ended a round in
    another order.

    Reference: Knuth, The art of computer programming 2, section 4.2.2, theorem B.
    """
    total, error = sums
    x = np.subtract(after, before, dtype=np.float64)
    high = total + x
    part = high - total
    error += (total - (high - part)) + (x - part)
    total[:] = high


def add_short_moves(moves: Sequence[Vector], sums: NDArray[np.float64]) -> None:
    """Add moves as `add_move` does one after the other, with a few calls for all of them."""
    total, error = sums
    x = np.subtract(np.array(moves[1::2]), np.array(moves[::2]), dtype=np.float64)
    totals = np.add.accumulate(np.concatenate((total[None], x)), axis=0)
    old, high = totals[:-1], totals[1:]
    part = high - old
    rest = (old - (high - part)) + (x - part)
    total[:] = high[-1]
    error[:] = np.add.accumulate(np.concatenate((error[None], rest)), axis=0)[-1]


_TOGETHER = 16
"""Moves that are added at once: a sum is read and written once for all of them."""
_NUMBERS = 512
"""Numbers that are added at once where vectors are shorter than that."""
_SHORT = 64
"""Numbers of a vector up to which numpy adds several moves in one call."""


@dataclass(slots=True)
class _Moves:
    """The moves of one round: their sum with its rounding errors, and those not yet added.

    Attributes:
        sums: `(2, d)` the sum and its rounding errors.
        most: length of `waiting` at which they are added.
        waiting: vectors before and after a move, in turns.
    """

    sums: NDArray[np.float64]
    most: int
    waiting: list[Vector] = field(default_factory=list)


def _moves(sums: NDArray[np.float64]) -> _Moves:
    """Return a sum to which moves are added."""
    return _Moves(sums, 2 * max(_TOGETHER, _NUMBERS // max(1, sums.shape[1])))


class Drift:
    """The distance that mixing alone has moved the mean over agents.

    Args:
        agents: number of agents n.
        engine: adds moves of float32 numbers; None: numpy adds all.
    """

    def __init__(self, agents: int, engine: Sums | None = None) -> None:
        self._n = agents
        self._engine = engine
        self._open: dict[int, _Moves] = {}
        self._total = np.zeros(0)

    def save(self) -> State:
        """Return the state. Arrays are shared, not copied."""
        for moves in self._open.values():
            self._add(moves)
        open = {row: tuple(moves.sums) for row, moves in self._open.items()}
        return {"open": open, "total": self._total}

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned."""
        self._open = {row: _moves(np.array(sums)) for row, sums in state["open"].items()}
        self._total = state["total"].copy()

    def add(self, row: int, before: Vector, after: Vector) -> None:
        """Add the move of one agent from `before` to `after` by mixing in round `row`."""
        found = self._open.get(row)
        if found is None:
            found = self._open[row] = _moves(np.zeros((2, len(after))))
        waiting = found.waiting
        waiting += (before, after)
        if len(waiting) == found.most:
            self._add(found)

    def close(self, row: int) -> None:
        """Add the moves of round `row` to the drift."""
        moved = self._open.pop(row, None)
        if moved is not None:
            self._add(moved)
            mean = (moved.sums[0] + moved.sums[1]) / self._n
            self._total = self._total + mean if self._total.size else mean

    def _add(self, moves: _Moves) -> None:
        """Add the moves that wait."""
        waiting, sums = moves.waiting, moves.sums
        if not waiting:
            return
        if self._engine is None or not self._engine.add_moves(waiting, sums):
            if sums.shape[1] <= _SHORT:
                add_short_moves(waiting, sums)
            else:
                for before, after in zip(waiting[::2], waiting[1::2], strict=True):
                    add_move(before, after, sums)
        waiting.clear()

    @property
    def norm(self) -> float:
        """Norm of the drift."""
        return float(np.linalg.norm(self._total))
