"""Contract of aggregators: a coordinator aggregates the received vectors into one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from p2pfrl.core.imitation import Imitation
from p2pfrl.core.needs import Breaks, Composable, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.resources import CapacityName
from p2pfrl.exchange.scores import OF_RETURNS

Memory = Mapping[Any, Any]
"""Memory of an aggregator: vectors by agent, or by another key."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One received vector.

    Attributes:
        sender: the agent that sent it.
        vector: `(k,)`; must not be modified.
        samples: environment steps behind it.
        score: the sender's return or loss, if the scenario's rules rank senders
            (`Aggregator.score`), else 0.
        capacity: the sender's speed or bandwidth, if the rule weighs by it
            (`Aggregator.capacity`), else 1. That of an edge is the sum over its agents.
    """

    sender: int
    vector: Vector
    samples: float
    score: float = 0.0
    capacity: float = 1.0


class Aggregator(Composable, ABC):
    """k vectors -> one.

    Attributes:
        goes_on: whether it aggregates its memory in a round in which nothing was received.
        imitates: whether it needs policy networks, in `with_policies`.
        is_robust: whether it bounds what Byzantine agents can do.
        of_several: options that matter only where several vectors are aggregated at once; "" for
            the rule itself.
    """

    of_several: ClassVar[tuple[str, ...]] = ()

    goes_on: ClassVar[bool] = False
    imitates: ClassVar[bool] = False
    is_robust: ClassVar[bool] = False

    @property
    @override
    def implied(self) -> Needs:
        """Returns of episodes, if `score` uses them; scores, steps and vectors, if read."""
        clear = (Need.CLEAR,) if self.score is not None else ()
        steps = (Need.STEPS_OF_EACH,) if self.reads_samples else ()
        single = () if self.is_sum else (Need.SINGLE,)
        returns = (Need.RETURNS,) if self.score in OF_RETURNS else ()
        return (*clear, *steps, *single, *returns)

    @property
    def is_sum(self) -> bool:
        """Whether the aggregate follows from sums of w x and of w, weights w by steps or equal."""
        return False

    @property
    def reads_samples(self) -> bool:
        """Whether `Arrived.samples` matters."""
        return "samples" in (getattr(self, "weights", None), getattr(self, "by", None))

    @property
    @override
    def breaks(self) -> Breaks:
        """The plain mean, which only the rule "mean" computes."""
        return (Need.PLAIN_MEAN,)

    @property
    def score(self) -> str | None:
        """Score that agents must send with their payloads (exchange/scores.py); None for none."""
        return None

    @property
    def capacity(self) -> CapacityName | None:
        """The resource by which the rule weighs senders, speed or bandwidth; None for none."""
        return None

    def bind(self, lr: float) -> Aggregator:
        """Return the rule for a learner with learning rate `lr`."""
        return self

    def with_policies(self, imitation: Imitation) -> Aggregator:
        """Return the rule for the policy networks of a run, where the learner has such networks."""
        return self

    def misfit(self, tensors: Mapping[str, tuple[int, ...]]) -> str | None:
        """Return why the rule cannot aggregate these tensors (name -> shape), or None."""
        return None

    def shortage(self, count: int) -> str | None:
        """Return why `count` vectors are too few for the Byzantine agents it declares, or None."""
        return None

    def tolerated(self, count: int) -> int:
        """Return how many of `count` vectors may be anything; 0 for a rule that is not robust."""
        return 0

    def init(self, model: Vector) -> Memory:
        """Return the memory before the first round.

        `model` `(k,)` is the coordinator's first model.
        """
        return {}

    def prefer(self, received: Sequence[Arrived]) -> Sequence[int]:
        """Return the positions, ascending, of the received vectors that are aggregated: all.

        A rule that chooses among them keeps at least one. It is called before `aggregate`, if
        anything was received.
        """
        return range(len(received))

    @abstractmethod
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return the aggregate `(k,)` of the vectors in order of sender, and the next memory.

        Args:
            received: the vectors that `prefer` chose; may be empty only if the rule `goes_on`.
            model: the coordinator's model, `(k,)`.
            state: memory that `init` or the last `aggregate` returned.
        """


def weighted_mean(received: Sequence[Arrived], weights: Sequence[float]) -> Vector:
    """Return sum_k w_k x_k, a new vector, summed in order."""
    mean = np.multiply(received[0].vector, weights[0])
    scratch = np.empty_like(mean)
    for arrived, weight in zip(received[1:], weights[1:], strict=True):
        mean += np.multiply(arrived.vector, weight, out=scratch)
    return mean
