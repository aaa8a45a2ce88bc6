"""Any other Gymnasium id, through Gymnasium's vector API.

There is one `SyncVectorEnv` per agent, with `instances` copies each.

Unlike array environments, these have state that cannot be gathered or stored: it lives in
Gymnasium's objects. The rows of `State` hold only the observation, the episode so far and a `tick`
that says which moment of the objects they belong to. The two disagree if an update was computed and
then thrown away because its agent crashed, or if a run is resumed from a checkpoint. Then the
agent's episodes start anew, from seeds that (seed, agent, tick) name. Without crashes and
checkpoints that never happens.

Every episode is seeded from (seed, agent, purpose, update, step, instance), so an agent's random
numbers depend on neither the number of agents nor who shares its batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.rng import key
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Problem, Simulator, Spec, State, Step

if TYPE_CHECKING:
    import gymnasium
else:
    gymnasium = LazyModule("gymnasium")

_PROBE_STEPS = 5
_NOT_PHYSICS = ("_", "screen", "render")


@rule
class Gym(Problem):
    """A Gymnasium environment by id.

    Physics: the numbers among the attributes of the unwrapped environment. Observations are
    flattened (`gymnasium.spaces.flatten`) into float32. Actions are discrete, or boxes with finite
    bounds. Only attributes whose value differs from the environment's own are set, after it was
    made, so numbers that its constructor derived from them keep their values; `kwargs` reach the
    constructor. Measures: the numbers in the `info` of the first steps; nan where a step does not
    report one.

    Attributes:
        id: as `gymnasium.make` takes it.
        max_steps: time limit; None: the id's own.
        kwargs: of the constructor.
    """

    is_saved_whole: ClassVar[bool] = False

    id: str
    max_steps: int | None = Field(default=None, ge=1)
    kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)

    @cached_property
    @override
    def spec(self) -> Spec:
        """Sizes and bounds, found by making one environment and taking a few steps.

        Raises:
            P2PFRLError: no such environment, a package that it needs is missing, or its spaces are
                not supported.
        """
        env = self.make()
        try:
            return _probe(self.id, env)
        finally:
            env.close()

    @override
    def simulator(
        self,
        physics: Mapping[str, NDArray[np.generic]],
        instances: int,
        seed: int,
        max_steps: int | None = None,
    ) -> Simulator:
        return GymSimulator(self, physics, instances, seed, max_steps)

    def make(self, max_steps: int | None = None) -> gymnasium.Env[NDArray[Any], Any]:
        """Return one environment with flat observations."""
        limit = max_steps or self.max_steps
        try:
            env = gymnasium.make(
                self.id, max_episode_steps=limit, disable_env_checker=True, **self.kwargs
            )
        except gymnasium.error.Error as error:
            raise P2PFRLError(
                f"environment.id: Gymnasium cannot make {self.id!r}: {error}"
            ) from error
        except (ImportError, TypeError) as error:
            raise P2PFRLError(
                f"environment: Gymnasium cannot make {self.id!r} with {self.kwargs}: {error}"
            ) from error
        try:
            return gymnasium.wrappers.FlattenObservation(env)
        except NotImplementedError as error:
            raise P2PFRLError(
                f"environment.id: the observations of {self.id!r} cannot be flattened"
            ) from error


def _probe(id: str, env: gymnasium.Env[NDArray[Any], Any]) -> Spec:
    space = env.action_space
    actions, low, high = 0, np.empty(0), np.empty(0)
    if isinstance(space, gymnasium.spaces.Discrete):
        actions = int(space.n)
    elif isinstance(space, gymnasium.spaces.Box) and space.is_bounded("both"):
        low, high = space.low.ravel(), space.high.ravel()
    else:
        raise P2PFRLError(
            f"environment.id: {id!r} has actions {space}; expected discrete ones or a bounded box"
        )
    physics = {
        name: float(value)
        for name, value in sorted(vars(env.unwrapped).items())
        if type(value) in (int, float, np.float64, np.float32) and not name.startswith(_NOT_PHYSICS)
    }
    return Spec(
        observation=int(np.prod(env.observation_space.shape or ())),
        state=0,
        actions=actions,
        action_low=tuple(low.tolist()),
        action_high=tuple(high.tolist()),
        max_steps=env.spec.max_episode_steps if env.spec else None,
        physics={name: value for name, value in physics.items() if np.isfinite(value)},
        measures=_measures(env),
    )


def _measures(env: gymnasium.Env[NDArray[Any], Any]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    for _ in range(_PROBE_STEPS):
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        found.update(dict.fromkeys(name for name, value in info.items() if _is_number(value)))
        if terminated or truncated:
            env.reset()
    return tuple(found)


def _is_number(value: object) -> bool:
    return isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating)


class GymSimulator(Simulator):
    """A simulator over Gymnasium's vector environments, made when an agent is first used.

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
        self._envs: dict[int, gymnasium.vector.SyncVectorEnv] = {}
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
        measures = {name: np.full((b, m), np.nan) for name in self.spec.measures}
        obs = next_obs
        for row, agent in enumerate(self._agents):
            env = self._envs[agent]
            seen, reward[row], terminated[row], cut, info = env.step(self._action(env, action[row]))
            next_obs[row] = seen
            truncated[row] = cut & ~terminated[row]
            for name, values in measures.items():
                if name in info:
                    values[row] = np.where(info[f"_{name}"], info[name], np.nan)
        finished = terminated | truncated
        returns, lengths = state["episode_return"] + reward, state["elapsed"] + 1
        if finished.any():
            obs = next_obs.copy()
            for row in np.flatnonzero(finished.any(axis=1)).tolist():
                seeds = self._seeds(self._agents[row], (*self._path[row], self._position))
                mask = finished[row].copy()
                fresh, _ = self._envs[self._agents[row]].reset(
                    seed=seeds, options={"reset_mask": mask}
                )
                obs[row, mask] = fresh[mask]
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

    def close(self) -> None:
        """Close every environment."""
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def _action(self, env: gymnasium.vector.SyncVectorEnv, action: NDArray[Any]) -> NDArray[Any]:
        space = env.single_action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return action.astype(np.int64) + int(space.start)
        assert isinstance(space, gymnasium.spaces.Box)
        return action.astype(space.dtype).reshape(self.instances, *space.shape)

    def _align(self, agents: Sequence[int], state: State) -> None:
        for row, agent in enumerate(agents):
            if self._ticks.get(int(agent)) != state["tick"][row]:
                self._restart(row, int(agent), state, ("restart", int(state["tick"][row])))

    def _restart(self, row: int, agent: int, state: State, path: tuple[int | str, ...]) -> None:
        if agent not in self._envs:
            self._envs[agent] = self._make(agent)
        obs, _ = self._envs[agent].reset(seed=self._seeds(agent, path))
        self._ticks[agent] = self._ticks.get(agent, 0) + 1
        state["obs"][row], state["elapsed"][row], state["episode_return"][row] = obs, 0, 0.0
        state["tick"][row] = self._ticks[agent]

    def _seeds(self, agent: int, path: tuple[int | str, ...]) -> list[int | None]:
        instances = range(self.instances)
        return [
            int.from_bytes(key(self._seed, agent, "gym", *path, j)[:4], "little") >> 1
            for j in instances
        ]

    def _make(self, agent: int) -> gymnasium.vector.SyncVectorEnv:
        def make() -> gymnasium.Env[NDArray[Any], Any]:
            env = self._problem.make(self._max_steps)
            for name, default in self.spec.physics.items():
                value = float(self._physics[name][agent])
                if value != default:
                    kind = type(getattr(env.unwrapped, name))
                    setattr(env.unwrapped, name, kind(round(value) if kind is int else value))
            return env

        disabled = gymnasium.vector.AutoresetMode.DISABLED
        return gymnasium.vector.SyncVectorEnv([make] * self.instances, autoreset_mode=disabled)
