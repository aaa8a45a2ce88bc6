"""PettingZoo environments: the agents of one are consecutive agents of a run.

World w of k members belongs to agents w k to w k + k - 1, as in shared.py; its state lives in
PettingZoo's objects. The rows of `State` hold what all members of a world see, the episode so far
and a `tick`, as those of `GymSimulator` do: if the objects are at another tick, the episodes of the
world start anew. Episodes are seeded from (seed, world, purpose, update, step, instance).

An episode of a world ends for all members at once, when none of them acts any more. A member that
ends earlier observes zeros and gets no reward until then, whatever it does.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.causes import foreign
from p2pfrl.core.errors import AgentError, ScenarioError, ScenarioWarning
from p2pfrl.core.finder import install
from p2pfrl.core.located import Located
from p2pfrl.core.modules import object_given
from p2pfrl.core.rng import key
from p2pfrl.core.rule import rule
from p2pfrl.core.wording import show
from p2pfrl.learning.environments import specs
from p2pfrl.learning.environments.base import Problem, Simulator, Spec, State, Step, moment
from p2pfrl.learning.environments.copies import ERRORS, View, close, reason
from p2pfrl.learning.environments.ids import PETTINGZOO
from p2pfrl.learning.environments.roles import Roles, UnlikeError
from p2pfrl.learning.environments.spaces import (
    MismatchError,
    Observations,
    Unsupported,
    actions_of,
    number,
)
from p2pfrl.learning.meetings import worlds_of

if TYPE_CHECKING:
    from pathlib import Path

_CONVERSIONS = "pettingzoo.utils.conversions"
_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)


@rule
class PettingZoo(Problem, Located):
    """A PettingZoo environment, whose agents are consecutive agents of the run.

    Spaces are treated as those of Gymnasium environments. Where those of members differ, zeros
    follow shorter observations, a mask leaves out discrete actions that a member does not have, and
    of the numbers of a box a member uses as many as its own has.
    The parallel API is used; an environment of the other API is converted with PettingZoo's
    `aec_to_parallel`. An episode ends for all agents at once; one that ends earlier observes zeros
    and gets no reward until then. Measures: the numbers in `infos`.

    Terry, Black, Grammel et al., PettingZoo: Gym for multi-agent reinforcement learning, NeurIPS
    2021, arXiv 2009.14471.

    Attributes:
        id: "pettingzoo:MODULE" of a module with `parallel_env` or `env`, such as
            "pettingzoo:mpe2.simple_spread_v3", or "pettingzoo:MODULE:NAME" of a class or function.
        max_steps: time limit; None: the environment's own.
        kwargs: of the constructor: any values of TOML.
        resize: (height, width) to which images are resized, by means over areas.
        gray: whether images become gray.
        action_mask: whether the key "action_mask" of observations that are a `Dict`, or of `infos`,
            says which discrete actions are allowed.
        on_error: what happens if the environment raises an error or returns what does not fit:
            "stop" ends the run; "reset" ends the episode of all members without a reward, counts
            the error in the measure `environment_errors` of each, and starts a new episode.
    """

    is_saved_whole: ClassVar[bool] = False
    is_external: ClassVar[bool] = True

    id: str
    max_steps: int | None = Field(default=None, ge=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    resize: tuple[int, int] | None = None
    gray: bool = False
    action_mask: bool = False
    on_error: Literal["stop", "reset"] = "stop"

    @property
    @override
    def spec(self) -> Spec:
        """Sizes and bounds, found by making one environment, which is closed without a step.

        Raises:
            ScenarioError: there is none, or its agents have spaces that are not supported.
        """
        return self._known[0]

    @property
    @override
    def remarks(self) -> Sequence[str]:
        """What is padded."""
        return self._known[1]

    @cached_property
    def _known(self) -> tuple[Spec, tuple[str, ...]]:
        options = {
            "kwargs": self.kwargs,
            "max_steps": self.max_steps,
            "view": (self.resize, self.gray, self.action_mask, self.on_error),
        }
        known = (self.id, specs.options(options))
        if known not in _KNOWN or object_given(self.id) is not None:
            env = self.make()
            try:
                roles = self.roles(env)
                counted = (ERRORS,) if self.on_error == "reset" else ()
                spec = replace(
                    roles.spec, max_steps=self.max_steps, measures=counted, counters=counted
                )
                _KNOWN[known] = spec, roles.remarks(env.possible_agents)
            finally:
                close(env, self.id)
        return _KNOWN[known]

    @override
    def simulator(
        self,
        physics: Mapping[str, NDArray[np.generic]],
        instances: int,
        seed: int,
        max_steps: int | None = None,
    ) -> Simulator:
        return ZooSimulator(self, instances, seed, max_steps or self.max_steps)

    @override
    def modules(self) -> tuple[str, ...]:
        """Return the module of the environment."""
        return (self._place[0],)

    @override
    def files(self) -> Mapping[str, Path]:
        return {}

    @property
    def _place(self) -> tuple[str, str]:
        """The module and the name in it, "" if the id does not say."""
        module, _, name = self.id.removeprefix(PETTINGZOO).partition(":")
        return module, name

    def make(self) -> Any:
        """Return one environment of the parallel API.

        Raises:
            ScenarioError: it cannot be made.
        """
        module, name = self._place
        try:
            names = (name,) if name else ("parallel_env", "env")
            maker: Any = object_given(self.id)
            if maker is None:
                home = _module(module)
                maker = next((getattr(home, each) for each in names if hasattr(home, each)), None)
            made = None if maker is None else maker(**self.kwargs)
            if hasattr(made, "agent_iter"):
                made = importlib.import_module(_CONVERSIONS).aec_to_parallel(made)
        except foreign() as error:
            where = "environment.kwargs" if self.kwargs else "environment.id"
            given = f" with {self.kwargs}" if self.kwargs else ""
            raise ScenarioError(
                [f"{where}: PettingZoo cannot make {self.id!r}{given}: {_cause(error)}"]
            ) from error
        if made is None or not hasattr(made, "possible_agents"):
            what = f"{module} has no {' or '.join(names)}" if made is None else f"got {show(made)}"
            expected = "expected an environment of PettingZoo with possible_agents"
            raise ScenarioError([f"environment.id: {self.id!r}: {what}; {expected}"])
        return made

    def roles(self, env: Any) -> Roles:
        """Return what the agents of an environment see and do.

        Raises:
            ScenarioError: their spaces are not supported, or actions have no common form.
        """
        try:
            return Roles(tuple(self._view(env, name) for name in env.possible_agents))
        except UnlikeError as error:
            raise ScenarioError([f"environment.id: {self.id!r}: {error}"]) from error

    def _view(self, env: Any, name: str) -> View:
        seen, done = env.observation_space(name), env.action_space(name)
        try:
            actions = actions_of(done)
            observations = Observations(
                seen, resize=self.resize, gray=self.gray, without_mask=self.action_mask
            )
        except Unsupported as error:
            what = f"observations {show(seen)} and actions {show(done)} of {name!r}"
            raise ScenarioError([f"environment.id: {self.id!r} has {what}: {error}"]) from error
        if self.action_mask and not (actions.actions or actions.heads):
            what = f"masks are of discrete actions, and {self.id!r} has {show(done)}"
            raise ScenarioError([f"environment.action_mask: {what}"])
        return View(observations, actions, self.action_mask)


_KNOWN: dict[tuple[str, str], tuple[Spec, tuple[str, ...]]] = {}
"""Id and options -> what is known of an environment."""


def _module(name: str) -> Any:
    """Return a module of this name, or of this name within PettingZoo."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # it is there, and something that it needs is not
        inner = f"pettingzoo.{name}"
        try:
            return importlib.import_module(inner)
        except ModuleNotFoundError as second:
            if second.name is None or not inner.startswith(second.name):
                raise
            raise error from None


def _cause(error: BaseException) -> str:
    is_missing = isinstance(error, ModuleNotFoundError) and error.name in ("pettingzoo", "mpe2")
    return reason(error) + (f"; {install('pettingzoo')}" if is_missing else "")


class ZooSimulator(Simulator):
    """A simulator over PettingZoo environments, made when a world is first used.

    Args:
        problem: which environment.
        instances: parallel copies m of every world.
        seed: the run's seed.
        max_steps: time limit; None: the environment's own.
    """

    def __init__(
        self, problem: PettingZoo, instances: int, seed: int, max_steps: int | None
    ) -> None:
        self.spec = problem.spec
        self.instances = instances
        self._problem = problem
        self._seed = seed
        self._max_steps = max_steps
        self._members = problem.spec.members
        self._forgives = problem.on_error == "reset"
        self.world = ("seen", "ended", "elapsed", "episode_return", "tick")
        self.world += ("errors",) if self._forgives else ()
        self._noted: set[int] = set()
        self._envs: dict[int, list[Any]] = {}
        self._roles: Roles | None = None
        self._ticks: dict[int, int] = {}
        self._worlds: list[int] = []
        self._path: list[tuple[int | str, ...]] = []
        self._position = 0

    @override
    def init(self, agents: Sequence[int], purpose: str = "environment") -> State:
        """Return the state of agents; worlds start if all of their members are there."""
        b, m, k = len(agents), self.instances, self._members
        state: State = {
            "seen": np.zeros((b, m, k, self.spec.observation), dtype=np.float32),
            "ended": np.zeros((b, m, k), dtype=np.bool_),
            "elapsed": np.zeros((b, m), dtype=np.int64),
            "episode_return": np.zeros((b, m, k), dtype=np.float64),
            "tick": np.zeros(b, dtype=np.int64),
        }
        if self._forgives:
            state["errors"] = np.zeros((b, m), dtype=np.int64)
        for world, rows in self._rows(agents).items():
            if len(rows) == k:
                self._restart(rows, world, state, (purpose, "start"))
        return state

    @override
    def observe(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        """Return the current observations; worlds at another tick start new episodes."""
        self._align(agents, state)
        return self.shown(agents, state)

    @override
    def shown(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        """Return the observations that the rows hold."""
        member = np.asarray(agents, dtype=np.intp) % self._members
        seen = state["seen"][np.arange(len(agents)), :, member]
        return np.ascontiguousarray(seen, dtype=np.float32)

    @override
    def begin(
        self, agents: Sequence[int], index: Sequence[int], purpose: str = "environment"
    ) -> None:
        """Name the seeds of the episodes that start in this rollout, of whole worlds."""
        self._worlds = worlds_of(agents, self._members)
        self._path = [(purpose, int(i)) for i in index[:: self._members]]
        self._position = 0

    @override
    def picture(self, state: State) -> NDArray[np.uint8] | None:
        """Return the pixels of the first environment, if it was made with a render mode."""
        env = self._envs[self._worlds[0]][0]
        if getattr(env, "render_mode", None) is None:
            return None
        try:
            seen = np.asarray(env.render())
        except foreign() as error:
            why = f"{self._problem.id}: render() raised {reason(error)}"
            raise AgentError(self._worlds[0] * self._members, why) from error
        return seen if seen.dtype == np.uint8 and seen.shape[2:] == (3,) else None

    @override
    def step(self, state: State, action: NDArray[np.generic]) -> Step:
        k, m, g = self._members, self.instances, len(self._worlds)
        self._align([world * k + i for world in self._worlds for i in range(k)], state)
        rows = slice(None, None, k)
        seen, ended = state["seen"][rows].copy(), state["ended"][rows].copy()
        reward = np.zeros((g, m, k))
        over, failed = np.zeros((2, g, m), dtype=np.bool_)
        measures: dict[str, NDArray[np.float64]] = {}
        for w in range(g):
            if self.working is not None:
                self.working(f"world {self._worlds[w]}, {self._moment(w)}")
            for j in range(m):
                joint = action[w * k : w * k + k, j]
                before = seen[w, j].copy(), ended[w, j].copy()
                try:
                    over[w, j] = self._step(w, j, joint, seen, reward, ended, measures)
                except AgentError as error:
                    if not self._forgives:
                        raise
                    self._note(self._worlds[w], error)
                    over[w, j] = failed[w, j] = True
                    (seen[w, j], ended[w, j]), reward[w, j] = before, 0.0
                    for values in measures.values():
                        values[w, j] = np.nan
        if self._forgives:
            errors = state["errors"][rows] + failed
            state["errors"] = np.repeat(errors, k, axis=0)
            measures[ERRORS] = np.repeat(errors[..., None], k, axis=2).astype(np.float64)
        elapsed = state["elapsed"][rows] + 1
        sums = state["episode_return"][rows] + reward
        finished = over | (elapsed >= self._max_steps if self._max_steps else False)
        terminated = ended & finished[..., None]
        truncated = ~ended & finished[..., None]
        after = seen.copy()
        for w, j in np.argwhere(finished).tolist():
            path = (*self._path[w], self._position, j)
            world, now = self._worlds[w], self._moment(w)
            try:
                after[w, j] = self._reset(world, j, path, now)
            except AgentError:
                if not failed[w, j]:
                    raise
                close(self._envs[world][j], f"world {world}, instance {j}")
                self._envs[world][j] = self._problem.make()
                after[w, j] = self._reset(world, j, path, now)
        for world in self._worlds:
            self._ticks[world] += 1
        state.update(
            seen=np.repeat(after, k, axis=0),
            ended=np.repeat(ended & ~finished[..., None], k, axis=0),
            elapsed=np.repeat(np.where(finished, 0, elapsed), k, axis=0),
            episode_return=np.repeat(np.where(finished[..., None], 0.0, sums), k, axis=0),
            tick=state["tick"] + 1,
        )
        self._position += 1
        return Step(
            next_obs=_by_member(seen),
            obs=_by_member(after),
            reward=_by_member(reward),
            terminated=_by_member(terminated),
            truncated=_by_member(truncated),
            finished=np.repeat(finished, k, axis=0),
            returns=_by_member(sums),
            lengths=np.repeat(elapsed, k, axis=0),
            measures={name: _by_member(values) for name, values in measures.items()},
        )

    @override
    def close(self) -> None:
        """Close every environment; one that is needed again later is made anew."""
        for world, envs in self._envs.items():
            for j, env in enumerate(envs):
                close(env, f"world {world}, instance {j}")
        self._envs.clear()
        self._ticks.clear()

    def _step(
        self,
        w: int,
        j: int,
        joint: NDArray[Any],
        seen: NDArray[np.float32],
        reward: NDArray[np.float64],
        ended: NDArray[np.bool_],
        measures: dict[str, NDArray[np.float64]],
    ) -> bool:
        """Step one copy of a world, and write what came of it; return whether its episode ended."""
        world = self._worlds[w]
        env, roles = self._envs[world][j], self._roles
        assert roles is not None
        names = env.possible_agents
        acting = {name: i for i, name in enumerate(names) if name in env.agents}
        taken = {name: roles.take(i, joint[i]) for name, i in acting.items()}
        call = f"step({show({name: np.asarray(x).tolist() for name, x in taken.items()})})"

        def refuse(member: int, what: str) -> AgentError:
            return self._error(world, member, j, self._moment(w), f"{call} {what}")

        first = next(iter(acting.values()), 0)
        try:
            found: object = env.step(taken)
        except foreign() as error:
            raise refuse(first, f"raised {reason(error)}") from error
        if not isinstance(found, tuple) or len(found) != 5:
            expected = "expected observations, rewards, terminations, truncations, infos"
            raise refuse(first, f"returned {show(found)}; {expected}")
        if not all(isinstance(part, Mapping) for part in found):
            raise refuse(first, f"returned {show(found)}; expected five dicts by agent")
        observations, rewards, terminations, truncations, infos = found
        seen[w, j] = roles.idle
        for name, i in acting.items():
            if name not in observations or name not in rewards:
                raise refuse(i, f"returned nothing for {name!r}, which acted")
            value = number(rewards[name])
            if not np.isfinite(value):
                raise refuse(i, f"returned reward {show(rewards[name])} of {name!r}")
            reward[w, j, i] = value
            is_over = bool(terminations.get(name)) or bool(truncations.get(name))
            info = infos.get(name, {})
            try:
                seen[w, j, i] = roles.vector(i, observations[name], info, ended=is_over)
            except MismatchError as error:
                raise refuse(i, f"returned of {name!r} {error}") from error
            ended[w, j, i] = bool(terminations.get(name))
            for title, told in info.items() if isinstance(info, Mapping) else ():
                if isinstance(told, _NUMBERS) and isinstance(title, str):
                    if title not in measures:
                        measures[title] = np.full(reward.shape, np.nan)
                    measures[title][w, j, i] = number(told)
        return not env.agents

    def _reset(
        self, world: int, j: int, path: tuple[int | str, ...], moment: str
    ) -> NDArray[np.float32]:
        """Start a new episode of one copy; return what its members observe `(k, o)`."""
        env, roles = self._envs[world][j], self._roles
        assert roles is not None
        seed = int.from_bytes(key(self._seed, world, "zoo", *path)[:4], "little") >> 1
        call = f"reset(seed={seed})"
        try:
            found: object = env.reset(seed=seed)
        except foreign() as error:
            raise self._error(world, 0, j, moment, f"{call} raised {reason(error)}") from error
        if not isinstance(found, tuple) or len(found) != 2:
            expected = "expected observations and infos"
            raise self._error(world, 0, j, moment, f"{call} returned {show(found)}; {expected}")
        observations, infos = found
        out = np.zeros((self._members, self.spec.observation), dtype=np.float32)
        for i, name in enumerate(env.possible_agents):
            try:
                out[i] = roles.vector(i, observations[name], infos.get(name, {}), ended=False)
            except KeyError as error:
                what = f"{call} returned no observation of {name!r}"
                raise self._error(world, i, j, moment, what) from error
            except MismatchError as error:
                what = f"{call} returned of {name!r} {error}"
                raise self._error(world, i, j, moment, what) from error
        return out

    def _note(self, world: int, error: AgentError) -> None:
        """Warn of the first error of a world."""
        if world not in self._noted:
            self._noted.add(world)
            warnings.warn(f"{error}; a new episode starts", ScenarioWarning, stacklevel=2)

    def _moment(self, w: int) -> str:
        purpose, index = self._path[w]
        return moment(str(purpose), int(index), self._position)

    def _error(self, world: int, member: int, j: int, moment: str, what: str) -> AgentError:
        agent = world * self._members + member
        where = f"instance {j} of world {world} of environment {self._problem.id!r}"
        return AgentError(agent, f"{moment}, {where}: {what}")

    def _rows(self, agents: Sequence[int]) -> dict[int, list[int]]:
        """Return the rows of each world that is there."""
        found: dict[int, list[int]] = {}
        for row, agent in enumerate(agents):
            found.setdefault(int(agent) // self._members, []).append(row)
        return found

    def _align(self, agents: Sequence[int], state: State) -> None:
        for world, rows in self._rows(agents).items():
            tick = int(state["tick"][rows[0]])
            if self._ticks.get(world) != tick:
                self._restart(rows, world, state, ("restart", tick))

    def _restart(
        self, rows: Sequence[int], world: int, state: State, path: tuple[int | str, ...]
    ) -> None:
        if world not in self._envs:
            self._envs[world] = [self._problem.make() for _ in range(self.instances)]
            self._roles = self._roles or self._problem.roles(self._envs[world][0])
        for j in range(self.instances):
            state["seen"][rows, j] = self._reset(world, j, (*path, j), "start of episodes")
        self._ticks[world] = self._ticks.get(world, 0) + 1
        state["ended"][rows], state["elapsed"][rows] = False, 0
        state["episode_return"][rows] = 0.0
        state["tick"][rows] = self._ticks[world]


def _by_member(values: NDArray[Any]) -> NDArray[Any]:
    """Return `(G k, m, ...)` of `(G, m, k, ...)`."""
    moved = np.moveaxis(values, 2, 1)
    return np.ascontiguousarray(moved).reshape(-1, *moved.shape[2:])
