"""The contract of personal models: models that agents keep beside the one that travels.

A `Personal` wraps the learner: the parameters have every tensor twice, the second time under the
part "personal", which never travels. The first half trains, travels and mixes to the last bit as it
would alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.measures import apart
from p2pfrl.core.needs import Composable
from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import (
    Batch,
    Evaluator,
    Exchange,
    Objective,
    Outcome,
    Stack,
    State,
    Task,
    Wrapped,
)

Prepare = Callable[[Task], Stack]
"""Binds the scenario's learner to a task; each call makes environments of its own."""
Update = Callable[[Vector, State, int], Outcome]
"""(rows, state, how many updates later) -> one local update of every agent of the batch.

Rows and state are not changed.
"""


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


class Personal(Composable, ABC):
    """Trains a personal model beside the shared one.

    Attributes:
        keeps_state: whether the personal training has moments and environments of its own.
        held_by: the option that holds the personal model near the shared one; "": there is none.
    """

    keeps_state: ClassVar[bool] = True
    held_by: ClassVar[str] = ""

    def wrap(self, prepare: Prepare, task: Task) -> Stack:
        """Return the learner bound to `task`, with the personal model beside it.

        Raises:
            ScenarioError: the learner cannot train this personal model.
        """
        own = prepare(self.task(task))
        if reasons := self.check(task, own):
            raise ScenarioError(list(reasons))
        return PersonalStack(self, prepare(task), own)

    @property
    def further(self) -> int:
        """Local updates that the personal model takes beside the shared one's."""
        return 1

    @abstractmethod
    def task(self, task: Task) -> Task:
        """Return the task of the personal training, from that of the shared one."""

    def check(self, task: Task, own: Stack) -> Sequence[str]:
        """Return the reason why personal models cannot be trained, or None.

        Args:
            task: of the shared training.
            own: the learner bound to the personal task.
        """
        return ()

    @abstractmethod
    def train(self, local: Local, update: Update) -> tuple[Vector, State, Sequence[Outcome]]:
        """Train the personal model; return the vector and the state to keep, and all outcomes."""

    def model(self, own: Vector, shared: Vector) -> Vector:
        """Return the personal model `(b, stride)` of the kept vector and the shared model now."""
        return own


@rule
class Common(Personal):
    """No personal model: an agent acts with the model that it shares."""

    @override
    def wrap(self, prepare: Prepare, task: Task) -> Stack:
        """Return the learner alone."""
        return prepare(task)

    @override
    def task(self, task: Task) -> Task:
        """Return the task unchanged."""
        return task

    @override
    def train(self, local: Local, update: Update) -> tuple[Vector, State, Sequence[Outcome]]:
        """Return the shared model."""
        return local.end, {}, ()


PART = "personal"
_PREFIX = f"{PART}."


class PersonalStack(Wrapped, Evaluator, Exchange, Objective):
    """A learner whose rows have a shared and a personal half, each laid out as it would be alone.

    The shared half comes first. `returns` and `loss` of an update are those of the shared training,
    which rules of the exchange ask for. The measures `personal_loss` and `personal_return` are
    those of the last personal update, if a personal model is trained by updates of its own.
    `evaluate` runs the personal model; `error` and `divergence` look at the shared one.

    Args:
        rule: how the personal model is trained.
        shared: the learner bound to the shared task.
        own: the learner bound to the personal task.
    """

    def __init__(self, rule: Personal, shared: Stack, own: Stack) -> None:
        super().__init__(shared)
        self._rule, self._own = rule, own
        tensors = shared.layout.tensors
        copies = [replace(tensor, name=_PREFIX + tensor.name) for tensor in tensors]
        copies[0] = replace(copies[0], aligned=True)
        most = shared.traits.max_steps
        self.traits = replace(
            shared.traits,
            layout=Layout((*tensors, *copies), shared.layout.dtype),
            min_steps=shared.traits.min_steps * (1 + rule.further),
            max_steps=None if most is None else most * (1 + rule.further),
            personal=(*shared.traits.personal, PART),
            world=(*shared.traits.world, *(_PREFIX + name for name in shared.traits.world))
            if rule.keeps_state
            else shared.traits.world,
        )
        self.evaluator = self.exchange = self.objective = self
        self.error_is, self.pooled = shared.objective.error_is, None
        self.is_greedy = shared.evaluator.is_greedy
        self._width = shared.layout.stride
        assert self.layout.offsets[len(tensors)] == self._width

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return start parameters `(b, stride)`: both models begin at one point."""
        start = self.inner.start(agents, same=same)
        return self._join(start, start)

    @override
    def common_start(self) -> Vector:
        start = self.inner.common_start()
        return self._join(start, start)

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return the state of both trainings."""
        state = self.inner.init(agents)
        own = self._own.init(agents) | self._kept(len(agents)) if self._rule.keeps_state else {}
        return state | {_PREFIX + name: values for name, values in own.items()}

    @override
    def update(self, batch: Batch) -> Outcome:
        """Train the shared model, then the personal one."""
        start, own = self._split(batch.parameters)
        state, own_state = self._states(batch.state)
        shared = self.inner.update(Batch(batch.agents, batch.index, self._aligned(start), state))

        def update(rows: Vector, kept: State, later: int) -> Outcome:
            index = [number + later for number in batch.index]
            copies = {name: values.copy() for name, values in kept.items()}
            return self._own.update(Batch(batch.agents, index, self._aligned(rows), copies))

        local = Local(start, shared.parameters.copy(), shared.state, own.copy(), own_state)
        kept, after, outcomes = self._rule.train(local, update)
        return Outcome(
            self._join(shared.parameters, kept),
            self._together(batch.state, shared.state, after),
            shared.env_steps
            + sum((outcome.env_steps for outcome in outcomes), np.zeros_like(shared.env_steps)),
            shared.loss,
            shared.returns,
            _with(shared.measures, _measures(outcomes)),
        )

    @override
    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return the mean greedy return `(b,)` of each agent's personal model."""
        shared, own = self._split(parameters)
        rows = self._aligned(self._rule.model(own, shared))
        return self.inner.evaluator.evaluate(agents, rows, episodes, index)

    @override
    def average(self, agents: Sequence[int], parameters: Vector) -> Vector:
        """Return the mean of the shared models, as if it were everyone's personal one too."""
        mean = self.inner.evaluator.average(agents, self._split(parameters)[0])
        return self._join(mean, mean)

    @override
    def divergence(self, agents: Sequence[int], parameters: Vector, state: State) -> float | None:
        """Return the divergence of the shared policies."""
        return self.inner.evaluator.divergence(
            agents, self._aligned(self._split(parameters)[0]), self._states(state)[0]
        )

    @override
    def error(self, parameters: Vector) -> tuple[float, float] | None:
        """Return objective and error of the shared models."""
        return self.inner.objective.error(self._split(parameters)[0])

    @override
    def linear(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        return self.inner.objective.linear()

    @override
    def problem(self) -> dict[str, NDArray[np.generic]]:
        return self.inner.objective.problem()

    @override
    def offer_size(self, name: str) -> int | None:
        return self.inner.exchange.offer_size(name)

    @override
    def offer(self, name: str, agent: int, parameters: Vector, state: State) -> Vector:
        """Return what the shared training offers."""
        rows = self._aligned(self._split(parameters)[0])
        return self.inner.exchange.offer(name, agent, rows, self._states(state)[0])

    @override
    def receive(self, name: str, agent: int, state: State, received: Mapping[int, Vector]) -> None:
        """Let the shared training learn from the vectors of others."""
        own = {key: values for key, values in state.items() if not key.startswith(_PREFIX)}
        arrays = self.traits.arrays
        own |= {key: values[:, : self._width] for key, values in own.items() if key in arrays}
        self.inner.exchange.receive(name, agent, own, received)

    def _kept(self, rows: int) -> State:
        """Return the personal training's arrays beside its parameters, zeros at first."""
        return {name: self._own.layout.zeros(rows) for name in self._own.traits.arrays}

    def _split(self, parameters: Vector) -> tuple[Vector, Vector]:
        """Return views of the shared and of the personal half."""
        return parameters[:, : self._width], parameters[:, self._width :]

    def _join(self, shared: Vector, own: Vector) -> Vector:
        rows = self.layout.zeros(len(shared))
        rows[:, : self._width], rows[:, self._width :] = shared, own
        return rows

    def _aligned(self, half: Vector) -> Vector:
        """Return a copy that lies in memory as the learner's own rows would."""
        rows = self.inner.layout.zeros(len(half))
        rows[:] = half
        return rows

    def _states(self, state: State) -> tuple[State, State]:
        """Return the state of the shared and of the personal training."""
        shared = {name: values for name, values in state.items() if not name.startswith(_PREFIX)}
        for name in self.traits.arrays:
            shared[name] = self._aligned(shared[name][:, : self._width])  # type: ignore[arg-type]
        own = {
            name.removeprefix(_PREFIX): values
            for name, values in state.items()
            if name.startswith(_PREFIX)
        }
        return shared, own

    def _together(self, before: State, shared: State, own: State) -> State:
        """Return the state of both trainings, from its two parts."""
        state = before | shared
        for name in self.traits.arrays:
            whole = before[name].copy()
            whole[:, : self._width] = shared[name]
            state[name] = whole
        return state | {
            _PREFIX + name: values for name, values in own.items() if _PREFIX + name in before
        }


def _with(
    shared: Mapping[str, NDArray[np.float64]], own: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return the measures of the shared update and those of the personal one."""
    return {**{apart(name, own.__contains__): values for name, values in shared.items()}, **own}


def _measures(outcomes: Sequence[Outcome]) -> dict[str, NDArray[np.float64]]:
    """Return loss and mean return of the last personal update."""
    if not outcomes:
        return {}
    returns = [float(np.mean(found)) if len(found) else np.nan for found in outcomes[-1].returns]
    return {"personal_loss": outcomes[-1].loss, "personal_return": np.array(returns)}
