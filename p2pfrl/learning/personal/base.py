"""The contract of personal models: what an agent keeps for itself beside the model that travels.

A `Personal` wraps the learner: the parameters get every tensor twice, the second time under the
part "personal", which never travels. The first half trains, travels and mixes to the last bit as it
would alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Outcome, Stack, State, Task

Prepare = Callable[[Task], Stack]
"""Binds the scenario's learner to a task, environments included: each call gives environments of their own."""
Update = Callable[[Vector, State, int], Outcome]
"""(rows, state, how many updates later) -> one local update of every agent of the batch; rows and state are kept."""


@dataclass(frozen=True)
class Local:
    """One local update of b agents, as a personal model sees it.

    Attributes:
        start: `(b, stride)` the shared model where the update began.
        end: `(b, stride)` the shared model where it ended.
        state: moments and environments of the shared training after it.
        own: `(b, stride)` the vector that the agent keeps.
        own_state: moments and environments of the personal training, where it has any.
    """

    start: Vector
    end: Vector
    state: State
    own: Vector
    own_state: State


class Personal(ABC):
    """Trains a personal model beside the shared one.

    Attributes:
        keeps_state: whether the personal training has moments and environments of its own.
    """

    keeps_state: ClassVar[bool] = True

    def wrap(self, prepare: Prepare, task: Task) -> Stack:
        """Return the learner bound to `task`, with the personal model beside it.

        Raises:
            ScenarioError: the learner cannot train this personal model.
        """
        from p2pfrl.learning.personal.stack import PersonalStack

        own = prepare(self.task(task))
        if reasons := self.check(task, own):
            raise ScenarioError(list(reasons))
        return PersonalStack(self, prepare(task), own)

    @property
    def further(self) -> int:
        """How many local updates the personal model takes beside the shared one's."""
        return 1

    @abstractmethod
    def task(self, task: Task) -> Task:
        """Return the task of the personal training, from that of the shared one."""

    def check(self, task: Task, own: Stack) -> Sequence[str]:
        """Return why personal models cannot be trained, if they cannot.

        Args:
            task: of the shared training.
            own: the learner bound to the personal task.
        """
        return ()

    @abstractmethod
    def train(self, local: Local, update: Update) -> tuple[Vector, State, Sequence[Outcome]]:
        """Train the personal model; return the vector to keep, the state to keep, and the outcome of every update."""

    def model(self, own: Vector, shared: Vector) -> Vector:
        """Return the personal model `(b, stride)`: from the vector that is kept and the shared model as it is now."""
        return own


@rule
class Common(Personal):
    """No personal model: an agent acts with what it shares."""

    def wrap(self, prepare: Prepare, task: Task) -> Stack:
        """Return the learner as it is."""
        return prepare(task)

    def task(self, task: Task) -> Task:
        """Return the task as it is."""
        return task

    def train(self, local: Local, update: Update) -> tuple[Vector, State, Sequence[Outcome]]:
        """Return the shared model."""
        return local.end, {}, ()
