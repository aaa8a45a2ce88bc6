"""Ditto: a personal model that is trained on its own objective and held near the shared one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.options import construct
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.learning.corrections import RULES as CORRECTIONS
from p2pfrl.learning.learners.base import Outcome, Stack, State, Task
from p2pfrl.learning.personal.base import Local, Personal, Update


@rule
class Ditto(Personal):
    """v <- v - lr (grad f_i(v) + lambda (v - theta)): steps on f_i(v) + lambda/2 ||v - theta||^2.

    v is agent i's personal model, f_i its objective, theta the shared model where the local update
    begins; theta goes its own way as if v were not there. On quadratics f_i = 1/2 (x - x*_i)' A_i
    (x - x*_i), the shared model at rest, v_i = (A_i + lambda I)^-1 (A_i x*_i + lambda theta): the
    local optimum for lambda -> 0, theta for lambda -> inf.

    The personal training is as long as the shared one, has optimizer moments and environments of
    its own, and draws the same random numbers; `[correction]` bends the shared training alone. The
    paper may give v more steps, and holds it near the model of the round: with schedule.every > 1,
    here theta is where each local update begins.

    Reference: Li, Hu, Beirami, Smith, "Ditto: fair and robust federated learning through
        personalization", ICML 2021, arXiv 2012.04221, Algorithm 1.

    Attributes:
        lambda_: how strongly v is held.
    """

    held_by: ClassVar[str] = "lambda"
    lambda_: float = Field(default=0.1, ge=0, validation_alias="lambda")

    @override
    def task(self, task: Task) -> Task:
        """Return the task with the pull toward theta in place of the run's correction."""
        pull = construct(CORRECTIONS["prox"], {"mu": self.lambda_})
        return replace(task, correction=pull, gradient_only=False, offer=None)

    @override
    def check(self, task: Task, own: Stack) -> Sequence[str]:
        """Refuse learners whose steps are no gradient steps."""
        return (
            ()
            if own.traits.takes_corrections
            else ("personal.kind: this learner takes no gradient steps to pull at",)
        )

    @override
    def train(self, local: Local, update: Update) -> tuple[Vector, State, Sequence[Outcome]]:
        """Train v by one local update that is held near theta."""
        outcome = update(
            local.own,
            {**local.own_state, **dict.fromkeys(CORRECTIONS["prox"].arrays, local.start)},
            0,
        )
        return outcome.parameters, outcome.state, (outcome,)
