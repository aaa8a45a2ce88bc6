"""The contract of learners: one update of a batch of agents is a pure function of their rows.

A `Learner` is a rule: options only. `prepare` binds it to a task and gives a `Stack`, which
computes. What else a learner can do is a small contract of its own: `Evaluator`, `Exchange`,
`Objective`, `PooledTraining`. A stack has one of each; by default the first three do nothing, and
the last is None.

The leading axis of every array is the agent. A row of the result must not depend on the
other rows, nor on how many there are: only row-independent operations, one random stream per (seed,
agent, purpose, index), reductions within a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.imitation import Imitation
from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule
from p2pfrl.learning.corrections.base import Correction, Uncorrected
from p2pfrl.learning.environments.base import Simulator

State = dict[str, NDArray[np.generic]]
EngineName = Literal["auto", "torch", "native"]
"""What computes networks: numpy and torch, or C (learning/native); auto: C where it can."""
NO_ENGINE = "none"
"""The engine of a learner without networks (`Traits.engine`)."""
OWN_ENGINE = "own"
"""The engine of a learner whose code is a user's own."""
DeviceName = Literal["cpu", "cuda"]
"""Where torch takes minibatch steps."""
DeviceChoice = Literal["auto", "cpu", "cuda"]
"""Where a scenario lets it do so; auto: where it takes less time."""


@dataclass(frozen=True)
class Task:
    """The task that a learner is bound to.

    Attributes:
        seed: the run's seed.
        agents: number of agents n.
        simulator: the environments, or None for a learner that has none (quadratic).
        evaluator: the same environments for greedy evaluation, apart from training (one instance
            per episode).
        correction: bends the gradient of every local step.
        gradient_only: an update computes the gradient of one step into the state array "gradient"
            and takes none.
        offer: name of the learner's vector that the run's payload sends (`Exchange.offer`); None:
            it sends none.
        engine: what computes networks.
        device: where torch takes minibatch steps.
    """

    seed: int
    agents: int
    simulator: Simulator | None = None
    evaluator: Simulator | None = None
    correction: Correction = field(default_factory=Uncorrected)
    gradient_only: bool = False
    offer: str | None = None
    engine: EngineName = "torch"
    device: DeviceName = "cpu"

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the state arrays `(n, stride)` that the trainer adds.

        Correction and exchange need them.
        """
        return (*self.correction.arrays, *(("gradient",) if self.gradient_only else ()))


@dataclass(frozen=True)
class Batch:
    """The inputs of one update of b agents, frozen when each update started.

    Attributes:
        agents: `(b,)` ids, ascending.
        index: `(b,)` how many updates each agent had completed: names its random streams.
        parameters: `(b, stride)`, aligned, in the layout of the stack; may be overwritten.
        state: arrays with leading axis b, as `Stack.init` made them; may be overwritten.
    """

    agents: Sequence[int]
    index: Sequence[int]
    parameters: Vector
    state: State


@dataclass(frozen=True)
class Outcome:
    """The results of one update of b agents.

    Attributes:
        parameters: `(b, stride)`.
        state: arrays with leading axis b.
        env_steps: `(b,)` environment steps (gradients, for a learner without an environment) that
            the update took.
        loss: `(b,)` mean loss over the update's minibatches.
        returns: per agent, the undiscounted returns of the training episodes that finished, in
            order.
        measures: the environment's own measures, mean over the update, `(b,)` each.
        transitions: `(b, k)` what `PooledTraining.learn` takes, where the update collected instead
            of learning.
    """

    parameters: Vector
    state: State
    env_steps: NDArray[np.int64]
    loss: NDArray[np.float64]
    returns: Sequence[Sequence[float]]
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    transitions: Vector | None = None


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What the rest of a run has to know of a bound learner.

    Attributes:
        layout: of one agent's parameters.
        min_steps: environment steps that an update takes at least; exact where `fixed_steps`.
        fixed_steps: whether every update takes exactly `min_steps`.
        max_steps: environment steps that an update takes at most, where they are not fixed; None:
            there is no bound.
        chunk: how many agents to compute at once so that they stay in the cache.
        moments: names of the state arrays, `(b, stride)`, that are optimizer moments (they can be
            reset or averaged).
        squares: those of them that are means of squares, and so never negative.
        counts: names of the state arrays, `(b,)`, that count the optimizer steps in the moments
            (reset with them).
        arrays: names of the state arrays, `(b, stride)`, that correction and exchange need
            (`Task.arrays`); the trainer makes them.
        rate: learning rate times gradient steps of one update, where that is plain gradient
            descent; else 0.
        takes_corrections: whether it applies `Task.correction` to every gradient.
        gives_gradients: whether it heeds `Task.gradient_only`.
        takes_guides: whether its loss heeds `Correction.guided_by`.
        takes_episodes: whether its updates are whole episodes, as many as `Correction.batch` says.
        gives_returns: whether episodes end in its updates.
        only_payload: the payload without which it learns nothing; None: any will do.
        personal: parts of the layout that never travel.
        members: agents that share a world and are always computed together; 1: none do.
        world: names of the state arrays that belong to the world, equal for all its members; empty
            where nobody shares one.
        is_saved_whole: whether parameters and state arrays hold everything that it remembers.
        acts_as_started: whether an update acts by the parameters with which it starts, to its end.
        companions: agents that are evaluated together, where each trains in a copy of their world
            that is its own (self_play.py); 1: none are.
        heard: names of the state arrays, `(b, companions, stride)`, that hold what agents have
            heard of each other. Messages write them, updates do not.
        engine: what computes its networks: "torch", "torch on cuda", "native", "own" for code of
            the user's own, several where groups differ, or "none" where it has none.
    """

    layout: Layout
    min_steps: int
    fixed_steps: bool = True
    max_steps: int | None = None
    chunk: int = 64
    moments: tuple[str, ...] = ()
    squares: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    rate: float = 0.0
    takes_corrections: bool = False
    gives_gradients: bool = False
    takes_guides: bool = False
    takes_episodes: bool = False
    gives_returns: bool = True
    only_payload: str | None = None
    personal: tuple[str, ...] = ()
    members: int = 1
    world: tuple[str, ...] = ()
    is_saved_whole: bool = True
    acts_as_started: bool = True
    companions: int = 1
    heard: tuple[str, ...] = ()
    engine: str = NO_ENGINE

    @property
    def uses_torch(self) -> bool:
        """Whether torch may compute: code of a user's own often imports it."""
        return self.engine not in ("native", NO_ENGINE)

    @property
    def most_steps(self) -> int | None:
        """Environment steps that an update takes at most; None: there is no bound."""
        return self.min_steps if self.fixed_steps else self.max_steps

    @property
    def common(self) -> tuple[str, ...]:
        """The parts that may travel: all that are not personal."""
        return tuple(part for part in self.layout.parts if part not in self.personal)


class Evaluator:
    """The evaluation of policies.

    This class is that of learners without policies: it evaluates nothing.

    Attributes:
        is_greedy: whether the likeliest actions are taken; else they are drawn from the policies.
    """

    is_greedy: bool = True

    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return the mean return `(b,)` of rows in their agents' environments, if any.

        Args:
            agents: whose environments, `(b,)`.
            parameters: `(b, stride)`.
            episodes: per agent, at least.
            index: names the random streams, so that evaluations are repeatable and paired over
                modes.
        """
        return None

    def act(
        self, agents: Sequence[int], parameters: Vector, obs: NDArray[np.float32]
    ) -> NDArray[np.generic] | None:
        """Return the greedy actions of rows, `(b, m)` or `(b, m, a)`, as environments take them.

        None for learners without policies that act on single observations.

        Args:
            agents: whose rows, `(b,)`.
            parameters: `(b, stride)`.
            obs: observations `(b, m, o)`.
        """
        return None

    def average(self, agents: Sequence[int], parameters: Vector) -> Vector:
        """Return mean parameters `(b, stride)` as each agent would run them, for `evaluate`."""
        mean = np.empty_like(parameters)
        mean[:] = parameters.mean(axis=0, dtype=np.float64)
        return mean

    def divergence(self, agents: Sequence[int], parameters: Vector, state: State) -> float | None:
        """Return the mean KL divergence of the policies from that of the mean parameters."""
        return None

    def divergence_of(
        self, agents: Sequence[int], vectors: Sequence[Vector], state: State
    ) -> float | None:
        """Return the divergence, where it needs the parameters `(d,)` of agents but no rows.

        None: `divergence` has to compute it.
        """
        return None


class Exchange:
    """The vectors, by name, that a learner offers to payloads and gates.

    This class offers none.
    """

    def offer_size(self, name: str) -> int | None:
        """Return how many numbers the vector `name` has; None: any number.

        Raises:
            ScenarioError: the learner offers nothing of that name.
        """
        raise ScenarioError([f"exchange.payload: this learner has no {name} to send"])

    def offer(self, name: str, agent: int, parameters: Vector, state: State) -> Vector:
        """Return the vector `name` of `agent`, `(k,)`, a new array.

        Args:
            name: for example "logits": action distributions on public states.
            agent: whose.
            parameters: `(1, stride)`.
            state: one row of every state array.
        """
        raise KeyError(name)

    def receive(self, name: str, agent: int, state: State, received: Mapping[int, Vector]) -> None:
        """Learn from the vectors `name` of others, by sender; `state` is one row, to write into."""
        raise KeyError(name)


class Objective:
    """The problem that a learner solves, where its optimum is known.

    This class knows none.

    Attributes:
        error_is: what the second number of `error` is, in words.
    """

    error_is: str = "distance to the optimum (RMS)"

    def problem(self) -> dict[str, NDArray[np.generic]]:
        """Return the instance, for `problem.safetensors`: what anyone needs to check a result."""
        return {}

    def problem_bytes(self) -> tuple[int, int]:
        """Return about how many bytes of the problem an agent has: in memory, and in `problem`."""
        return 0, 0

    def linear(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return A `(n, p, p)` and b `(n, p)` of fields A_i x - b_i, if that is what agents follow.

        None if it is not, or if they are too large to be kept.
        """
        return None

    def error(self, parameters: Vector) -> tuple[float, float] | None:
        """Return (objective at the mean parameters, error) of `(n, stride)` rows, where known."""
        return None


class PooledTraining(ABC):
    """Centralized training: agents upload transitions, one learner trains on all of them.

    Attributes:
        pooled_options: options without which `collect` cannot know what an update would learn from,
            with their values.
    """

    pooled_options: Mapping[str, object] = MappingProxyType({})

    @abstractmethod
    def collect(self, batch: Batch) -> Outcome:
        """Gather one update's experience without learning.

        Parameters and moments stay as they are; `Outcome.transitions` is set.
        """

    @abstractmethod
    def learn(
        self, parameters: Vector, state: State, transitions: Sequence[Vector], index: int
    ) -> float:
        """Take one update's optimizer steps on the transitions of all agents; return the loss.

        As many steps as one agent alone would take, on minibatches larger by the number of agents.

        Args:
            parameters: `(1, stride)`, aligned; changed in place.
            state: one row of every array in `moments` and `counts`, as `init` made them; changed in
                place.
            transitions: `(k,)` of every agent, in order of id.
            index: updates completed: names the random streams.
        """


class Stack(ABC):
    """A learner bound to a task.

    Attributes:
        traits: what the rest of a run has to know of it.
        evaluator: evaluates its policies.
        exchange: what it offers to payloads and gates.
        objective: the problem that it solves.
        pooled: its centralized training; None: there is none.
        imitation: fits one of its policy networks to others; None: it has none.
    """

    traits: Traits
    evaluator: Evaluator = Evaluator()
    exchange: Exchange = Exchange()
    objective: Objective = Objective()
    pooled: PooledTraining | None = None
    imitation: Imitation | None = None

    @property
    def layout(self) -> Layout:
        """The layout of one agent's parameters."""
        return self.traits.layout

    @abstractmethod
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return start parameters `(b, stride)`.

        With `same` they are one draw from (seed, "start"), else each from its own stream.
        """

    def common_start(self) -> Vector:
        """Return the start parameters `(1, stride)` of a coordinator."""
        return self.start([0], same=True)

    @abstractmethod
    def init(self, agents: Sequence[int]) -> State:
        """Return the state of `agents` before their first update, one row each.

        It holds optimizer moments, their step counts, and environments.
        """

    @abstractmethod
    def update(self, batch: Batch) -> Outcome:
        """Compute one local update of every agent of the batch."""


def start_rows(
    layout: Layout,
    draw: Callable[[np.random.Generator], Vector],
    seed: int,
    agents: Sequence[int],
    *,
    same: bool,
) -> Vector:
    """Return start parameters `(b, stride)` that a network draws (`Stack.start`).

    Args:
        layout: of one agent's parameters.
        draw: random numbers -> one row.
        seed: the run's seed.
        agents: whose rows.
        same: one draw for all from (seed, "start"); else each from its own stream.
    """
    rows = layout.zeros(len(agents))
    if same:
        rows[:] = draw(generator(seed, Purpose.START))
        return rows
    for row, agent in zip(rows, agents, strict=True):
        row[:] = draw(generator(seed, agent, Purpose.START))
    return rows


class Wrapped(Stack):
    """A learner around another one, with all that the other can do.

    A subclass overrides what differs.

    Args:
        inner: the learner that is wrapped.
    """

    def __init__(self, inner: Stack) -> None:
        self.inner = inner
        self.traits = inner.traits
        self.evaluator, self.exchange = inner.evaluator, inner.exchange
        self.objective, self.pooled = inner.objective, inner.pooled
        self.imitation = inner.imitation

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        return self.inner.start(agents, same=same)

    @override
    def common_start(self) -> Vector:
        return self.inner.common_start()

    @override
    def init(self, agents: Sequence[int]) -> State:
        return self.inner.init(agents)

    @override
    def update(self, batch: Batch) -> Outcome:
        return self.inner.update(batch)


@rule
class Learner(ABC):
    """Options every learner has.

    Attributes:
        lr: learning rate.
        same_start: all agents start at one point, from (seed, "start"); False: each from its own
            stream.
        moments: what happens to optimizer moments after mixing: keep, reset to zero, or average
            like the parameters, which needs a mean over all agents in every exchange.
        steps_environment: whether its updates act in the environment that it is given, step by
            step, so that actions and rewards can be changed on the way.
        of_mixing: options that say what follows an exchange; without one they have no effect.
        of_offers: by vector that the learner offers (`Exchange.offer`), the options that matter
            only where a payload sends it or a gate reads it.
    """

    steps_environment: ClassVar[bool] = False
    of_mixing: ClassVar[tuple[str, ...]] = ()
    of_offers: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})

    same_start: bool = True
    moments: Literal["keep", "reset", "average"] = "keep"
    lr: float = Field(default=1e-3, ge=0)

    @property
    def idle(self) -> tuple[str, ...]:
        """Options without effect beside the values of the others, named as in files."""
        return ()

    @property
    def encodes_images(self) -> bool:
        """Whether its networks make an image small before their dense layers."""
        return False

    @property
    def frames(self) -> int:
        """How many of an episode's last observations its networks see together."""
        return 1

    @property
    def gradient_steps(self) -> int | None:
        """Gradient steps of one update; None where the options do not say."""
        return None

    @abstractmethod
    def prepare(self, task: Task) -> Stack:
        """Bind the options to a task."""
