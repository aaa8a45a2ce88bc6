"""Fine-tuning: the personal model is the shared one after some local updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Outcome, Stack, State, Task
from p2pfrl.learning.personal.base import Local, Personal, Update


@rule
class Finetune(Personal):
    """v = U^k(theta): the shared model theta after k local updates U, anew in every round.

    The first update is the round's own, so that k = 1 costs nothing: v is what the agent had
    learned before it mixed. The others go on from there, with the optimizer moments, environments
    and random numbers that an agent would have that went on alone, and are forgotten with them when
    the next update begins; only v remains until then. (Copies of a Gymnasium environment cannot be
    taken: there, each of them begins with new episodes.) With schedule.every > 1 theta is where the
    last local update of a round begins.

    The usual baseline of personalization; for example Yu, Bagdasaryan, Shmatikov, "Salvaging
    federated learning by local adaptation", 2020, arXiv 2002.04758.

    Attributes:
        updates: how many local updates away from theta.
    """

    keeps_state: ClassVar[bool] = False
    updates: int = Field(default=1, ge=1)

    @property
    @override
    def further(self) -> int:
        """Local updates after the round's own."""
        return self.updates - 1

    @override
    def task(self, task: Task) -> Task:
        """Return the task unchanged."""
        return task

    @override
    def check(self, task: Task, own: Stack) -> Sequence[str]:
        """Refuse a round without an update of its own."""
        reason = "personal.kind: 'finetune' begins with the round's own update, and payload 'gradient' takes none"
        return (reason,) if task.gradient_only else ()

    @override
    def train(self, local: Local, update: Update) -> tuple[Vector, State, Sequence[Outcome]]:
        """Take the further local updates from where the shared training ended."""
        rows, state, outcomes = local.end, local.state, list[Outcome]()
        for later in range(1, self.updates):
            outcomes.append(update(rows, state, later))
            rows, state = outcomes[-1].parameters, outcomes[-1].state
        return rows, {}, outcomes
