"""Mixture of the policies of networks, as one network that imitates it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.core.imitation import Imitation
from p2pfrl.core.needs import Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Distilled(Aggregator):
    """min_theta mean_s KL(sum_j w_j pi_j(.|s) || pi_theta(.|s)): a network imitates the mixture.

    The mixture of the agents' policies follows agent j with probability w_j in each step. It is not
    the policy of the mean parameters, and no network of their form has it exactly. The coordinator
    begins at the mean of the parameters and takes `steps` steps of Adam on public states s: every
    state of an environment with tables; otherwise states that a uniformly random policy visits in
    agent 0's environment, drawn from (seed, "public"). A critic of its own is the mean of the
    critics. For tables of logits aggregator "mixture" is exact; with payload "logits" agents
    imitate the mixture themselves, and no parameters travel.

    Attributes:
        states: public states of an environment without tables.
        steps: of the imitation.
        lr: of the imitation.
        weights: uniform; or samples, proportional to environment steps.

    Reference: Lin, Kong, Stich, Jaggi, Ensemble distillation for robust model fusion in federated
        learning, NeurIPS 2020, arXiv 2006.07242. There the mean of logits is the teacher, here the
        mean of probabilities.
    """

    needs: ClassVar[Needs] = (
        OneOf("exchange.payload", ("parameters",), "it mixes policies"),
        OneOf("learner.moments", ("keep", "reset"), "moments have no policy"),
        Need.CHOICE,
        Need.ONE_COORDINATOR,
    )
    imitates: ClassVar[bool] = True

    of_several: ClassVar[tuple[str, ...]] = ("weights",)
    states: int = Field(default=64, ge=1)
    steps: int = Field(default=50, ge=1)
    lr: float = Field(default=1e-2, gt=0)
    weights: Literal["uniform", "samples"] = "uniform"

    @override
    def with_policies(self, imitation: Imitation) -> Aggregator:
        imitation.prepare(self.states)
        return _Imitating(self, imitation)

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        raise AssertionError("with_policies comes first")


class _Imitating(Aggregator):
    """The rule with the networks of a run."""

    def __init__(self, rule: Distilled, imitation: Imitation) -> None:
        self._rule = rule
        self._imitation = imitation

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        rule = self._rule
        shares = np.ones(len(received))
        if rule.weights == "samples" and any(arrived.samples > 0 for arrived in received):
            shares = np.array([arrived.samples for arrived in received])
        shares /= shares.sum()
        vectors = [arrived.vector for arrived in received]
        made = self._imitation.fit(
            vectors, shares.tolist(), states=rule.states, steps=rule.steps, lr=rule.lr
        )
        return made, state
