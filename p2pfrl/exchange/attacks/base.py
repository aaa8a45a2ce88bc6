"""The contract of attacks: what a Byzantine agent sends, or does, in place of what the rules say.

An attack is a frozen dataclass of options. It names its agents, when it holds, and what it knows.
What it remembers between messages is a value that it receives and returns.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, WithJsonSchema

from p2pfrl.core.needs import Breaks, Composable, Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.core.units import Seconds

Knowledge = Literal["blind", "local", "omniscient"]
"""What an attack knows: its agent's own update; also the messages that it received; also the
updates of all honest agents, which only a simulator can show."""
Memory = tuple[Vector, ...]
"""What an attack remembers."""
Moment = int | float
"""A moment of a run: rounds that the agent has ended (int), or virtual seconds (float)."""

VECTORS: Needs = (
    OneOf(
        "exchange.payload",
        ("parameters", "delta", "gradient"),
        "what else travels is no vector of which a wrong one could be said",
    ),
)
"""What an attack on messages needs."""


_RANGE = re.compile(r"\s*(\d{1,7})\s*-\s*(\d{1,7})\s*")
_NUMBERS = WithJsonSchema(
    {
        "anyOf": [
            {"type": "array", "items": {"type": "integer", "minimum": 0}},
            {"type": "string", "examples": ["3-5"]},
        ]
    }
)


def numbers(value: object) -> object:
    """Return the numbers of a range such as "3-5", or of a list; any other value as it is.

    >>> numbers("3-5")
    (3, 4, 5)
    """
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    found = _RANGE.fullmatch(value)
    if found is None or int(found[1]) > int(found[2]):
        raise ValueError(f'expected numbers of agents, or a range such as "3-5", got {value!r}')
    return tuple(range(int(found[1]), int(found[2]) + 1))


class View(Protocol):
    """What an omniscient attacker sees of the others: only a simulator can show it."""

    def honest(self, turn: Turn, to: int) -> Mapping[int, Vector]:
        """Return the honest updates that meet at `to`, by agent in ascending order.

        Around a coordinator they are those of the agents below `to`, in rounds those that are in
        the attacker's; between neighbors those of `to` and of its neighbors. An update under way
        is seen as its end will leave it.
        """

    def vector(self, agent: int) -> Vector | None:
        """Return what `agent`, honest or not, would send now if it followed the rules.

        None for an agent that is not there: it has crashed, left, or not joined yet.
        """

    def weights(self, agent: int, round: int) -> Mapping[int, float]:
        """Return the row of the mixing matrix of `agent`, by agent."""

    def senders(self, to: int, round: int) -> Sequence[int]:
        """Return the agents whose updates reach `to` in a round, `to` itself left out."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One message of a Byzantine agent, as its attack sees it.

    Attributes:
        turn: the exchange.
        to: the receiver.
        receivers: all receivers of the agent, ascending.
        idle: `(k,)` the payload of an agent whose training has changed nothing since `model`.
        model: `(k,)` what the agent received last: a coordinator's model, or the mean of its
            neighbors' vectors; where it began, if it has received nothing yet.
        moved: `(k,)` how `model` changed when it was received last.
        attackers: the agents that make this attack, ascending.
        view: the others; None where nobody may see them.
    """

    turn: Turn
    to: int
    receivers: Sequence[int]
    idle: Vector
    model: Vector
    moved: Vector
    attackers: tuple[int, ...]
    view: View | None

    @property
    def sight(self) -> View:
        """The others, of whom an omniscient attack sees all."""
        assert self.view is not None, "omniscient attacks are for the simulator"
        return self.view


@rule
class Attack(Composable, ABC):
    """Something that Byzantine agents do.

    Attributes:
        knowledge: what it knows.
        is_in_experience: it changes what its agents experience, and no message.
        is_per_receiver: what it sends differs between the receivers of a message.
        agents: numbers of the agents, a list or a range such as "3-5"; or `count`.
        count: so many agents, drawn by the run's seed; equal counts draw the same agents.
        from_: when it begins: rounds that the agent has ended, or a virtual time such as "2s".
        until: when it ends, counted like `from`; never by default.
    """

    knowledge: ClassVar[Knowledge]
    is_in_experience: ClassVar[bool] = False
    is_per_receiver: ClassVar[bool] = False
    breaks: ClassVar[Breaks] = (Need.MASS,)

    agents: Annotated[tuple[int, ...], BeforeValidator(numbers), _NUMBERS] = ()
    count: int | None = Field(default=None, ge=1)
    from_: Annotated[int, Field(ge=0)] | Annotated[Seconds, Field(ge=0)] = Field(
        default=0, validation_alias="from"
    )
    until: Annotated[int, Field(ge=1)] | Annotated[Seconds, Field(gt=0)] | None = None

    def members(self, n: int, seed: int) -> tuple[int, ...]:
        """Return the agents among n that it names or draws, ascending."""
        if self.count is None:
            return tuple(sorted({*self.agents}))
        drawn = generator(seed, Purpose.BYZANTINE).permutation(n)[: self.count]
        return tuple(sorted(int(agent) for agent in drawn))

    def is_on(self, round: int, seconds: float) -> bool:
        """Return whether it holds for an agent that has ended `round` rounds, at a virtual time."""
        is_over = self.until is not None and _is_past(self.until, round, seconds)
        return _is_past(self.from_, round, seconds) and not is_over


def _is_past(moment: Moment, round: int, seconds: float) -> bool:
    return round >= moment if isinstance(moment, int) else seconds >= moment


@rule
class MessageAttack(Attack, ABC):
    """An attack on the messages of its agents.

    It changes the vector of the payload `(k,)`. What rules send beside it stays as it is: trackers,
    control variates, weights.
    """

    needs: ClassVar[Needs] = (*VECTORS, Need.SINGLE)

    def init(self) -> Memory:
        """Return what it remembers before the first message."""
        return ()

    def remember(self, vector: Vector, memory: Memory) -> Memory:
        """Return what it remembers once the honest `vector` has been made, once an exchange."""
        return memory

    @abstractmethod
    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return what is sent instead of the honest `vector` `(k,)`, which is not written to."""


@rule
class ExperienceAttack(Attack, ABC):
    """An attack on what its agents experience: they learn from something that did not happen.

    Attributes:
        is_random: actions are drawn at random, whatever the policy chose.
        instances: how many instances of an agent's environment it needs.
    """

    knowledge: ClassVar[Knowledge] = "blind"
    is_in_experience: ClassVar[bool] = True
    is_random: ClassVar[bool] = False
    instances: ClassVar[int] = 1
    breaks: ClassVar[Breaks] = ()

    def rewards(
        self, reward: NDArray[np.float64], uniform: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the rewards `(b, m)` that agents learn from.

        Args:
            reward: `(b, m)` of one step of all instances, as the environment gave them.
            uniform: `(b, m)` uniform numbers in [0, 1).
        """
        return reward
