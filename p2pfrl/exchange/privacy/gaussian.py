"""Differential privacy of agents: clip what training changed, and add Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.needs import Breaks, By, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.exchange.privacy.accountant import epsilon_of_gaussian, moved, mu_of, spending
from p2pfrl.exchange.privacy.base import Privacy
from p2pfrl.exchange.privacy.ledger import Ledger

SENSITIVITY = {"add_remove": 1.0, "replace": 2.0}
"""How far one agent moves a release, in units of the clipping norm."""


_MOST_DECAY = 30.0
"""Logarithm of the largest ratio of the first noise to the last."""


@rule
class Gaussian(Privacy):
    """Options of Gaussian releases: their bound, their noise, and what they cost.

    Class variables of a rule:
        guarantee: whom agents trust, in words.

    Attributes:
        clip: C, the largest norm of a change. One that is not finite counts as zero.
        norm: "vector": C bounds the Euclidean norm; "entry": C bounds every number, as the entries
            of a table, and the Euclidean norm by C sqrt(k), with which the noise grows.
        noise_multiplier: sigma, unless `target_epsilon` gives it.
        target_epsilon: the epsilon of all releases of an agent; sigma follows from it.
        releases: of an agent, over which `target_epsilon` holds; `stop.rounds` by default. It may
            make no more.
        delta: the probability with which epsilon may be exceeded; below 1 / agents.
        adjacency: "add_remove": an agent contributes or does not, which moves a release by C;
            "replace": it contributes something else, by 2 C.
        budget: epsilon that no agent passes: it refuses the release that would. By default that of
            `target_epsilon`, else none.
        decay: sigma of an agent's release k is sigma decay^k: later changes are smaller.
    """

    is_accounted: ClassVar[bool] = True
    guarantee: ClassVar[str] = (
        "local: every agent adds its own noise before it sends, and trusts nobody"
    )

    clip: float = Field(gt=0)
    norm: Literal["vector", "entry"] = "vector"
    noise_multiplier: float = Field(default=1.0, gt=0)
    target_epsilon: float | None = Field(default=None, gt=0)
    releases: int | None = Field(default=None, ge=1)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    adjacency: Literal["add_remove", "replace"] = "add_remove"
    budget: float | None = Field(default=None, gt=0)
    decay: float = Field(default=1.0, gt=0, le=1)

    def __post_init__(self) -> None:
        if self.target_epsilon is not None and self.noise_multiplier != 1.0:
            raise ValueError("sigma follows from target_epsilon: leave noise_multiplier out")
        if self.target_epsilon is not None and self.budget is not None:
            raise ValueError("target_epsilon is the budget, too: leave budget out")

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        """The number of releases, where sigma does not follow from it."""
        return ("releases",) if self.target_epsilon is None and self.releases is not None else ()

    @override
    def release(self, payload: Vector) -> Vector:
        """Return the payload: it is made of protected changes."""
        return payload

    @override
    def misfit(self, releases: int | None) -> tuple[str, str] | None:
        """Return what a noise lacks, a decay that ends in none, or a budget of no release."""
        count = self.releases or releases
        if self.target_epsilon is not None and count is None:
            return "releases", "set it, or stop.rounds: sigma for target_epsilon follows from it"
        if (count or 0) * -math.log(self.decay) > _MOST_DECAY:
            return "decay", (
                f"after {count} releases the noise would be {self.decay:g}^{count} of the first; use one nearer to 1"
            )
        if self.budget is not None and self.cost(0) > self.most:
            first = self.epsilon(self.cost(0))
            return "budget", (
                f"one release costs epsilon {first:.4g}, and {self.budget:g} is all that may be spent: nobody would "
                "ever send; raise budget or noise_multiplier"
            )
        return None

    @override
    def planned(self, releases: int | None) -> Self:
        """Return the rule with sigma and budget instead of `target_epsilon`."""
        if self.target_epsilon is None:
            return self
        count = self.releases or releases
        assert count is not None, "checked by scenario/checks/privacy.py"
        return replace(
            self,
            noise_multiplier=self.least_noise(self.target_epsilon, count),
            target_epsilon=None,
            releases=None,
            budget=self.target_epsilon,
        )

    def least_noise(self, epsilon: float, releases: int) -> float:
        """Return the least sigma of the first release that keeps all of them to `epsilon`."""
        return _noise(SENSITIVITY[self.adjacency], self.decay, releases, epsilon, self.delta)

    def clipped(self, change: Vector) -> Vector:
        """Return the change within its bound, float64, a new array."""
        values = np.array(change, dtype=np.float64)
        if not np.isfinite(values).all():
            return np.zeros_like(values)
        if self.norm == "entry":
            return np.clip(values, -self.clip, self.clip)
        norm = float(np.linalg.norm(values))
        return values * (self.clip / norm) if norm > self.clip else values

    def bound(self, size: int) -> float:
        """Return the largest Euclidean norm of a clipped change of `size` numbers."""
        return self.clip * (math.sqrt(size) if self.norm == "entry" else 1.0)

    def sigma(self, release: int) -> float:
        """Return the noise of an agent's release of this number, in units of the bound."""
        return _sigma(self.noise_multiplier, self.decay, release)

    def cost(self, release: int) -> float:
        """Return (sensitivity / sigma)^2 of a release."""
        return _cost(SENSITIVITY[self.adjacency], self.noise_multiplier, self.decay, release)

    @property
    def share(self) -> float:
        """The part of the noise that one agent adds; 1 where it adds all of it."""
        return 1.0

    @property
    def most(self) -> float:
        """What a ledger may spend: mu^2 of the budget."""
        return math.inf if self.budget is None else _spending(self.budget, self.delta)

    @override
    def epsilon(self, spent: float) -> float:
        """Return the exact epsilon of Gaussian releases of mu^2 = `spent`."""
        found = _epsilon_of(math.sqrt(spent), self.delta)
        return found if self.budget is None or spent > self.most else min(found, self.budget)


@rule
class ClipNoise(Gaussian):
    """D <- D min(1, C / ||D||) + N(0, (sigma C)^2 I), D `(k,)` the change since the last exchange.

    The agent goes on with this change in place of its own, so all that it ever sends follows from
    noised changes, whatever mixing, gate and compressor make of them: one release per exchange,
    however many neighbors hear it. Every agent adds its own noise before it sends, and trusts
    nobody (local privacy). The unit is the agent: all that it contributes to a release. Between
    neighbors it sends parameters, which add up released changes; to a coordinator it sends the
    change, or a gradient. With a budget that is spent an agent goes on training and receiving, and
    sends skips. Who sends when, and how long training takes, is not protected. Noise of floating
    point numbers has known attacks (Mironov, CCS 2012).

    T releases of one sigma cost as much as one of sigma / sqrt(T); epsilon is exact
    (exchange/privacy/accountant.py). Nothing is claimed of sampling, because all see who sends.

    Reference: McMahan, Ramage, Talwar, Zhang, Learning differentially private recurrent language
        models, ICLR 2018, arXiv 1710.06963, with the noise added by each agent; between neighbors:
        Cyffers, Even, Bellet, Massoulie, Muffliato, NeurIPS 2022, arXiv 2206.05091.
    """

    @property
    @override
    def needs(self) -> Needs:
        """Changes of bounded size; with a budget a run that ends although agents fall silent."""
        has_end = self.budget is not None or self.target_epsilon is not None
        return (Need.BOUNDED, *((Need.PROGRESS,) if has_end else ()))

    @property
    @override
    def breaks(self) -> Breaks:
        """What travels in the clear, and, with a budget, messages that an agent cannot pay for."""
        silent = (Need.EVERY_MESSAGE, Need.EVERY_ANSWER, Need.WHOLE_EXCHANGES, Need.BOTH_ENDS)
        kept = () if self.budget is None else tuple(By(need, "budget") for need in silent)
        return (Need.CLEAR, Need.STEPS_OF_EACH, Need.ORDER, *kept)

    @override
    def protect(self, change: Vector, ledger: Ledger, round: int) -> Vector | None:
        """Return the change, clipped and noised, if the ledger grants it."""
        sigma = self.sigma(ledger.releases)
        if not ledger.charge(self.cost(ledger.releases), self.most, round):
            return None
        values = self.clipped(change)
        values += self.share * sigma * self.bound(len(change)) * ledger.noise(len(change))
        return values.astype(change.dtype)


def _sigma(first: float, decay: float, release: int) -> float:
    return first * decay**release


def _cost(sensitivity: float, first: float, decay: float, release: int) -> float:
    return (sensitivity / _sigma(first, decay, release)) ** 2


@lru_cache(maxsize=256)
def _noise(sensitivity: float, decay: float, releases: int, epsilon: float, delta: float) -> float:
    """Return the least noise of the first release with which a ledger grants all of them."""
    most = _spending(epsilon, delta)
    total = math.sqrt(sum(decay ** (-2 * number) for number in range(releases)))
    first = sensitivity * total / mu_of(epsilon, delta)
    return granted(first, sensitivity, decay, releases, most)


def granted(first: float, sensitivity: float, decay: float, releases: int, most: float) -> float:
    """Return the noise from `first` on with which a ledger grants all releases.

    A ledger adds their costs one after the other, and rounds each sum.
    """

    def is_granted(noise: float) -> bool:
        own = range(releases) if decay < 1.0 else (0,)
        costs = [_cost(sensitivity, noise, decay, number) for number in own]
        return float(np.cumsum(costs if decay < 1.0 else np.full(releases, costs[0]))[-1]) <= most

    return moved(first, is_granted, 1.0)


_spending = lru_cache(maxsize=256)(spending)
_epsilon_of = lru_cache(maxsize=65536)(epsilon_of_gaussian)
