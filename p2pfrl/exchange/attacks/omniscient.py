"""Attacks of agents that know the updates of all honest agents: for the simulator alone.

The honest updates of a message are those that meet at its receiver (`View.honest`). Sums run in
order of agent ids, in float64.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pfrl.core.needs import Need
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.exchange.attacks.base import Knowledge, Memory, MessageAttack, Scene


def honest(vector: Vector, scene: Scene) -> NDArray[np.float64]:
    """Return the honest updates that meet at the receiver, `(h, k)`; the own one if none does."""
    found = scene.sight.honest(scene.turn, scene.to)
    return np.array([*found.values()] or [vector], dtype=np.float64)


def colluders(scene: Scene) -> int:
    """Return how many agents that make this attack send to the receiver, this one included."""
    there = {*scene.sight.senders(scene.to, scene.turn.round), scene.turn.agent}
    return len(there.intersection(scene.attackers))


@rule
class AverageZero(MessageAttack):
    """Send -(1 / f) sum of the honest x, so that the plain mean is 0 (omniscient).

    f is how many agents with this attack send to the receiver.

    Reference: Jordan, Grötschla, Fan, Wattenhofer, Decentralized federated policy gradient with
        Byzantine fault-tolerance and provably fast convergence, AAMAS 2024, arXiv 2401.03489
        (AvgZero).
    """

    knowledge: ClassVar[Knowledge] = "omniscient"
    is_per_receiver: ClassVar[bool] = True

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return -(1 / f) sum_j x_j."""
        moved: Vector = -honest(vector, scene).sum(axis=0) / colluders(scene)
        return moved


@rule
class ALittleIsEnough(MessageAttack):
    """Send mean - z std of the honest x, within their spread (omniscient; std with ddof = 1).

    Where z is not given, z = Phi^-1((h - s) / h) with h honest agents, f that make this attack,
    n = h + f, and s = floor(n / 2 + 1) - f, at least 1: of the honest agents that many must be
    farther from the mean for a majority. Of a single honest x the std is 0.

    Attributes:
        z: standard deviations; from n and f by default.

    Reference: Baruch, Baruch, Goldberg, A little is enough: circumventing defenses for distributed
        learning, NeurIPS 2019, arXiv 1902.06156.
    """

    knowledge: ClassVar[Knowledge] = "omniscient"
    is_per_receiver: ClassVar[bool] = True
    z: float | None = None

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return mean - z std."""
        rows = honest(vector, scene)
        z = self.z if self.z is not None else usual_z(len(rows), colluders(scene))
        std = rows.std(axis=0, ddof=1) if len(rows) > 1 else 0.0
        moved: Vector = rows.mean(axis=0) - z * std
        return moved


def usual_z(honest: int, attackers: int) -> float:
    """Return Phi^-1((h - s) / h), s = floor(n / 2 + 1) - f, kept within 1 and h - 1.

    >>> round(usual_z(10, 3), 4)
    0.2533
    """
    needed = math.floor((honest + attackers) / 2 + 1) - attackers
    needed = min(max(needed, 1), max(honest - 1, 1))
    share = (honest - needed) / honest
    return NormalDist().inv_cdf(share) if share > 0 else 0.0


@rule
class InnerProduct(MessageAttack):
    """Send -eps times the mean of the honest x (omniscient; inner product manipulation).

    Attributes:
        eps: factor.

    Reference: Xie, Koyejo, Gupta, Fall of empires: breaking Byzantine-tolerant SGD by inner product
        manipulation, UAI 2019, arXiv 1903.03936.
    """

    knowledge: ClassVar[Knowledge] = "omniscient"
    is_per_receiver: ClassVar[bool] = True
    eps: float = Field(default=0.1, ge=0)

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return -eps mean_j x_j."""
        moved: Vector = -self.eps * honest(vector, scene).mean(axis=0)
        return moved


@rule
class Dissensus(MessageAttack):
    """Send x_i - eps sum_j w_ij (x_j - x_i) / sum_b w_ib to the neighbor i (omniscient).

    j are the honest neighbors of i, b its neighbors with this attack. With eps = 1 plain averaging
    leaves i where it is, and with more it moves away from its neighbors. Neighbors with weight 0
    get x_i.

    Attributes:
        eps: strength.

    Reference: He, Karimireddy, Jaggi, Byzantine-robust decentralized learning via ClippedGossip,
        2022, arXiv 2202.01545.
    """

    knowledge: ClassVar[Knowledge] = "omniscient"
    is_per_receiver: ClassVar[bool] = True
    needs = (*MessageAttack.needs, Need.NEIGHBORS, Need.PARAMETERS)
    eps: float = Field(default=1.5, ge=0)

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return what drives the receiver away from its honest neighbors."""
        row = scene.sight.weights(scene.to, scene.turn.round)
        found = scene.sight.honest(scene.turn, scene.to)
        here = found.get(scene.to)
        here = scene.sight.vector(scene.to) if here is None else here
        if here is None:
            return vector  # the receiver is not there
        own = np.array(here, dtype=np.float64)
        pull = np.zeros_like(own)
        for j, there in found.items():
            if j != scene.to:
                pull += row.get(j, 0.0) * (there - own)
        share = sum(row.get(b, 0.0) for b in scene.attackers if b != scene.to)
        return own - self.eps * pull / share if share else own


@rule
class Sybil(MessageAttack):
    """Send the x of the first agent with this attack, under many names (omniscient).

    It is the first of those that are there.
    """

    knowledge: ClassVar[Knowledge] = "omniscient"

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return the x of the first."""
        for first in scene.attackers:
            if first == scene.turn.agent:
                return vector
            if (found := scene.sight.vector(first)) is not None:
                return found
        return vector
