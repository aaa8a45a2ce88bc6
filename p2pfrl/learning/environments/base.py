"""The contract of environments: pure functions on arrays, and the loop around them.

An `Environment` computes on `(b, m, ...)` arrays: b agents, m parallel instances of each, one row
of physics per agent. It has no state of its own and draws no random numbers: uniform numbers are
passed to it. `ArraySimulator` adds what every environment shares: time limits, automatic reset,
episode returns. `GymSimulator` (gym.py) gives any other Gymnasium id the same interface. A
scenario's `environment` is a `Problem`: an `Environment`, or `Gym`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.errors import AgentError, ContractError
from p2pfrl.core.modules import is_of_package
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.core.scene import Scene

if TYPE_CHECKING:
    from p2pfrl.learning.environments.own_arrays import Functions

Array = NDArray[np.float64]
State = dict[str, NDArray[Any]]
Baseline = Callable[[Array, Mapping[str, NDArray[Any]], NDArray[np.int64]], NDArray[Any]]
"""A policy without learning: state `(b, m, s)`, physics `(b, 1, ...)` and steps since the episode
began `(b, m)` -> actions, `(b, m)` integers or `(b, m, a)` float32 within the bounds. It may see
the whole state, and what an agent does not observe."""


@dataclass(frozen=True)
class Spec:
    """Sizes and bounds of an environment.

    Attributes:
        observation: size of an observation vector (a tabular environment observes its state
            one-hot).
        actions: number of discrete actions, or 0 where actions are anything else.
        heads: where an action is several discrete ones taken together, how many there are of each.
        action_low, action_high: bounds of a continuous action, one per coordinate (empty when
            discrete); -inf or inf where a coordinate has no bound.
        counters: those of the measures that count since the run began: of these an update reports
            the last value of all instances together, and not a mean over steps.
        is_masked: whether an observation ends with a mask: for every discrete action (of all
            heads, one after the other) 1 where it is allowed and 0 where it is not. The others
            are never taken.
        image: (height, width, channels) of an observation that is an image, pixels in this order
            and without its mask; else empty.
        state: size of the state vector.
        reset_noise, step_noise: uniform numbers that one reset and one step consume.
        max_steps: time limit after which an episode is truncated, or None.
        states: number of states of a tabular environment, else 0.
        physics: what `[environment.vary]` may set, with defaults.
        ranges: (lowest, highest) value of each of them; one that is not named may be any number.
        measures: names of the environment's own measures that `step` returns, as far as they are
            known before the first step.
        baselines: policies without learning by name, which evaluation plays beside the agents' own.
        members: agents that act in one environment; above 1 in a shared world
            (environments/shared.py).
        apart: why members of a world, whose roles differ, must not average their policies; empty
            where they may.
        acts_on: how many numbers, the first of an observation, agents act on. The rest is for
            critics in training alone. 0: there is no rest.
    """

    observation: int
    state: int
    actions: int = 0
    heads: tuple[int, ...] = ()
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    reset_noise: int = 0
    step_noise: int = 0
    max_steps: int | None = None
    states: int = 0
    physics: Mapping[str, float] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    measures: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    is_masked: bool = False
    image: tuple[int, ...] = ()
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    members: int = 1
    apart: str = ""
    acts_on: int = 0

    @property
    def choices(self) -> tuple[int, ...]:
        """How many actions each discrete choice has: one choice, one per head, or none."""
        return self.heads or ((self.actions,) if self.actions else ())

    @property
    def mask(self) -> int:
        """Numbers of the mask at the end of an observation; 0 where there is none."""
        return sum(self.choices) if self.is_masked else 0


ARGUMENTS = "kwargs."
"""Begins the names of columns, beside those of the physics, with arguments of constructors."""
LONGEST = 10_000
"""Steps after which an episode of an evaluation counts as it stands, if it has no other limit."""


def longest(spec: Spec) -> int:
    """Return the most steps that an episode of an evaluation can take."""
    return spec.max_steps or LONGEST


class Problem(ABC):
    """An environment of a scenario: its sizes, its physics per agent, and its simulator.

    Attributes:
        is_saved_whole: whether the state arrays hold everything, so that a resumed run goes on with
            its episodes; else they begin anew.
        is_external: whether its simulator opens something outside of this process' arrays, such as
            a program or a machine. Nobody but its agent's process opens that unasked.
        varies_arguments: whether arguments of its constructor may differ between agents.
    """

    is_saved_whole: ClassVar[bool] = True
    is_external: ClassVar[bool] = False
    varies_arguments: ClassVar[bool] = False

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """Sizes, bounds and the names of the physics."""

    @property
    def vary(self) -> Mapping[str, Distribution]:
        """How the physics vary over agents where the scenario does not say.

        Those not named have the spec's defaults.
        """
        return {}

    @property
    def remarks(self) -> Sequence[str]:
        """What a user should know of how the environment is used, a line each."""
        return ()

    def physics(
        self, seed: int, agents: Sequence[int], columns: Mapping[str, Array]
    ) -> dict[str, NDArray[np.generic]]:
        """Return the physics of `agents`, `(b, ...)` each: columns, and tables from (seed, agent).

        Args:
            seed: the run's seed.
            agents: whose physics; agent i's depend on (seed, i) and its own column values alone.
            columns: one `(b,)` array for each name in `spec.physics`, and for each argument of a
                constructor that differs between agents, its name after `ARGUMENTS`.
        """
        return dict(columns)

    @abstractmethod
    def simulator(
        self,
        physics: Mapping[str, NDArray[np.generic]],
        instances: int,
        seed: int,
        max_steps: int | None = None,
    ) -> Simulator:
        """Return a simulator of `instances` copies per agent; arguments as for `ArraySimulator`."""

    def optimum(self, physics: Mapping[str, NDArray[np.generic]]) -> Array | None:
        """Return the expected undiscounted return `(b,)` of the best policy of each agent.

        No policy has a higher one. None where it is not known.

        Args:
            physics: `(b, ...)` rows as `physics` returned them.
        """
        return None

    def scene(self, state: Array) -> Scene | None:
        """Return what there is to see in a state `(s,)`; None: there are no pictures."""
        return None

    def instance(
        self, physics: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that are needed to check a result.

        These are the physics, and `P (n,S,A,S)` and `R (n,S,A)` of an environment with tables.
        """
        return dict(physics)


class Environment(Problem):
    """A family of Markov decision processes, one per row of `physics`.

    Subclasses are rules (frozen dataclasses).

    Shapes: `physics[name]` is `(b, 1, ...)` so that it broadcasts over the m instances; `state` is
    `(b, m, s)` float64. Every operation must be elementwise or otherwise independent of the other
    rows.

    Attributes:
        max_steps: steps after which an episode is truncated.
    """

    @override
    def simulator(
        self,
        physics: Mapping[str, NDArray[np.generic]],
        instances: int,
        seed: int,
        max_steps: int | None = None,
    ) -> Simulator:
        return ArraySimulator(self, physics, instances, seed, max_steps)

    @abstractmethod
    def reset(self, physics: Mapping[str, NDArray[np.generic]], noise: Array) -> Array:
        """Return start states `(b, m, s)` from uniform `noise` `(b, m, reset_noise)`."""

    @abstractmethod
    def observe(
        self, state: Array, physics: Mapping[str, NDArray[np.generic]]
    ) -> NDArray[np.float32]:
        """Return observations `(b, m, observation)`, float32, of `state`."""

    @abstractmethod
    def step(
        self,
        state: Array,
        action: NDArray[np.generic],
        physics: Mapping[str, NDArray[np.generic]],
        noise: Array,
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Advance one step.

        Args:
            state: `(b, m, s)`; not changed.
            action: `(b, m)` integers, `(b, m, heads)` integers, or `(b, m, a)` float32 within the
                bounds.
            physics: `(b, 1, ...)` each.
            noise: uniform `(b, m, step_noise)`.

        Returns:
            next state `(b, m, s)`, reward `(b, m)` float64, terminated `(b, m)`, measures `{name:
            (b, m)}`; a measure is nan where there is nothing to report in this step.
        """


@dataclass(frozen=True)
class Step:
    """The result of one step of all instances.

    Attributes:
        next_obs: `(b, m, o)` the true successor's observation: bootstrap from it where `truncated`.
        obs: `(b, m, o)` what to act on next: the successor, or the first observation of a new
            episode.
        reward: `(b, m)` float64.
        terminated: `(b, m)` the episode ended in a state without a future.
        truncated: `(b, m)` the time limit cut it; the successor still has a value. Never together
            with `terminated`.
        finished: `(b, m)` terminated or truncated.
        returns: `(b, m)` undiscounted return of the episode that finished here, else the return so
            far.
        lengths: `(b, m)` its length.
        measures: the environment's own, `(b, m)` each.
    """

    next_obs: NDArray[np.float32]
    obs: NDArray[np.float32]
    reward: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    finished: NDArray[np.bool_]
    returns: Array
    lengths: NDArray[np.int64]
    measures: dict[str, Array]


class Simulator(ABC):
    """Steps the environments of a batch of agents.

    `state` holds one row per agent, so that rows can be gathered.
    """

    spec: Spec
    instances: int
    world: tuple[str, ...] = ()
    """Names of the state arrays that belong to a shared world, equal in the rows of its members."""
    working: Callable[[str], None] | None = None
    """Called with the agent, the update or evaluation, and the step, where steps are slow."""
    open_episodes: tuple[int, int] = (0, 0)
    """Number of the last evaluation, and how many of its episodes had no end."""

    @abstractmethod
    def init(self, agents: Sequence[int], purpose: str = "environment") -> State:
        """Return the state of `agents` at the start of their first episodes, one row each."""

    @abstractmethod
    def observe(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        """Return the current observations `(b, m, o)`."""

    def shown(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        """Return the current observations `(b, m, o)`, and touch no environment.

        Anyone may ask, at any time. `observe` is for whoever steps the environments next.
        """
        return self.observe(agents, state)

    @abstractmethod
    def begin(
        self, agents: Sequence[int], index: Sequence[int], purpose: str = "environment"
    ) -> None:
        """Start a rollout.

        The random numbers of its steps are named by (seed, agent, purpose, index).
        """

    def narrow(self, rows: NDArray[np.intp]) -> bool:
        """Go on with some of the agents of the last `begin`, by their rows, and leave the others.

        Returns:
            whether it does; a simulator that cannot goes on with all.
        """
        return False

    def with_world(self) -> Simulator | None:
        """Return this simulator with observations that go on with what the other members observe.

        None: agents have no world in common.
        """
        return None

    @property
    def baselines(self) -> Mapping[str, Callable[[State], NDArray[Any]]]:
        """The policies without learning: state -> actions, of the agents of the last `begin`."""
        return {}

    def note_open(self, index: int, count: int) -> None:
        """Count episodes without an end in evaluation number `index`."""
        last, known = self.open_episodes
        self.open_episodes = index, count + (known if last == index else 0)

    def picture(self, state: State) -> Scene | NDArray[np.uint8] | None:
        """Return the moment of the first agent's first instance: a scene, or pixels (h, w, 3).

        None: there are no pictures.
        """
        return None

    @abstractmethod
    def step(self, state: State, action: NDArray[np.generic]) -> Step:
        """Advance all instances by one step, and reset those that finish; change `state`."""

    def close(self) -> None:
        """Close what was opened; what is needed again later is opened anew."""
        return


def moment(purpose: str, index: int, step: int) -> str:
    """Return the update or the evaluation, and its step, in words."""
    word = {
        "environment": "update",
        "public": "public states of update",
        "pace": "measurement",
    }.get(purpose, purpose)
    return f"{word} {index}, step {step}"


class PureSimulator(Simulator):
    """Base of simulators of pure functions: time limit, random numbers of a rollout, checks.

    Args:
        spec: sizes and bounds.
        instances: parallel copies m.
        seed: the run's seed.
        max_steps: time limit, overriding the environment's own.
        name: of the environment, in messages.
    """

    def __init__(
        self, spec: Spec, instances: int, seed: int, max_steps: int | None, name: str
    ) -> None:
        self.spec = spec
        self.instances = instances
        self.max_steps = max_steps or spec.max_steps
        self._seed = seed
        self._name = name
        self._rows: dict[str, NDArray[Any]] = {}
        self._agents: Sequence[int] = ()
        self._index: Sequence[int] = ()
        self._purpose = ""
        self._resets = self._noise = Streams.of(seed, [], Purpose.ENVIRONMENT)
        self._position = 0

    def _draw_noise(self, rows: int) -> Array:
        """Return the uniform numbers of one step, `(rows, m, step_noise)`."""
        if not self.spec.step_noise:
            return np.empty((rows, self.instances, 0))
        return self._noise.uniform(self.instances, self.spec.step_noise)

    def _draw_resets(self, rows: NDArray[np.intp], instances: NDArray[np.intp]) -> Array:
        """Return the uniform numbers of the episodes that begin after this step, one row each."""
        position = self._position * self.instances + instances
        return self._resets.uniform_at(rows, position, self.spec.reset_noise)

    def _cut(self, terminated: NDArray[np.bool_], elapsed: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which episodes the time limit ends now."""
        if not self.max_steps:
            return np.zeros_like(terminated)
        return ~terminated & (elapsed >= self.max_steps)

    def _check(self, what: str, values: NDArray[Any]) -> None:
        """Refuse values `(b, m, ...)` of the environment that are not finite."""
        if 0 not in np.isfinite(values).tobytes():  # faster than `all` for short arrays
            return
        row, instance = np.argwhere(~np.isfinite(values))[0, :2].tolist()
        bad = values[row, instance].ravel()
        raise AgentError(
            int(self._agents[row]),
            f"{moment(self._purpose, self._index[row], self._position)}, instance {instance} of "
            f"{self._name}: step returned {what} {bad[np.argmin(np.isfinite(bad))]}; "
            "expected finite numbers",
        )

    def _broken(self, error: ContractError, agents: Sequence[int]) -> AgentError:
        """Return the error of a call for `agents` with the first of them and the moment."""
        agent, when = int(agents[0]), "start of episodes"
        if agent in self._agents:
            row = list(self._agents).index(agent)
            when = moment(self._purpose, int(self._index[row]), self._position)
        others = f" (called for {len(agents)} agents at once)" if len(agents) > 1 else ""
        return AgentError(agent, f"{when}, {error}{others}")


def checked(environment: Functions) -> Functions:
    """Return the functions of an environment; a user's own with checks of what they return."""
    if is_of_package(type(environment)):
        return environment
    from p2pfrl.learning.environments.own_arrays import CheckedFunctions

    return CheckedFunctions(environment)


class ArraySimulator(PureSimulator):
    """A simulator over an array `Environment`.

    Args:
        environment: the functions.
        physics: `(n, ...)` rows for all agents, as `Environment.physics` returned them.
        instances: parallel copies m per agent.
        seed: the run's seed.
        max_steps: time limit, overriding the environment's own.
    """

    def __init__(
        self,
        environment: Environment,
        physics: Mapping[str, NDArray[np.generic]],
        instances: int,
        seed: int,
        max_steps: int | None = None,
    ) -> None:
        name = f"environment {type(environment).__name__}"
        super().__init__(environment.spec, instances, seed, max_steps, name)
        self.environment = environment
        self._calls = checked(environment)
        self._physics = {name: values[:, None] for name, values in physics.items()}

    @property
    def physics(self) -> dict[str, NDArray[np.generic]]:
        """Return the physics of all agents, `(n, ...)` each."""
        return {name: values[:, 0] for name, values in self._physics.items()}

    @override
    def init(self, agents: Sequence[int], purpose: str = "environment") -> State:
        b, m = len(agents), self.instances
        noise = Streams.of(self._seed, agents, f"{purpose}-start").uniform(m, self.spec.reset_noise)
        try:
            state = self._calls.reset(self._gather(agents), noise)
        except ContractError as error:
            raise self._broken(error, agents) from error.__cause__
        return {
            "state": state,
            "elapsed": np.zeros((b, m), dtype=np.int64),
            "episode_return": np.zeros((b, m), dtype=np.float64),
        }

    @override
    def observe(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        return self._look(agents, state, self._gather(agents))

    @override
    def begin(
        self, agents: Sequence[int], index: Sequence[int], purpose: str = "environment"
    ) -> None:
        """Gather the physics of `agents` and name the random streams of this rollout."""
        self._rows = self._gather(agents)
        self._agents, self._index, self._purpose = agents, index, purpose
        self._resets = Streams.of(self._seed, agents, f"{purpose}-reset", index)
        self._noise = Streams.of(self._seed, agents, f"{purpose}-noise", index)
        self._position = 0

    @override
    def narrow(self, rows: NDArray[np.intp]) -> bool:
        self._rows = {name: values[rows] for name, values in self._rows.items()}
        self._agents = [self._agents[row] for row in rows]
        self._index = [self._index[row] for row in rows]
        self._resets, self._noise = self._resets.of_rows(rows), self._noise.of_rows(rows)
        return True

    @override
    def picture(self, state: State) -> Scene | None:
        return self.environment.scene(state["state"][0, 0])

    @property
    @override
    def baselines(self) -> Mapping[str, Callable[[State], NDArray[Any]]]:
        def bound(policy: Baseline) -> Callable[[State], NDArray[Any]]:
            return lambda state: policy(state["state"], self._rows, state["elapsed"])

        return {name: bound(policy) for name, policy in self.spec.baselines.items()}

    def _look(
        self, agents: Sequence[int], state: State, physics: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.float32]:
        """Return what `agents` with these physics observe."""
        try:
            return self._calls.observe(state["state"], physics)
        except ContractError as error:
            raise self._broken(error, agents) from error.__cause__

    @override
    def step(self, state: State, action: NDArray[np.generic]) -> Step:
        try:
            return self._step(state, action)
        except ContractError as error:
            raise self._broken(error, self._agents) from error.__cause__

    def _step(self, state: State, action: NDArray[np.generic]) -> Step:
        environment, physics = self._calls, self._rows
        values, reward, terminated, measures = environment.step(
            state["state"], action, physics, self._draw_noise(len(action))
        )
        self._check("reward", reward)
        elapsed, returns = state["elapsed"] + 1, state["episode_return"] + reward
        truncated = self._cut(terminated, elapsed)
        finished = terminated | truncated
        obs = next_obs = environment.observe(values, physics)
        self._check("an observation of", next_obs)
        state.update(state=values, elapsed=elapsed, episode_return=returns)
        if finished.any():
            rows, instances = np.nonzero(finished)
            fresh = self._draw_resets(rows, instances)
            own = {name: value.take(rows, axis=0) for name, value in physics.items()}
            values = values.copy()
            values[rows, instances] = environment.reset(own, fresh[:, None])[:, 0]
            state.update(
                state=values,
                elapsed=np.where(finished, 0, elapsed),
                episode_return=np.where(finished, 0.0, returns),
            )
            obs = next_obs.copy()
            obs[rows, instances] = environment.observe(values[rows, instances][:, None], own)[:, 0]
        self._position += 1
        return Step(
            next_obs, obs, reward, terminated, truncated, finished, returns, elapsed, measures
        )

    def _gather(self, agents: Sequence[int]) -> dict[str, NDArray[np.generic]]:
        rows = np.asarray(agents, dtype=np.intp)
        return {name: values[rows] for name, values in self._physics.items()}
