"""Gymnasium environments: by an id of Gymnasium, or a class or function of a user's own.

There are `instances` copies per agent, which are stepped one after the other, or all at once where
they are a `VectorEnv`.

Unlike array environments, these have state that cannot be gathered or stored: it lives in
Gymnasium's objects. The rows of `State` hold only the observation, the episode so far and a `tick`
that says which moment of the objects they belong to. The two disagree if an update was computed and
then thrown away because its agent crashed, or if a run is resumed from a checkpoint. Then the
agent's episodes start anew, from seeds that (seed, agent, tick) name. Without crashes and
checkpoints that never happens.

Every episode is seeded from (seed, agent, purpose, update, step, instance), so an agent's random
numbers depend on neither the number of agents nor who shares its batch. A `VectorEnv` that resets
by itself is seeded where all its copies start.

These modules are the seam to code of users, which may raise anything and return anything: `makers`
makes environments, `copies` steps them, and `spaces` checks what they return. Whatever an
environment raises becomes an `AgentError` or, where it cannot be made, a `ScenarioError`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.causes import foreign
from p2pfrl.core.errors import AgentError, ScenarioError, ScenarioWarning
from p2pfrl.core.finder import is_file
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.located import Located
from p2pfrl.core.rng import key
from p2pfrl.core.rule import rule
from p2pfrl.core.wording import show
from p2pfrl.learning.environments import specs
from p2pfrl.learning.environments.base import (
    ARGUMENTS,
    Problem,
    Simulator,
    Spec,
    State,
    Step,
    moment,
)
from p2pfrl.learning.environments.copies import (
    ERRORS,
    Copies,
    CopyError,
    Separate,
    Stepped,
    Together,
    View,
    autoreset_of,
    close,
    reason,
)
from p2pfrl.learning.environments.makers import (
    COPIES,
    call,
    entry_of,
    maker_of,
    parameters_of,
    unmade,
)
from p2pfrl.learning.environments.spaces import (
    MASK,
    Observations,
    Unsupported,
    actions_of,
    number,
)

if TYPE_CHECKING:
    import gymnasium

    Single = gymnasium.Env[Any, Any]
    Vector = gymnasium.vector.VectorEnv[Any, Any, Any]
else:
    gymnasium = LazyModule("gymnasium")

_NOT_PHYSICS = ("_", "screen", "render")
_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)


@rule
class Gym(Problem, Located):
    """A Gymnasium environment: by an id of Gymnasium, or "module:Name" of a class or function.

    Physics: the numbers among the attributes of the unwrapped environment. Observations are
    flattened (`gymnasium.spaces.flatten`) into float32; bytes, such as pixels, are divided by 255,
    and texts are left out. Actions are discrete, several discrete ones at once, or boxes. Policies
    act in [-1, 1] per coordinate, and -1 and 1 are the bounds of the box; a coordinate that lacks a
    bound gets the policy's number as it is. Only attributes whose value differs from the
    environment's own are set, after it was made, so numbers that its constructor derived from them
    keep their values; `kwargs` reach the constructor. Measures: the numbers in `info`, with nan
    where a step does not report one.

    Attributes:
        id: as `gymnasium.make` takes it, or "module:Name".
        max_steps: time limit; None: the id's own.
        kwargs: of the constructor: any values of TOML, lists and tables too.
        resize: (height, width) to which images are resized, by means over areas.
        gray: whether images become gray.
        action_mask: whether `info["action_mask"]`, or the key "action_mask" of observations that
            are a `Dict`, says which discrete actions are allowed: 1 where one is, else 0.
        on_error: what happens if the environment raises an error or returns what does not fit:
            "stop" ends the run; "reset" ends the episode without a reward, counts the error in the
            measure `environment_errors`, and starts a new episode.
        is_real: whether it is a machine or plant in the real world. Then `validate` takes no steps
            to measure their time.
    """

    is_saved_whole: ClassVar[bool] = False
    is_external: ClassVar[bool] = True
    varies_arguments: ClassVar[bool] = True

    id: str
    max_steps: int | None = Field(default=None, ge=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    resize: tuple[int, int] | None = None
    gray: bool = False
    action_mask: bool = False
    on_error: Literal["stop", "reset"] = "stop"
    is_real: bool = False

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
        found = self._seen[0]
        specs.note(self.id, found)
        return found

    @property
    @override
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of how the environment is used."""
        return () if specs.find(self.id, self.options) is not None else self._seen[1]

    @property
    def _seen(self) -> tuple[Spec, tuple[str, ...]]:
        """Sizes and remarks, found by making an environment once."""
        arguments = specs.options({**self._values(), "kwargs": self._arguments()})
        made_by = maker_of(self.id) or entry_of(self.id)
        key = (made_by, self.id, arguments)
        if key not in _SEEN:
            env = self.make(0, 1)
            try:
                view = self.view(env)
                _SEEN[key] = _spec(view, env, self), tuple(_remarks(self, view))
            finally:
                close(env, self.id)
        return _SEEN[key]

    @property
    def options(self) -> str:
        """All options on which sizes depend but the id, as text."""
        return specs.options({**self._values(), "kwargs": self.kwargs})

    def _values(self) -> dict[str, object]:
        """Return the options on which sizes depend, without `kwargs`."""
        changed = {
            "resize": self.resize,
            "gray": self.gray,
            "action_mask": self.action_mask,
            "forgives": self.on_error == "reset",
        }
        return {"max_steps": self.max_steps, **{name: x for name, x in changed.items() if x}}

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
        maker = maker_of(self.id) or entry_of(self.id)
        made = (
            maker.partition(":")[0] if isinstance(maker, str) else getattr(maker, "__module__", "")
        )
        return tuple(filter(None, (named, made)))

    def parameters(self) -> Mapping[str, inspect.Parameter] | None:
        """Return the parameters of the constructor; None if they are not known."""
        entry = maker_of(self.id) or entry_of(self.id)
        return parameters_of(entry) if callable(entry) or isinstance(entry, str) else None

    def with_arguments(self, values: Mapping[str, float]) -> Gym:
        """Return the environment with these numbers as arguments of its constructor."""
        return replace(self, kwargs={**self.kwargs, **self.arguments(values)})

    def arguments(self, values: Mapping[str, float]) -> dict[str, object]:
        """Return numbers as the constructor takes them: of the type of its own value, by name."""
        known = (self.parameters() or {}) if values else {}
        found: dict[str, object] = {}
        for name, value in values.items():
            default = known[name].default if name in known else None
            found[name] = _like(value, self.kwargs.get(name, default))
        return found

    def make(
        self,
        agent: int,
        copies: int,
        *,
        arguments: Mapping[str, object] | None = None,
        max_steps: int | None = None,
    ) -> Single | Vector:
        """Return one environment, or one vector environment of all copies.

        Args:
            agent: whose.
            copies: how many a vector environment has.
            arguments: of the constructor, beside `kwargs`.
            max_steps: time limit; None: that of the options.

        Raises:
            ScenarioError: it cannot be made.
        """
        limit = max_steps or self.max_steps
        given = {**self._arguments(), **(arguments or {})}
        maker = maker_of(self.id)
        try:
            if maker is None:
                return gymnasium.make(
                    self.id, max_episode_steps=limit, disable_env_checker=True, **given
                )
            env = call(maker, self.id, given, agent=agent, copies=copies)
        except ScenarioError:
            raise
        except foreign() as error:
            raise unmade(self.id, {**self.kwargs, **(arguments or {})}, error) from error
        if isinstance(env, gymnasium.vector.VectorEnv):
            _check_vector(self.id, env, copies, limit)
            return env
        assert isinstance(env, gymnasium.Env)
        return env if limit is None else gymnasium.wrappers.TimeLimit(env, limit)

    def view(self, env: Single | Vector) -> View:
        """Return what an agent sees of an environment, and what it does.

        Raises:
            ScenarioError: its spaces are not supported.
        """
        is_one = isinstance(env, gymnasium.vector.VectorEnv)
        places = [
            f"{'single_' if is_one else ''}{name}_space" for name in ("action", "observation")
        ]
        space, seen = (_space(self.id, env, name) for name in places)
        try:
            actions = actions_of(space)
        except Unsupported as error:
            raise ScenarioError(
                [f"environment.id: {self.id!r} has actions {show(space)}; {error}"]
            ) from error
        if self.action_mask and not (actions.actions or actions.heads):
            what = f"masks are of discrete actions, and {self.id!r} has {show(space)}"
            raise ScenarioError([f"environment.action_mask: {what}"])
        try:
            observations = Observations(
                seen, resize=self.resize, gray=self.gray, without_mask=self.action_mask
            )
        except Unsupported as error:
            what = f"the observations of {self.id!r} are {show(seen)}: {error}"
            fix = "wrap the environment so that it returns a Box"
            raise ScenarioError([f"environment.id: {what}; {fix}"]) from error
        return View(observations, actions, self.action_mask)


_SEEN: dict[tuple[object, str, str], tuple[Spec, tuple[str, ...]]] = {}


def opened(problems: Iterable[Problem | None]) -> list[specs.Opened]:
    """Return the sizes of those problems that are Gymnasium environments."""
    found = [problem for problem in problems if isinstance(problem, Gym)]
    return [specs.Opened(id=one.id, options=one.options, spec=one.spec) for one in found]


def _space(id: str, env: Single | Vector, name: str) -> Any:
    """Return a space of an environment.

    Raises:
        ScenarioError: it has none.
    """
    try:
        return getattr(env, name)
    except foreign() as error:
        raise ScenarioError(
            [
                f"environment.id: {id!r} has no {name}: {reason(error)}; "
                f"set self.{name} in its constructor"
            ]
        ) from error


def _spec(view: View, env: Single | Vector, problem: Gym) -> Spec:
    """Return sizes and bounds of an environment."""
    own = getattr(env, "spec", None)
    physics = {
        name: number(value)
        for name, value in sorted(vars(env.unwrapped).items())
        if type(value) in (int, float, np.float64, np.float32)
        and not name.startswith(_NOT_PHYSICS)
        and name != COPIES
    }
    return replace(
        view.spec,
        max_steps=own.max_episode_steps if own else problem.max_steps,
        physics={name: value for name, value in physics.items() if np.isfinite(value)},
        measures=(ERRORS,) if problem.on_error == "reset" else (),
        counters=(ERRORS,) if problem.on_error == "reset" else (),
    )


def _remarks(problem: Gym, view: View) -> Iterable[str]:
    """Yield what a user should know of how an environment is used."""
    id = problem.id
    if dropped := view.observations.dropped:
        yield f"{id}: texts in observations are left out: {', '.join(dropped)}"
    if count := view.actions.unbounded:
        which = "" if count == len(view.actions.low) else f" in {count} coordinates"
        what, how = "no bounds", "neither scaled nor clipped"
        if (np.isfinite(view.actions.low) != np.isfinite(view.actions.high)).any():
            what, how = "one bound or none", "not scaled, and clipped to the bound that is there"
        yield (
            f"{id}: actions have {what}{which}: a policy's numbers, of standard deviation 1 at "
            f"first, are the actions themselves, {how}"
        )
    space = view.observations.space
    if isinstance(space, gymnasium.spaces.Dict) and MASK in space.spaces and not view.is_masked:
        yield f"{id}: observations have an {MASK!r}: set environment.action_mask = true to heed it"


def _check_vector(id: str, env: Vector, copies: int, limit: int | None) -> None:
    """Refuse vector environments whose copies cannot be stepped as those of others are.

    Raises:
        ScenarioError: with what it has to have.
    """
    if env.num_envs != copies:
        expected = f"asked for num_envs = {copies}, it made {env.num_envs}"
        raise ScenarioError([f"environment.id: {id!r} is a VectorEnv: {expected}"])
    if (mode := autoreset_of(env)) not in ("SAME_STEP", "DISABLED"):
        fix = 'set metadata["autoreset_mode"] to AutoresetMode.SAME_STEP or DISABLED, and reset so'
        raise ScenarioError(
            [
                f"environment.id: {id!r} is a VectorEnv of autoreset mode {mode}, in which a step "
                f"between two episodes is none of either; {fix}"
            ]
        )
    if limit is not None:
        fix = "a VectorEnv has its own time limit: leave this out"
        raise ScenarioError([f"environment.max_steps: {fix}"])


class GymSimulator(Simulator):
    """A simulator over Gymnasium environments, made when an agent is first used.

    Args:
        problem: which environment.
        physics: `(n,)` rows of attribute values for all agents, and of arguments of constructors.
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
        self._copies: dict[int, Copies] = {}
        self._ticks: dict[int, int] = {}
        self._path: list[tuple[int | str, ...]] = []
        self._agents: Sequence[int] = ()
        self._position = 0
        self._noted: set[str] = set()

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
        if self._forgives:
            state["errors"] = np.zeros((b, m), dtype=np.int64)
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
    def picture(self, state: State) -> NDArray[np.uint8] | None:
        """Return the pixels of the first environment, if it was made with a render mode."""
        agent = self._agents[0]
        copies = self._copies[agent]
        if not isinstance(copies, Separate) or copies.envs[0].render_mode is None:
            return None
        try:
            seen = np.asarray(copies.envs[0].render())
        except foreign() as error:
            why = f"{self._problem.id}: render() raised {reason(error)}"
            raise AgentError(agent, why) from error
        return seen if seen.dtype == np.uint8 and seen.shape[2:] == (3,) else None

    @override
    def step(self, state: State, action: NDArray[np.generic]) -> Step:
        self._align(self._agents, state)
        b, m = len(self._agents), self.instances
        next_obs = np.empty((b, m, self.spec.observation), dtype=np.float32)
        reward = np.empty((b, m), dtype=np.float64)
        terminated, truncated = np.empty((b, m), dtype=np.bool_), np.empty((b, m), dtype=np.bool_)
        measures: dict[str, NDArray[np.float64]] = {}
        fresh: dict[tuple[int, int], NDArray[np.float32]] = {}
        failed: list[tuple[int, int]] = []
        for row, agent in enumerate(self._agents):
            self._say(row)
            for j, found in enumerate(self._stepped(row, agent, state, action[row])):
                next_obs[row, j], reward[row, j] = found.obs, found.reward
                terminated[row, j], truncated[row, j] = found.terminated, found.truncated
                if found.fresh is not None:
                    fresh[row, j] = found.fresh
                if found.failed is not None:
                    failed.append((row, j))
                    state["errors"][row, j] += found.failed != ""
                for name, value in found.info.items():
                    if isinstance(value, _NUMBERS) and isinstance(name, str):
                        if name not in measures:
                            measures[name] = np.full((b, m), np.nan)
                        measures[name][row, j] = number(value)
        if self._forgives:
            measures[ERRORS] = state["errors"].astype(np.float64)
        finished = terminated | truncated
        returns, lengths = state["episode_return"] + reward, state["elapsed"] + 1
        obs = self._continued(next_obs, finished, fresh, failed) if finished.any() else next_obs
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
        for copies in self._copies.values():
            copies.close()
        self._copies.clear()
        self._ticks.clear()

    @property
    def _forgives(self) -> bool:
        return self._problem.on_error == "reset"

    def _stepped(
        self, row: int, agent: int, state: State, action: NDArray[Any]
    ) -> Iterable[Stepped]:
        """Yield the results of all copies of an agent; note what looks wrong, once."""
        copies = self._copies[agent]
        last = state["obs"][row] if self._forgives else None
        try:
            for j, found in enumerate(copies.step(action, last)):
                if found.failed:
                    text = str(self._error(agent, self._moment(row), CopyError(j, found.failed)))
                    self._note(f"error of agent {agent}", f"{text}; a new episode starts")
                self._look(agent, self._moment(row), copies, found)
                yield found
        except CopyError as error:
            raise self._error(agent, self._moment(row), error) from error.__cause__

    def _look(self, agent: int, moment: str, copies: Copies, found: Stepped) -> None:
        """Note an observation far outside of its box, and a mask that nothing heeds."""
        observations = copies.view.observations
        if "far" not in self._noted and (far := observations.far(found.obs[: observations.size])):
            fix = "declare its bounds, or scale it"
            self._note("far", f"{self._problem.id}: agent {agent}, {moment}: {far}; {fix}")
        if MASK in found.info and not copies.view.is_masked and self.spec.choices:
            fix = "set environment.action_mask = true to heed it"
            self._note("mask", f"{self._problem.id}: info has an {MASK!r}: {fix}")

    def _note(self, topic: str, text: str) -> None:
        """Warn once about a topic."""
        if topic not in self._noted:
            self._noted.add(topic)
            warnings.warn(text, ScenarioWarning, stacklevel=2)

    def _continued(
        self,
        next_obs: NDArray[np.float32],
        finished: NDArray[np.bool_],
        fresh: Mapping[tuple[int, int], NDArray[np.float32]],
        failed: Sequence[tuple[int, int]],
    ) -> NDArray[np.float32]:
        """Return what to act on next, with new episodes where the last ones have finished."""
        obs = next_obs.copy()
        for (row, j), first in fresh.items():
            obs[row, j] = first
        for row in np.flatnonzero(finished.any(axis=1)).tolist():
            which = [j for j in np.flatnonzero(finished[row]).tolist() if (row, j) not in fresh]
            if not which:
                continue
            agent = self._agents[row]
            seeds = self._seeds(agent, (*self._path[row], self._position))
            own = {j: seeds[j] for j in which}
            broken = [j for j in which if (row, j) in failed]
            for j, seen in self._reset(agent, own, self._moment(row), broken):
                obs[row, j] = seen
        return obs

    def _reset(
        self, agent: int, seeds: Mapping[int, int], moment: str, broken: Sequence[int] = ()
    ) -> list[tuple[int, NDArray[np.float32]]]:
        """Return the first observations of new episodes, by copy.

        If one of the copies that failed before cannot be reset, it is made anew, once.
        """
        copies = self._copies[agent]
        found: list[tuple[int, NDArray[np.float32]]] = []
        left = dict(seeds)
        renewed: set[int] = set()
        while left:
            try:
                for j, seen in copies.reset(dict(left)):
                    found.append((j, seen))
                    del left[j]
            except CopyError as error:
                if error.copy not in broken or error.copy in renewed:
                    raise self._error(agent, moment, error) from error.__cause__
                renewed.add(error.copy)
                copies.renew(error.copy)
        return found

    def _say(self, row: int) -> None:
        if self.working is not None:
            self.working(f"agent {self._agents[row]}, {self._moment(row)}")

    def _moment(self, row: int) -> str:
        """Return the update or evaluation, and the step in it, that is under way."""
        purpose, index = self._path[row]
        return moment(str(purpose), int(index), self._position)

    def _error(self, agent: int, moment: str, error: CopyError) -> AgentError:
        what = f"instance {error.copy} of environment {self._problem.id!r}: {error}"
        return AgentError(agent, f"{moment}, {what}")

    def _align(self, agents: Sequence[int], state: State) -> None:
        for row, agent in enumerate(agents):
            if self._ticks.get(int(agent)) != state["tick"][row]:
                self._restart(row, int(agent), state, ("restart", int(state["tick"][row])))

    def _restart(self, row: int, agent: int, state: State, path: tuple[int | str, ...]) -> None:
        if agent not in self._copies:
            self._copies[agent] = self._made(agent)
        seeds = dict(enumerate(self._seeds(agent, path)))
        for j, seen in self._reset(agent, seeds, "start of episodes"):
            state["obs"][row, j] = seen
        self._ticks[agent] = self._ticks.get(agent, 0) + 1
        state["elapsed"][row], state["episode_return"][row] = 0, 0.0
        state["tick"][row] = self._ticks[agent]

    def _seeds(self, agent: int, path: tuple[int | str, ...]) -> list[int]:
        instances = range(self.instances)
        return [
            int.from_bytes(key(self._seed, agent, "gym", *path, j)[:4], "little") >> 1
            for j in instances
        ]

    def _made(self, agent: int) -> Copies:
        """Return the copies of an agent; if one of them cannot be made, close the others."""
        name = f"agent {agent}"
        with ExitStack() as made:
            first = self._one(agent)
            made.callback(close, first, f"{name}, instance 0")
            view = self._checked(agent, first)
            if isinstance(first, gymnasium.vector.VectorEnv):
                made.pop_all()
                return Together(first, view, partial(self._one, agent), name)  # type: ignore[arg-type]
            envs = [first]
            for j in range(1, self.instances):
                envs.append(self._one(agent))  # type: ignore[arg-type]  # as the first one
                made.callback(close, envs[-1], f"{name}, instance {j}")
            made.pop_all()
        return Separate(envs, view, partial(self._one, agent), name)  # type: ignore[arg-type]

    def _one(self, agent: int) -> Single | Vector:
        """Return one environment of an agent with its own physics, or one vector environment."""
        arguments = self._arguments(agent)
        try:
            env = self._problem.make(
                agent, self.instances, arguments=arguments, max_steps=self._max_steps
            )
        except ScenarioError as error:
            if agent == 0 and not arguments:
                raise  # as when the scenario was checked
            raise AgentError(agent, "; ".join(error.problems)) from error
        with ExitStack() as made:
            made.callback(close, env, f"agent {agent}")
            self._vary(agent, env)
            made.pop_all()
        return env

    def _checked(self, agent: int, env: Single | Vector) -> View:
        """Return what an agent sees and does, if its sizes are those of all.

        Raises:
            AgentError: they are others.
        """
        view = self._problem.view(env)
        own, spec = _spec(view, env, self._problem), self.spec
        names = ("observation", "actions", "heads", "action_low", "action_high", "image")
        for name in names:
            if getattr(own, name) != getattr(spec, name):
                raise AgentError(
                    agent,
                    f"environment {self._problem.id!r}: its {name} is {getattr(own, name)}, and that "
                    f"of the first agent {getattr(spec, name)}; agents with other sizes are [[groups]]",
                )
        return view

    def _arguments(self, agent: int) -> dict[str, object]:
        """Return the arguments of the constructor that differ between agents."""
        values = {
            name.removeprefix(ARGUMENTS): float(column[agent])
            for name, column in self._physics.items()
            if name.startswith(ARGUMENTS)
        }
        return self._problem.arguments(values)

    def _vary(self, agent: int, env: Single | Vector) -> None:
        """Set the physics of an agent that differ from the environment's own."""
        for name, default in self.spec.physics.items():
            value = float(self._physics[name][agent])
            if value == default:
                continue
            try:
                kind = type(getattr(env.unwrapped, name))
                setattr(env.unwrapped, name, kind(round(value) if kind is int else value))
            except foreign() as error:
                raise AgentError(
                    agent,
                    f"environment.vary.{name}: {value} cannot be set in {self._problem.id!r}: "
                    f"{reason(error)}",
                ) from error


def _like(value: float, given: object) -> object:
    """Return a number of the type of another one; where that is no number, an integer if it is one.

    >>> _like(4.0, 3), _like(4.0, 0.5), _like(1.0, False), _like(4.0, None), _like(0.5, None)
    (4, 4.0, True, 4, 0.5)
    """
    if isinstance(given, bool):
        return bool(round(value))
    if isinstance(given, float) or not value.is_integer():
        return value
    return int(value)
