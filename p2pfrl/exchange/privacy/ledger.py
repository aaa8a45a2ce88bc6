"""The ledger of one agent: what its releases have cost so far. It only grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.state import State, Stateful
from p2pfrl.exchange.privacy.discrete import Words


class Charge(NamedTuple):
    """The entry of a ledger for one release, or for the one that was refused.

    Attributes:
        release: its number, from 0.
        round: in which it was made.
        spent: sum of (sensitivity / sigma)^2 over the releases, this one included.
        refused: whether it was refused: the ledger is closed, and nothing was spent.
    """

    release: int
    round: int
    spent: float
    refused: bool = False


def _nothing(charge: Charge) -> None:
    """Keep no entry: for worlds that keep the ledger itself."""


def simulated(seed: int, agent: int) -> Callable[[int, int], Vector]:
    """Return the noise of a simulated agent, which whoever knows the seed can take off again."""

    def normal(release: int, size: int) -> Vector:
        return generator(seed, agent, Purpose.PRIVACY, release).standard_normal(size)

    return normal


def simulated_words(seed: int, agent: int) -> Callable[[int, int, int], Words]:
    """Return the random bits of a simulated agent, for noise of whole numbers."""

    def words(release: int, part: int, size: int) -> Words:
        rng = generator(seed, agent, Purpose.PRIVACY, release, part)
        return rng.integers(2**64, size=size, dtype=np.uint64)

    return words


def _none(release: int, part: int, size: int) -> Words:
    """Refuse to draw, in a ledger of noise that is not of whole numbers."""
    raise AssertionError("this ledger has no random bits")


class Ledger(Stateful):
    """What the releases of one agent have cost, and the noise that goes with them.

    Gaussian releases compose exactly: their costs (sensitivity / sigma)^2 add up, also where each
    depends on the ones before (Dong, Roth, Su, arXiv 1905.02383, corollary 3.3). A charge is kept
    before it is granted, so a release that nobody knows of does not exist. One that was charged
    and never left is paid for all the same.

    Attributes:
        releases: granted so far.
        spent: sum of (sensitivity / sigma)^2 over them.
        refused: releases that were refused; after the first, all are.

    Args:
        normal: (number of the release, size) -> that many standard normal numbers. No number gives
            the same twice, unless in a simulation that is repeated.
        keep: called with every entry, which is durable when it returns.
        own: a number that nobody else knows, for secret choices; None in a simulation.
        words: (number of the release, part, size) -> that many numbers of 64 random bits, as
            `normal`; for noise of whole numbers.
    """

    STATE: ClassVar[tuple[str, ...]] = ("releases", "spent", "refused")
    __slots__ = ("_keep", "_normal", "_own", "_words", "refused", "releases", "spent")

    def __init__(
        self,
        normal: Callable[[int, int], Vector],
        keep: Callable[[Charge], None] = _nothing,
        own: int | None = None,
        words: Callable[[int, int, int], Words] = _none,
    ) -> None:
        self.releases = 0
        self.spent = 0.0
        self.refused = 0
        self._normal = normal
        self._keep = keep
        self._own = own
        self._words = words

    @property
    def is_closed(self) -> bool:
        """Whether a release was refused: from then on all are, and the agent stays silent."""
        return self.refused > 0

    def charge(self, cost: float, most: float, round: int) -> bool:
        """Return whether a release of this cost is granted; if so it is paid for, and kept.

        Args:
            cost: (sensitivity / sigma)^2.
            most: that may be spent in total; infinity where there is no budget.
            round: in which it is made.
        """
        if self.is_closed or self.spent + cost > most:
            if not self.is_closed:
                self._keep(Charge(self.releases, round, self.spent, refused=True))
            self.refused += 1
            return False
        entry = Charge(self.releases, round, self.spent + cost)
        self._keep(entry)
        self.releases, self.spent = self.releases + 1, entry.spent
        return True

    def adopt(self, state: State) -> None:
        """Take over what the ledger of a predecessor has spent, where that is more."""
        if state["spent"] > self.spent:
            for release in range(self.releases, state["releases"]):
                self._keep(Charge(release, 0, state["spent"]))
            self.releases, self.spent = state["releases"], state["spent"]
        if state["refused"] > self.refused:
            self._keep(Charge(self.releases, 0, self.spent, refused=True))
            self.refused = state["refused"]

    def secret(self, seed: int) -> int:
        """Return a seed of choices that nobody else may know; in a simulation the run's, `seed`."""
        return seed if self._own is None else self._own

    def noise(self, size: int) -> Vector:
        """Return the standard normal numbers of the release that was granted last, `(size,)`."""
        return self._normal(self.releases - 1, size)

    def words(self, part: int, size: int) -> Words:
        """Return 64 random bits each of the release that was granted last, `(size,)`, by part."""
        return self._words(self.releases - 1, part, size)
