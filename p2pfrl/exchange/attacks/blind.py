"""Attacks of agents that know nothing but their own update."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from p2pfrl.core.needs import Breaks, Need
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose
from p2pfrl.core.rule import rule
from p2pfrl.exchange.attacks.base import Knowledge, Memory, MessageAttack, Scene


@rule
class SignFlip(MessageAttack):
    """Send -c x in place of x (blind).

    Attributes:
        scale: c.

    Reference: Fan, Ma, Dai, Jing, Tan, Low, Fault-tolerant federated reinforcement learning with
        theoretical guarantee, NeurIPS 2021, arXiv 2110.14074 (c = 2.5 in its code).
    """

    knowledge: ClassVar[Knowledge] = "blind"
    scale: float = 2.5

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return -c x."""
        return -self.scale * vector


@rule
class Noise(MessageAttack):
    """Send noise in place of x: U(-a, a), or N(0, a^2), in every message (blind).

    Attributes:
        law: uniform or normal.
        scale: a. With the uniform law and 1000 it is the "LargeNoise" of the reference.

    Reference: Jordan, Grötschla, Fan, Wattenhofer, Decentralized federated policy gradient with
        Byzantine fault-tolerance and provably fast convergence, AAMAS 2024, arXiv 2401.03489.
    """

    knowledge: ClassVar[Knowledge] = "blind"
    law: Literal["uniform", "normal"] = "uniform"
    scale: float = Field(default=1000.0, ge=0)

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return noise."""
        rng, size = scene.turn.generator(Purpose.ATTACK), len(vector)
        if self.law == "normal":
            return self.scale * rng.standard_normal(size)
        return rng.uniform(-self.scale, self.scale, size)


@rule
class Zero(MessageAttack):
    """Send 0 in place of x (blind)."""

    knowledge: ClassVar[Knowledge] = "blind"

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return zeros."""
        return np.zeros_like(vector)


@rule
class Constant(MessageAttack):
    """Send the same number in place of every number of x (blind).

    Attributes:
        value: the number.
    """

    knowledge: ClassVar[Knowledge] = "blind"
    value: float = 1.0

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return the number, `(k,)`."""
        return np.full_like(vector, self.value)


@rule
class NotFinite(MessageAttack):
    """Send NaN, or infinity, in place of x (blind).

    Receivers refuse the message and count who sent it.

    Attributes:
        value: nan or inf.
    """

    knowledge: ClassVar[Knowledge] = "blind"
    breaks: ClassVar[Breaks] = (Need.MASS, Need.EVERY_MESSAGE, Need.EVERY_ANSWER)
    value: Literal["nan", "inf"] = "nan"

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return what is no number, `(k,)`."""
        return np.full_like(vector, float(self.value))


@rule
class Replay(MessageAttack):
    """Send the own x of so many exchanges ago; until there is one, the first (blind).

    Attributes:
        rounds: exchanges between making a vector and sending it.
    """

    knowledge: ClassVar[Knowledge] = "blind"
    rounds: int = Field(default=1, ge=1)

    def remember(self, vector: Vector, memory: Memory) -> Memory:
        """Return the last `rounds` + 1 vectors, the oldest first."""
        return (*memory[-self.rounds :], vector.copy())

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return the oldest."""
        return memory[0]


@rule
class TwoFaced(MessageAttack):
    """Send c x to every other neighbor, by id, and -c x to those between (blind).

    Attributes:
        scale: c.
    """

    knowledge: ClassVar[Knowledge] = "blind"
    is_per_receiver: ClassVar[bool] = True
    needs = (*MessageAttack.needs, Need.NEIGHBORS)
    scale: float = 1.0

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return the face that this receiver sees."""
        is_first = scene.receivers.index(scene.to) % 2 == 0
        return (self.scale if is_first else -self.scale) * vector
