"""Thinning of journals: which rounds are written, so that a journal has a bounded size.

All processes write the same rounds, because these depend on the scenario alone. A round that is not
written is part of the next entry: its environment steps, episodes and staleness are added up
(journal.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from p2pfrl.core.parameters import Layout
from p2pfrl.deploy.projection import DIMENSION, LARGE
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES

DEFAULT = 2.0**30
"""Default of `checkpoint.journal`: maximum number of bytes of an agent in journals."""
_DOUBLINGS = 30
"""Doublings of the interval for which a journal of a run without a number of rounds has room."""
_REST = 1200
"""At most so many bytes has an entry beside its vectors: numbers, returns and senders."""
_NOTE, _NOTES = 128, 64
"""Bytes of a coordinator's model, and of every update that it applies."""
_SCORE = 24
"""Most bytes of a sender's scores: two numbers and its id."""


@dataclass(frozen=True, slots=True)
class Thinning:
    """The rounds of which the journal has an entry: at most `rows` of every agent.

    If the number of rounds is known, they are equally far apart, and the last round is one of them.
    Otherwise the first `rows / 16` rounds are written, and after them the interval doubles whenever
    the number of rounds has doubled. The number of entries then grows by the logarithm of the
    number of rounds, and stays below `rows` for 2^30 as many rounds.

    Attributes:
        rows: maximum number of entries of an agent.
        rounds: number of rounds of the run; None if it is not known.
        every: rounds between evaluations, which are hit if possible.
    """

    rows: int
    rounds: int | None
    every: int = 1

    def stride(self, round: int) -> int:
        """Return the number of rounds between entries at `round`."""
        if self.rounds is not None:
            return _aligned(-(-max(1, self.rounds) // self.rows), self.every)
        dense = max(1, (self.rows - _DOUBLINGS) // (1 + _DOUBLINGS // 2))
        return _aligned(2 ** (round // dense).bit_length(), self.every)

    def keeps(self, round: int) -> bool:
        """Return whether `round`, counted from 0, has an entry."""
        is_last = self.rounds is not None and round >= self.rounds - 1
        return is_last or (round + 1) % self.stride(round) == 0

    @property
    def entries(self) -> int:
        """The maximum number of entries of an agent."""
        return self.rows if self.rounds is None else -(-self.rounds // self.stride(0))


def thinning_of(scenario: Scenario, layout: Layout) -> Thinning:
    """Return the thinning of the journals of all processes of a run."""
    mode, own = MODES[scenario.mode], entry_bytes(layout)
    note = _NOTE + _NOTES * scenario.agents if mode.has_coordinator else 0
    if mode.mixes and scenario.mixing.is_robust:
        own += _SCORE * scenario.agents
    if mode.averages and scenario.coordinator.aggregator.is_robust:
        note += _NOTE + _SCORE * scenario.agents
    own = max(own, note)
    limit = DEFAULT if scenario.checkpoint.journal is None else scenario.checkpoint.journal
    return Thinning(max(1, int(limit // own)), scenario.stop.rounds, scenario.evaluation.every)


def entry_bytes(layout: Layout) -> int:
    """Return the maximum number of bytes of an agent's entry, whatever parts travel."""
    size = int(layout.size)
    if size > LARGE:
        return _REST + 8 * DIMENSION * (len(layout.parts) + 1)
    return _REST + 3 * size * int(np.dtype(layout.dtype).itemsize)


@lru_cache(maxsize=256)
def _aligned(stride: int, every: int) -> int:
    """Return the first multiple or divisor of `every` in [stride, 2 stride], else `stride`."""
    if stride >= every:
        return -(-stride // every) * every
    fitting = (k for k in range(stride, min(2 * stride, every) + 1) if every % k == 0)
    return next(fitting, stride)
