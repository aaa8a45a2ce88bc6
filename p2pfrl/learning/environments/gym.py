"""Any other Gymnasium id.

There are `instances` environments per agent, which are stepped one after the other.

Unlike array environments, these have state that cannot be gathered or stored: it lives in
Gymnasium's objects. The rows of `State` hold only the observation, the episode so far and a `tick`
that says which moment of the objects they belong to. The two disagree if an update was computed and
then thrown away because its agent crashed, or if a run is resumed from a checkpoint. Then the
agent's episodes start anew, from seeds that (seed, agent, tick) name. Without crashes and
checkpoints that never happens.

Every episode is seeded from (seed, agent, purpose, update, step, instance), so an agent's random
numbers depend on neither the number of agents nor who shares its batch.

This module is the seam to code of users, which may raise anything and return anything. Whatever an
environment raises becomes a `AgentError` or, where it cannot be made, a `ScenarioError`. What it
returns is checked: the number of values, the shape of observations, and that observations and
rewards are finite.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.causes import FOREIGN, cause
from p2pfrl.core.errors import AgentError, ScenarioError
from p2pfrl.core.finder import is_file
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.located import Located
from p2pfrl.core.rng import key
from p2pfrl.core.rule import rule
from p2pfrl.core.wording import show
from p2pfrl.learning.environments import specs
from p2pfrl.learning.environments.base import Problem, Simulator, Spec, State, Step, moment

if TYPE_CHECKING:
    import gymnasium
else:
    gymnasium = LazyModule("gymnasium")

_NOT_PHYSICS = ("_", "screen", "render")
_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
_PIXEL = np.float32(1 / 255)


@rule
class Gym(Problem, Located):
    """A Gymnasium environment by id.

    Physics: the numbers among the attributes of the unwrapped environment. Observations are
    flattened (`gymnasium.spaces.flatten`) into float32; bytes, such as pixels, are
    divided by 255. Actions are discrete, or boxes with finite bounds. Policies act in [-1, 1] per
    coordinate, and -1 and 1 are the bounds of the box. Only attributes whose value differs from the
    environment's own are set, after it was made, so numbers that its constructor derived from them
    keep their values; `kwargs` reach the constructor. Measures: the numbers in `info`, with nan
    where a step does not report one.

    Attributes:
        id: as `gymnasium.make` takes it.
        max_steps: time limit; None: the id's own.
        kwargs: of the constructor: any values of TOML, lists and tables too.
    """

    is_saved_whole: ClassVar[bool] = False
    is_external: ClassVar[bool] = True

    id: str
    max_steps: int | None = Field(default=None, ge=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)

    @cached_property
    @override
    def spec(self) -> Spec:
        """Sizes and bounds, found by making one environment, which is closed without a step.

        Raises:
            ScenarioError: no such environment, a package that it needs is missing, or its spaces
                are not supported.
        """
        # A scenario is checked and bound several times, and groups are copies of it. So specs are
        # kept by value, or every check would open the environment again.
        if (known := specs.find(self.id, self.options)) is not None:
            return known
        arguments = specs.options({"max_steps": self.max_steps, "kwargs": self._arguments()})
        key = (_entry_point(self.id), self.id, arguments)
        if key not in _SPECS:
            env = self.make()
            try:
                _SPECS[key] = _spec(self.id, env)
            finally:
                _close(env, self.id)
        specs.note(self.id, _SPECS[key])
        return _SPECS[key]

    @property
    def options(self) -> str:
        """All options but the id, as text."""
        return specs.options({"max_steps": self.max_steps, "kwargs": self.kwargs})

    @override
    def simulator(
        self,
        physics: Mapping[str, NDArray[np.generic]],
        instances: int,
        seed: int,
        max_steps: int | None = None,
    ) -> Simulator:
        return GymSimulator(self, physics, instances, seed, max_steps)

    def _arguments(self) -> dict[str, Any]:
        """Return `kwargs`, with the paths of files that stand beside the scenario."""
        found = {name: str(path) for name, path in self.files().items()}
        return {
            name: found.get(value, value) if isinstance(value, str) else value
            for name, value in self.kwargs.items()
        }

    @override
    def files(self) -> Mapping[str, Path]:
        """Return the files among `kwargs`, such as `xml_file`."""
        texts = [value for value in self.kwargs.values() if isinstance(value, str) and value]
        paths = {text: self.beside(text) or Path(text) for text in texts}
        return {text: path for text, path in paths.items() if is_file(path)}

    @override
    def modules(self) -> tuple[str, ...]:
        """Return the module that registers the environment and the one that makes it."""
        named = self.id.partition(":")[0] if ":" in self.id else ""
        maker = _entry_point(self.id)
        made = (
            maker.partition(":")[0] if isinstance(maker, str) else getattr(maker, "__module__", "")
        )
        return tuple(filter(None, (named, made)))

    def make(self, max_steps: int | None = None) -> gymnasium.Env[Any, Any]:
        """Return one environment.

        Raises:
            ScenarioError: Gymnasium cannot make it.
        """
        limit = max_steps or self.max_steps
        try:
            return gymnasium.make(
                self.id, max_episode_steps=limit, disable_env_checker=True, **self._arguments()
            )
        except gymnasium.error.Error as error:
            raise ScenarioError(
                [
                    f"environment.id: Gymnasium cannot make {self.id!r}: {' '.join(str(error).split())}"
                ]
            ) from error
        except FOREIGN as error:
            where, given = (
                ("environment.kwargs", f" with {self.kwargs}")
                if self.kwargs
                else ("environment.id", "")
            )
            raise ScenarioError(
                [f"{where}: Gymnasium cannot make {self.id!r}{given}: {_reason(error)}"]
            ) from error


_SPECS: dict[tuple[object, str, str], Spec] = {}


def opened(problems: Iterable[Problem | None]) -> list[specs.Opened]:
    """Return the sizes of those problems that are Gymnasium environments."""
    found = [problem for problem in problems if isinstance(problem, Gym)]
    return [specs.Opened(id=one.id, options=one.options, spec=one.spec) for one in found]


def _entry_point(id: str) -> object:
    """Return what makes the environment, or None if it is not known.

    A class that is defined anew is another one.
    """
    module, _, name = id.rpartition(":")
    try:
        if module:
            import_module(module)
    except FOREIGN:
        return None  # `make` says why
    found = gymnasium.registry.get(name)
    return None if found is None else found.entry_point


def _space(id: str, env: gymnasium.Env[Any, Any], name: str) -> Any:
    """Return a space of an environment.

    Raises:
        ScenarioError: it has none.
    """
    try:
        return getattr(env, name)
    except FOREIGN as error:
        raise ScenarioError(
            [
                f"environment.id: {id!r} has no {name}: {_reason(error)}; "
                f"set self.{name} in its constructor"
            ]
        ) from error


def _spec(id: str, env: gymnasium.Env[Any, Any]) -> Spec:
    space = _space(id, env, "action_space")
    actions, width = 0, 0
    if isinstance(space, gymnasium.spaces.Discrete):
        actions = int(space.n)
    elif isinstance(space, gymnasium.spaces.Box) and space.is_bounded("both"):
        width = int(np.prod(space.shape))
    else:
        raise ScenarioError(
            [
                f"environment.id: {id!r} has actions {show(space)}; "
                "expected discrete ones or a bounded box"
            ]
        )
    seen = _space(id, env, "observation_space")
    if not getattr(seen, "is_np_flattenable", False):
        raise ScenarioError(
            [
                f"environment.id: the observations of {id!r} are {show(seen)}, which cannot be "
                "flattened to a vector of one size; wrap the environment so that it returns a Box"
            ]
        )
    physics = {
        name: float(value)
        for name, value in sorted(vars(env.unwrapped).items())
        if type(value) in (int, float, np.float64, np.float32) and not name.startswith(_NOT_PHYSICS)
    }
    return Spec(
        observation=int(gymnasium.spaces.flatdim(seen)),
        state=0,
        actions=actions,
        action_low=(-1.0,) * width,
        action_high=(1.0,) * width,
        max_steps=env.spec.max_episode_steps if env.spec else None,
        physics={name: value for name, value in physics.items() if np.isfinite(value)},
    )


def _reason(error: BaseException) -> str:
    """Return what an environment raised, with the user's line."""
    return cause(error, *gymnasium.__path__)


def _close(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Close an environment; one that cannot be closed is reported, since nothing depends on it."""
    try:
        env.close()
    except FOREIGN as error:
        warnings.warn(f"{name}: close() raised {_reason(error)}", RuntimeWarning, stacklevel=2)


def _scale(space: gymnasium.Space[Any]) -> NDArray[np.float32]:
    """Return the factor of every coordinate of a flattened observation: 1/255 for bytes, else 1."""
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return np.concatenate([_scale(child) for child in inner])
    is_bytes = isinstance(space, spaces.Box) and space.dtype == np.uint8
    return np.full(spaces.flatdim(space), _PIXEL if is_bytes else 1.0, dtype=np.float32)


def _scaled(action: NDArray[Any], space: gymnasium.spaces.Box) -> NDArray[Any]:
    """Return the action of a box for numbers `(a,)` in [-1, 1]."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    values = (low / 2 + high / 2) + (high / 2 - low / 2) * action.reshape(space.shape)
    if np.issubdtype(space.dtype, np.integer):
        values = np.rint(values)
    # Rounding to the box's type may leave the box by one unit in the last place.
    scaled: NDArray[Any] = np.clip(values.astype(space.dtype), space.low, space.high)
    return scaled


class GymSimulator(Simulator):
    """A simulator over Gymnasium environments, made when an agent is first used.

    Args:
        problem: which environment.
        physics: `(n,)` rows of attribute values for all agents.
        instances: parallel copies m per agent.
        seed: the run's seed.
        max_steps: time limit, overriding the problem's own.
    """

    def __init__(
        self,
        problem: Gym,
        physics: Mapping[str, NDArray[np.generic]],
        instances: int,
        seed: int,
        max_steps: int | None = None,
    ) -> None:
        self.spec = problem.spec
        self.instances = instances
        self._problem = problem
        self._physics = physics
        self._seed = seed
        self._max_steps = max_steps
        self._envs: dict[int, list[gymnasium.Env[Any, Any]]] = {}
        self._factors: NDArray[np.float32] | None = None
        self._ticks: dict[int, int] = {}
        self._path: list[tuple[int | str, ...]] = []
        self._agents: Sequence[int] = ()
        self._position = 0

    @override
    def init(self, agents: Sequence[int], purpose: str = "environment") -> State:
        """Seed every copy; return the state of `agents` at the start of their first episodes."""
        b, m = len(agents), self.instances
        state: State = {
            "obs": np.zeros((b, m, self.spec.observation), dtype=np.float32),
            "elapsed": np.zeros((b, m), dtype=np.int64),
            "episode_return": np.zeros((b, m), dtype=np.float64),
            "tick": np.zeros(b, dtype=np.int64),
        }
        for row, agent in enumerate(agents):
            self._restart(row, int(agent), state, (purpose, "start"))
        return state

    @override
    def observe(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        """Return the current observations.

        Rows that their objects have left behind start new episodes.
        """
        self._align(agents, state)
        return state["obs"].astype(np.float32)

    @override
    def shown(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        """Return the observations that the rows hold."""
        return state["obs"].astype(np.float32)

    @override
    def begin(
        self, agents: Sequence[int], index: Sequence[int], purpose: str = "environment"
    ) -> None:
        """Name the seeds of the episodes that start in this rollout."""
        self._agents = [int(agent) for agent in agents]
        self._path = [(purpose, int(i)) for i in index]
        self._position = 0

    @override
    def step(self, state: State, action: NDArray[np.generic]) -> Step:
        self._align(self._agents, state)
        b, m = len(self._agents), self.instances
        next_obs = np.empty((b, m, self.spec.observation), dtype=np.float32)
        reward = np.empty((b, m), dtype=np.float64)
        terminated, truncated = np.empty((b, m), dtype=np.bool_), np.empty((b, m), dtype=np.bool_)
        measures: dict[str, NDArray[np.float64]] = {}
        for row, agent in enumerate(self._agents):
            if self.working is not None:
                self.working(f"agent {agent}, {self._moment(row)}")
            for j, env in enumerate(self._envs[agent]):
                seen, reward[row, j], ended, cut, info = self._step(row, j, env, action[row, j])
                next_obs[row, j] = seen
                terminated[row, j], truncated[row, j] = ended, cut and not ended
                for name, value in info.items():
                    if isinstance(value, _NUMBERS) and isinstance(name, str):
                        if name not in measures:
                            measures[name] = np.full((b, m), np.nan)
                        measures[name][row, j] = value
        finished = terminated | truncated
        returns, lengths = state["episode_return"] + reward, state["elapsed"] + 1
        obs = next_obs
        if finished.any():
            obs = next_obs.copy()
            for row, j in np.argwhere(finished).tolist():
                agent = self._agents[row]
                seed = self._seeds(agent, (*self._path[row], self._position))[j]
                obs[row, j] = self._reset(agent, j, seed, self._moment(row))
        for agent in self._agents:
            self._ticks[agent] += 1
        state.update(
            obs=obs.copy(),
            elapsed=np.where(finished, 0, lengths),
            episode_return=np.where(finished, 0.0, returns),
            tick=state["tick"] + 1,
        )
        self._position += 1
        return Step(
            next_obs, obs, reward, terminated, truncated, finished, returns, lengths, measures
        )

    @override
    def close(self) -> None:
        """Close every environment; one that is needed again later is made anew."""
        for agent, envs in self._envs.items():
            for j, env in enumerate(envs):
                _close(env, f"agent {agent}, instance {j}")
        self._envs.clear()
        self._ticks.clear()

    def _step(
        self, row: int, j: int, env: gymnasium.Env[Any, Any], action: NDArray[Any]
    ) -> tuple[NDArray[np.float32], float, bool, bool, Mapping[Any, Any]]:
        """Step one environment and check what it returns."""
        space = env.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            taken: Any = np.int64(action) + space.start
        else:
            assert isinstance(space, gymnasium.spaces.Box)
            taken = _scaled(action, space)

        def refuse(what: str) -> AgentError:
            call = f"step({show(np.asarray(taken).tolist())})"
            return self._error(self._agents[row], j, self._moment(row), f"{call} {what}")

        try:
            found = env.step(taken)
        except FOREIGN as error:
            raise refuse(f"raised {_reason(error)}") from error
        if not isinstance(found, tuple) or len(found) != 5:
            raise refuse(f"returned {_count(found)}; {_EXPECTED_STEP}")
        seen, reward, terminated, truncated, info = found
        try:
            value, ended, cut = float(reward), bool(terminated), bool(truncated)
        except (TypeError, ValueError) as error:
            what = (
                f"reward {show(reward)}, terminated {show(terminated)}, truncated {show(truncated)}"
            )
            raise refuse(f"returned {what}; expected a number and two truth values") from error
        if not isinstance(info, Mapping):
            raise refuse(f"returned info {show(info)}; expected a dict")
        if not np.isfinite(value):
            raise refuse(f"returned reward {value}; expected a finite number")
        return self._flat(env, seen, refuse), value, ended, cut, info

    def _reset(self, agent: int, j: int, seed: int, moment: str) -> NDArray[np.float32]:
        """Reset one environment and check what it returns."""
        env = self._envs[agent][j]

        def refuse(what: str) -> AgentError:
            return self._error(agent, j, moment, f"reset(seed={seed}) {what}")

        try:
            found = env.reset(seed=seed)
        except FOREIGN as error:
            raise refuse(f"raised {_reason(error)}") from error
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], Mapping):
            raise refuse(f"returned {_count(found)}; {_EXPECTED_RESET}")
        return self._flat(env, found[0], refuse)

    def _flat(
        self, env: gymnasium.Env[Any, Any], seen: Any, refuse: Callable[[str], AgentError]
    ) -> NDArray[np.float32]:
        """Return an observation as a finite vector."""
        space = env.observation_space
        spaces = gymnasium.spaces
        arrays = (spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)
        if isinstance(space, arrays) and np.shape(seen) != space.shape:
            what = f"an observation of shape {np.shape(seen)}"
            raise refuse(f"returned {what}; expected one of {show(space)}")
        try:
            with np.errstate(over="ignore"):
                flat = np.asarray(gymnasium.spaces.flatten(space, seen)).astype(np.float32)
        except FOREIGN as error:
            what = f"observation {show(seen)}; expected one of {show(space)}"
            raise refuse(f"returned {what}: {_reason(error)}") from error
        if flat.shape != (self.spec.observation,):
            what = f"an observation of shape {np.shape(seen)}"
            raise refuse(f"returned {what}; expected one of {show(space)}")
        if not np.isfinite(flat).all():
            bad = int(np.argmin(np.isfinite(flat)))
            what = f"an observation whose number {bad} is {flat[bad]}"
            raise refuse(f"returned {what}; expected finite numbers")
        if self._factors is None:
            self._factors = _scale(space)
        return flat * self._factors

    def _moment(self, row: int) -> str:
        """Return the update or evaluation, and the step in it, that is under way."""
        purpose, index = self._path[row]
        return moment(str(purpose), int(index), self._position)

    def _error(self, agent: int, j: int, moment: str, what: str) -> AgentError:
        return AgentError(
            agent, f"{moment}, instance {j} of environment {self._problem.id!r}: {what}"
        )

    def _align(self, agents: Sequence[int], state: State) -> None:
        for row, agent in enumerate(agents):
            if self._ticks.get(int(agent)) != state["tick"][row]:
                self._restart(row, int(agent), state, ("restart", int(state["tick"][row])))

    def _restart(self, row: int, agent: int, state: State, path: tuple[int | str, ...]) -> None:
        if agent not in self._envs:
            self._envs[agent] = self._make(agent)
        for j, seed in enumerate(self._seeds(agent, path)):
            state["obs"][row, j] = self._reset(agent, j, seed, "start of episodes")
        self._ticks[agent] = self._ticks.get(agent, 0) + 1
        state["elapsed"][row], state["episode_return"][row] = 0, 0.0
        state["tick"][row] = self._ticks[agent]

    def _seeds(self, agent: int, path: tuple[int | str, ...]) -> list[int]:
        instances = range(self.instances)
        return [
            int.from_bytes(key(self._seed, agent, "gym", *path, j)[:4], "little") >> 1
            for j in instances
        ]

    def _make(self, agent: int) -> list[gymnasium.Env[Any, Any]]:
        """Return the environments of an agent; if one of them cannot be made, close the others."""
        made: list[gymnasium.Env[Any, Any]] = []
        with ExitStack() as opened:
            for j in range(self.instances):
                made.append(self._problem.make(self._max_steps))
                opened.callback(_close, made[-1], f"agent {agent}, instance {j}")
                self._vary(agent, made[-1])
            opened.pop_all()
        return made

    def _vary(self, agent: int, env: gymnasium.Env[Any, Any]) -> None:
        """Set the physics of an agent that differ from the environment's own."""
        for name, default in self.spec.physics.items():
            value = float(self._physics[name][agent])
            if value == default:
                continue
            try:
                kind = type(getattr(env.unwrapped, name))
                setattr(env.unwrapped, name, kind(round(value) if kind is int else value))
            except FOREIGN as error:
                raise AgentError(
                    agent,
                    f"environment.vary.{name}: {value} cannot be set in {self._problem.id!r}: "
                    f"{_reason(error)}",
                ) from error


_OLD = "as Gymnasium since 0.26; wrap an environment of the older interface"
_EXPECTED_STEP = f"expected observation, reward, terminated, truncated, info, {_OLD}"
_EXPECTED_RESET = f"expected observation and info, a dict, {_OLD}"


def _count(found: object) -> str:
    """Return what a call returned, for a message: the number of values, or the value."""
    return f"{len(found)} values" if isinstance(found, tuple) else f"one value, {show(found)}"
