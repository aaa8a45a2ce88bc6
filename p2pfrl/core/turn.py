"""A turn: an agent's vectors, training results and memory, as its rules see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import generator


class Memory(Protocol):
    """The vectors that an agent keeps beside its parameters.

    Its learner sees them (learning/model.py).
    """

    def recall(self, name: str) -> Vector:
        """Return the vector `name` as a new array.

        For a state array of the shape of the parameters, only the shared parts `(k,)` are returned.
        """

    def store(self, name: str, vector: Vector) -> None:
        """Write the shared parts `(k,)` of the vector `name`."""

    def mark(self, name: str) -> None:
        """Store the parameters as they are now as the vector `name`, personal parts included."""

    def receive(self, name: str, received: Mapping[int, Vector]) -> None:
        """Let the learner learn from the vectors `name` of others, given by sender.

        This is for vectors that are not averaged.
        """

    def try_out(self, vectors: Sequence[Vector], episodes: int, index: int) -> list[float]:
        """Return the mean return of each of the shared vectors `(k,)` in the agent's environment.

        All play the same episodes, which (seed, agent, index) name.
        """

    @property
    def companions(self) -> tuple[int, ...]:
        """The other members of the agent's world, where it plays against what it knows of them."""

    def hear(self, received: Mapping[int, Vector]) -> None:
        """Note the shared vectors of others, given by agent, where the agent plays against them."""


class NoMemory:
    """The memory of an agent that keeps nothing beside its parameters."""

    __slots__ = ()

    def recall(self, name: str) -> Vector:
        """Refuse: there is nothing."""
        raise KeyError(name)

    def store(self, name: str, vector: Vector) -> None:
        """Refuse: there is no place."""
        raise KeyError(name)

    def mark(self, name: str) -> None:
        """Refuse: there is no place."""
        raise KeyError(name)

    def receive(self, name: str, received: Mapping[int, Vector]) -> None:
        """Refuse: there is no learner."""
        raise KeyError(name)

    def try_out(self, vectors: Sequence[Vector], episodes: int, index: int) -> list[float]:
        """Refuse: there is no environment."""
        raise KeyError("try_out")

    @property
    def companions(self) -> tuple[int, ...]:
        """Nobody."""
        return ()

    def hear(self, received: Mapping[int, Vector]) -> None:
        """Do nothing: nobody plays."""


@dataclass(slots=True)
class Turn:
    """One exchange of one agent; not to be changed.

    Attributes:
        agent: its id.
        round: of the exchange.
        kind: of the message that is made, or that is answered.
        start: `(k,)` where it was after the last exchange; not to be written to.
        own: `(k,)` where it is now, or what it made of that to send; not to be written to.
        env_steps: environment steps since the last exchange.
        loss: of the last local update.
        returns: of the training episodes that finished since the last exchange.
        rate: learning rate times gradient steps since the last exchange, where local training is
            plain gradient descent; else 0.
        key: names the random numbers of this exchange: (seed, agent, number of the exchange). A
            payload that is made again in its exchange has the same ones; no two exchanges have.
        memory: vectors beside the parameters.
        sent: what those who heard everything know of the agent, where its messages only say what
            changed.
        to: whom it sends to, where the exchange has just begun; nobody where it began without
            sending.
        used: whether the last update that was sent counted at the coordinator whose model ends the
            exchange; None where it does not say so yet.
    """

    agent: int
    round: int
    kind: str
    start: Vector
    own: Vector
    env_steps: int
    loss: float
    returns: Sequence[float]
    rate: float
    key: tuple[int, int, int]
    memory: Memory
    sent: Vector | None = None
    to: Sequence[int] = ()
    used: bool | None = True

    def generator(self, purpose: str) -> np.random.Generator:
        """Return the random numbers of `purpose` in this exchange."""
        seed, agent, count = self.key
        return generator(seed, agent, purpose, count)
