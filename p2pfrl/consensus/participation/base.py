"""Contract of participation rules: the agents that train in a round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from p2pfrl.core.needs import Breaks, Composable, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.resources import ResourceName, Resources
from p2pfrl.core.rule import rule
from p2pfrl.core.state import Stateful
from p2pfrl.exchange.scores import OF_RETURNS

MOVES = 64
"""Number of distances between successive models that a coordinator remembers."""


@dataclass(slots=True)
class Standing(Stateful):
    """A coordinator's data on its agents, for the choice of participants.

    Attributes:
        seed: of random choices: that of the run, or, where a choice is secret, one of its own.
        model: `(k,)`, the coordinator's current model.
        samples: agent -> environment steps behind its last update.
        scores: agent -> score sent with its last update (`Participation.score`).
        trained: agent -> the model that its last update started from (synchronous rounds).
        moves: ||x_k - x_(k-1)||^2 of the last models, newest first.
    """

    STATE: ClassVar[tuple[str, ...]] = ("model", "samples", "scores", "trained", "moves")
    seed: int
    model: Vector
    samples: Mapping[int, float] = field(default_factory=dict)
    scores: Mapping[int, float] = field(default_factory=dict)
    trained: Mapping[int, Vector] = field(default_factory=dict)
    moves: Sequence[float] = ()


class Participation(Composable, ABC):
    """The choice of agents that train in a round.

    It needs rounds: without them an agent that is not chosen at the start would never train.

    Attributes:
        reads_samples: whether it chooses by `Standing.samples`.
        may_choose_nobody: whether it returns no agent in some rounds.
    """

    reads_samples: ClassVar[bool] = False
    may_choose_nobody: ClassVar[bool] = False

    @property
    @override
    def implied(self) -> Needs:
        """The score of a message, and returns of episodes, if `score` uses them."""
        score = (Need.ONE_SCORE,) if self.score is not None else ()
        clear = (Need.CLEAR,) if self.score is not None or self.reads_samples else ()
        return (*clear, *score, *((Need.RETURNS,) if self.score in OF_RETURNS else ()))

    @property
    @override
    def needs(self) -> Needs:
        """Rounds, in which agents can be chosen."""
        return (Need.ROUNDS,)

    @property
    @override
    def breaks(self) -> Breaks:
        """Every agent's answer, because not all agents are asked."""
        return (Need.EVERY_ANSWER,)

    @property
    def score(self) -> str | None:
        """Score that agents must send with their payloads (exchange/scores.py); None for none."""
        return None

    def misfit(self, agents: int) -> str | None:
        """Return why the options do not fit a run of `agents` agents, or None if they do."""
        return None

    @property
    def resource(self) -> ResourceName | None:
        """The resource that tells agents apart here; None if none does, or options give it."""
        return None

    def with_resources(self, resources: Resources) -> Participation:
        """Return the rule with the options that depend on what the agents have."""
        return self

    @abstractmethod
    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        """Return at least one of `present`, sorted, unless it `may_choose_nobody`.

        An agent that occurs m times counts m times in the aggregate.
        """

    def expected(self, agents: int) -> float:
        """Return the mean number of `agents` that are asked in a round."""
        return float(agents)


@rule
class All(Participation):
    """All agents that are present."""

    needs: ClassVar[Needs] = ()
    breaks: ClassVar[Breaks] = ()

    @override
    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        return present


def share(fraction: float, count: int) -> int:
    """Return max(fraction x count, 1), with halves rounded up."""
    return max(1, int(fraction * count + 0.5))


def too_many(candidates: int | None, agents: int) -> str | None:
    """Return why so many candidates cannot be drawn from `agents` agents, or None if they can."""
    if candidates is None or candidates <= agents:
        return None
    return f"candidates: expected at most {agents}, the number of agents, got {candidates}"
