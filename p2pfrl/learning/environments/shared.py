"""Shared worlds: environments in which several agents act at once.

World w belongs to agents w k to w k + k - 1, its members. A `SharedEnvironment` computes on arrays
of worlds, as an `Environment` computes on arrays of agents. `SharedSimulator` gives it the
interface of every simulator: each member's row of the state holds a copy of its world, so rows can
be gathered and saved like those of any environment. Only whole worlds step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import ContractError
from p2pfrl.core.rng import Streams
from p2pfrl.core.scene import Scene
from p2pfrl.learning.environments.base import (
    Array,
    Baseline,
    Problem,
    PureSimulator,
    Simulator,
    State,
    Step,
    checked,
)
from p2pfrl.learning.meetings import worlds_of

Share = Literal["own", "team", "externality"]
"""Whose reward a member gets: its own, the mean of its world, or its own less what it costs others.
"""


class SharedEnvironment(Problem):
    """A family of worlds with `spec.members` agents each.

    Subclasses are rules (frozen dataclasses).

    Shapes, for G worlds of k members with m parallel instances: `physics[name]` is `(G, k, 1,
    ...)`, one value per member; `world` is `(G, m, s)` float64. Every operation must be independent
    of the other worlds.
    """

    @override
    def simulator(
        self,
        physics: Mapping[str, NDArray[np.generic]],
        instances: int,
        seed: int,
        max_steps: int | None = None,
    ) -> Simulator:
        return SharedSimulator(self, physics, instances, seed, max_steps)

    @abstractmethod
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Return start worlds `(G, m, s)` from uniform `noise` `(G, m, reset_noise)`."""

    @abstractmethod
    def observe(self, world: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return what each member observes, `(G, k, m, observation)` float32."""

    @abstractmethod
    def step(
        self,
        world: Array,
        action: NDArray[Any],
        physics: Mapping[str, NDArray[Any]],
        noise: Array,
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Advance one step.

        Args:
            world: `(G, m, s)`; not changed.
            action: `(G, k, m)` integers, or `(G, k, m, a)` float32 within the bounds.
            physics: `(G, k, 1, ...)` each.
            noise: uniform `(G, m, step_noise)`.

        Returns:
            next world `(G, m, s)`, reward `(G, k, m)` float64, terminated `(G, m)`, measures
            `{name: (G, k, m)}`.
        """


class SharedSimulator(PureSimulator):
    """A simulator of shared worlds.

    Random numbers are the world's: one stream per (seed, world, purpose, index), where the index is
    that of the world's first member. All members have the same one (learning/trainer.py).

    Args:
        environment: the functions.
        physics: `(n, ...)` rows for all agents, as `Problem.physics` returned them.
        instances: parallel copies m of every world.
        seed: the run's seed.
        max_steps: time limit, overriding the environment's own.
        shows_world: whether an observation goes on with those of the other members, from the next
            one on and around.
    """

    world = ("state", "elapsed", "episode_return")

    def __init__(
        self,
        environment: SharedEnvironment,
        physics: Mapping[str, NDArray[np.generic]],
        instances: int,
        seed: int,
        max_steps: int | None = None,
        *,
        shows_world: bool = False,
    ) -> None:
        spec, name = environment.spec, f"shared environment {type(environment).__name__}"
        if shows_world:
            own = spec.observation
            spec = replace(spec, observation=own * spec.members, acts_on=own)
        super().__init__(spec, instances, seed, max_steps, name)
        self.environment = environment
        self._calls = checked(environment)
        self._shows_world = shows_world
        self._members = spec.members
        self._physics = dict(physics)

    @property
    def physics(self) -> dict[str, NDArray[np.generic]]:
        """Return the physics of all agents, `(n, ...)` each."""
        return dict(self._physics)

    @override
    def picture(self, state: State) -> Scene | None:
        return self.environment.scene(state["state"][0, 0])

    @override
    def with_world(self) -> Simulator:
        return SharedSimulator(
            self.environment,
            self._physics,
            self.instances,
            self._seed,
            self.max_steps,
            shows_world=True,
        )

    @property
    @override
    def baselines(self) -> Mapping[str, Callable[[State], NDArray[Any]]]:
        def bound(policy: Baseline) -> Callable[[State], NDArray[Any]]:
            k = self._members
            return lambda state: _flat(
                policy(state["state"][::k], self._rows, state["elapsed"][::k])
            )

        return {name: bound(policy) for name, policy in self.spec.baselines.items()}

    @override
    def init(self, agents: Sequence[int], purpose: str = "environment") -> State:
        """Return the state of agents; not only of whole worlds, since a row holds its world."""
        worlds, of, _ = self._places(agents)
        noise = Streams.of(self._seed, worlds, f"{purpose}-world-start")
        start = noise.uniform(self.instances, self.spec.reset_noise)
        try:
            made = self._calls.reset(self._gather(worlds), start)
        except ContractError as error:
            raise self._broken(error, agents) from error.__cause__
        shape = (len(agents), self.instances)
        return {
            "state": made[of],
            "elapsed": np.zeros(shape, dtype=np.int64),
            "episode_return": np.zeros((*shape, self._members), dtype=np.float64),
        }

    @override
    def observe(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        worlds, of, member = self._places(agents)
        first = np.unique(of, return_index=True)[1]
        try:
            seen = self._seen(state["state"][first], self._gather(worlds))
        except ContractError as error:
            raise self._broken(error, agents) from error.__cause__
        return np.ascontiguousarray(seen[of, member])

    @override
    def begin(
        self, agents: Sequence[int], index: Sequence[int], purpose: str = "environment"
    ) -> None:
        """Gather the physics of whole worlds and name the random streams of this rollout."""
        worlds, own = worlds_of(agents, self._members), index[:: self._members]
        self._rows = self._gather(worlds)
        self._agents, self._index, self._purpose = agents, index, purpose
        self._resets = Streams.of(self._seed, worlds, f"{purpose}-world-reset", own)
        self._noise = Streams.of(self._seed, worlds, f"{purpose}-world-noise", own)
        self._position = 0

    @override
    def step(self, state: State, action: NDArray[np.generic]) -> Step:
        try:
            return self._step(state, action)
        except ContractError as error:
            raise self._broken(error, self._agents) from error.__cause__

    def _step(self, state: State, action: NDArray[np.generic]) -> Step:
        environment, physics, k = self._calls, self._rows, self._members
        world = state["state"][::k]
        joint = action.reshape(len(world), k, *action.shape[1:])
        values, own, over, found = environment.step(
            world, joint, physics, self._draw_noise(len(world))
        )
        reward, terminated = _flat(own), np.repeat(over, k, axis=0)
        self._check("reward", reward)
        elapsed, sums = state["elapsed"] + 1, state["episode_return"][::k] + own.transpose(0, 2, 1)
        truncated = self._cut(terminated, elapsed)
        finished = terminated | truncated
        obs = next_obs = _flat(self._seen(values, physics))
        self._check("an observation of", next_obs)
        returns = _flat(sums.transpose(0, 2, 1))
        state.update(elapsed=elapsed)
        if finished.any():
            values, obs = self._restart(values, finished[::k], next_obs)
            state.update(elapsed=np.where(finished, 0, elapsed))
            sums = np.where(finished[::k, :, None], 0.0, sums)
        state.update(state=np.repeat(values, k, axis=0), episode_return=np.repeat(sums, k, axis=0))
        self._position += 1
        measures = {name: _flat(value) for name, value in found.items()}
        return Step(
            next_obs, obs, reward, terminated, truncated, finished, returns, elapsed, measures
        )

    def _seen(self, world: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the observations `(G, k, m, o)`, those of the others included if asked for."""
        own = self._calls.observe(world, physics)
        if not self._shows_world:
            return own
        return np.concatenate([np.roll(own, -d, axis=1) for d in range(self._members)], axis=-1)

    def _restart(
        self, values: Array, finished: NDArray[np.bool_], obs: NDArray[np.float32]
    ) -> tuple[Array, NDArray[np.float32]]:
        """Return the worlds, those that have finished anew, and the observations of all members."""
        rows, instances = np.nonzero(finished)
        fresh = self._draw_resets(rows, instances)
        own = {name: value[rows] for name, value in self._rows.items()}
        begun = self._calls.reset(own, fresh[:, None])
        values, seen = values.copy(), obs.reshape(len(values), self._members, *obs.shape[1:]).copy()
        values[rows, instances] = begun[:, 0]
        seen[rows, :, instances] = self._seen(begun, own)[:, :, 0]
        return values, _flat(seen)

    def _places(
        self, agents: Sequence[int]
    ) -> tuple[list[int], NDArray[np.intp], NDArray[np.intp]]:
        """Return the worlds of agents, ascending; which of them each has; and its number there."""
        ids = np.asarray(agents, dtype=np.intp)
        worlds, of = np.unique(ids // self._members, return_inverse=True)
        return worlds.tolist(), of.reshape(-1), ids % self._members

    def _gather(self, worlds: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return the physics `(G, k, 1, ...)` of worlds."""
        k = self._members
        ids = (np.asarray(worlds, dtype=np.intp)[:, None] * k + np.arange(k)).ravel()
        return {
            name: values[ids].reshape(len(worlds), k, 1, *values.shape[1:])
            for name, values in self._physics.items()
        }


def shared_reward(share: Share, own: Array, harm: Array | None = None) -> Array:
    """Return the rewards of members `(G, k, m)`.

    own: r_i; team: the mean of r over the world; externality: r_i - h_i, where h_i is what the
    others lose by the presence of i. With the last one a member's gain is the gain of the world
    (Pigou, The economics of welfare, 1920).

    Args:
        share: which.
        own: r `(G, k, m)`.
        harm: h `(G, k, m)`, needed for "externality".
    """
    if share == "own":
        return own
    if share == "team":
        # One addition after the other: a reduction over the axis may depend on the batch's size.
        total = sum((own[:, i] for i in range(1, own.shape[1])), start=own[:, 0].copy())
        return np.repeat((total / own.shape[1])[:, None], own.shape[1], axis=1)
    assert harm is not None
    return own - harm


def by_instance(values: NDArray[Any]) -> NDArray[Any]:
    """Return what members have, `(G, k, m, ...)`, by instance: `(G, m, k, ...)`."""
    return np.swapaxes(values, 1, 2)


def per_member(values: NDArray[Any]) -> NDArray[Any]:
    """Return `(G, m, k, ...)` by member: `(G, k, m, ...)`, contiguous."""
    return np.ascontiguousarray(np.swapaxes(values, 1, 2))


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """Return `(G k, ...)` of `(G, k, ...)`."""
    return values.reshape(-1, *values.shape[2:])
