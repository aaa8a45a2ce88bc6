"""APFL: a personal model that is a mixture of a local and a shared model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.learning.corrections.base import Uncorrected
from p2pfrl.learning.learners.base import Outcome, State, Task
from p2pfrl.learning.personal.base import Local, Personal, Update


@rule
class APFL(Personal):
    """The personal model is m = alpha v + (1 - alpha) theta, with v <- v + alpha (U(m) - m).

    U is a local update.

    theta is the shared model, v a local vector that starts at it. One plain gradient step of rate
    lr gives v <- v - lr alpha grad f_i(m), which is the paper's step: the gradient of f_i(alpha v +
    (1 - alpha) theta) with respect to v. With several local steps the paper moves v and theta in
    turn, so that m moves by lr (alpha^2 grad f_i(m) + (1 - alpha) grad f_i(theta)) in each; here m
    takes all steps of the update first. On quadratics with the shared model at rest m ends at agent
    i's own optimum for every alpha > 0 (alpha sets how fast), as it does in the paper: v alone can
    reach any point. With alpha = 0 m is theta; with alpha = 1 it is what the agent learns alone.

    The paper may also learn alpha, by descent; here it is given. The personal training is as long
    as the shared one, has optimizer moments and environments of its own, and draws the same random
    numbers; `[correction]` bends the shared training alone.

    Reference: Deng, Kamani, Mahdavi, "Adaptive personalized federated learning", 2020, arXiv
    2003.13461, Algorithm 1.

    Attributes:
        alpha: the part of the local vector in the personal model.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)

    @override
    def task(self, task: Task) -> Task:
        """Return the task without the run's correction."""
        return replace(task, correction=Uncorrected(), gradient_only=False, offer=None)

    @override
    def train(self, local: Local, update: Update) -> tuple[Vector, State, Sequence[Outcome]]:
        """Train v by alpha times what a local update changes in the mixture."""
        mixture = self.model(local.own, local.start)
        outcome = update(mixture, local.own_state, 0)
        return local.own + self.alpha * (outcome.parameters - mixture), outcome.state, (outcome,)

    @override
    def model(self, own: Vector, shared: Vector) -> Vector:
        """Return the mixture."""
        return self.alpha * own + (1.0 - self.alpha) * shared
