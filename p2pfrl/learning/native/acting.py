"""Rollouts and evaluation by the native engine.

The environment computes in numpy, and the engine acts in it; CartPole is in the engine, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import AgentError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.acting import Acting, Targets
from p2pfrl.learning.environments.base import LONGEST, ArraySimulator, Simulator, moment
from p2pfrl.learning.environments.base import State as SimulatorState
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.learners.evaluation import GreedyAndDivergence
from p2pfrl.learning.native.library import Engine, NotFiniteError
from p2pfrl.learning.native.measures import Comparison
from p2pfrl.learning.networks import Network
from p2pfrl.learning.policies import Categorical, Gaussian, Policy
from p2pfrl.learning.rollout import GAE, Act, Kept, Measures, Rollout, note_returns, play
from p2pfrl.learning.tampered import TamperedSimulator

_MOST_KEPT = 32 << 20
"""The most bytes that the layers of a batch's samples take."""

_PHYSICS = ("gravity", "masscart", "masspole", "length", "force_mag")


class NativeActing(Acting):
    """Gathers samples by the native engine.

    Args:
        engine: acts.
        network: of every agent.
        policy: what its outputs mean.
        simulator: the environments.
        targets: of a rollout.
        keeps_layers: whether what networks compute while they act is kept for the first step.
    """

    def __init__(
        self,
        engine: Engine,
        network: Network,
        policy: Policy,
        simulator: Simulator,
        targets: Targets,
        *,
        keeps_layers: bool,
    ) -> None:
        super().__init__(network, policy, simulator, targets)
        self._engine = engine
        # Statistics that scale observations change between acting and learning.
        self._keeps_layers = keeps_layers and network.normalizer is None
        # Only for whole episodes, whose agents act alone: so nobody's results depend on others'.
        self._forces: TamperedSimulator | None = None
        if isinstance(simulator, TamperedSimulator) and simulator.only_forces:
            self._forces = simulator

    @override
    def collect(
        self,
        rows: Vector,
        state: SimulatorState,
        *,
        seed: int,
        agents: Sequence[int],
        index: Sequence[int],
        steps: int,
        episodes: int | None = None,
    ) -> Rollout:
        streams = Streams.of(seed, agents, Purpose.ACTION, index)
        inner, forced = self.simulator, None
        if episodes is not None and self._forces is not None:
            inner, forced = self._forces.inner, self._forces.forced(agents, index, steps)
        if is_cartpole(self.network, inner):
            resets = Streams.of(seed, agents, "environment-reset", index)
            return self._cartpole(
                inner, rows, state, agents, index, resets, streams, steps, episodes, forced
            )
        noise = self.policy.noise(streams, steps, self.simulator.instances)
        return self._collect(rows, state, agents, index, noise, episodes)

    def _collect(
        self,
        rows: Vector,
        state: SimulatorState,
        agents: Sequence[int],
        index: Sequence[int],
        noise: Vector,
        episodes: int | None,
    ) -> Rollout:
        """Act in an environment of numpy; `rollout.collect` says what happens."""
        engine, simulator = self._engine, self.simulator
        (b, steps, _, m), has_critic = noise.shape, self.network.has_critic
        prepared = engine.prepared(rows)
        samples, layers = engine.samples(b, steps * m), self._room(b, steps * m, episodes)
        reward = np.empty((b, steps, m), dtype=np.float32)
        value, next_value = np.zeros_like(reward), np.zeros_like(reward)
        terminated = np.empty((b, steps, m), dtype=np.bool_)
        finished, elapsed = np.empty_like(terminated), np.empty((b, steps, m), dtype=np.int64)
        cuts: list[tuple[int, NDArray[np.intp], Vector, NDArray[np.bool_]]] = []
        returns: list[list[float]] = [[] for _ in agents]
        measures = Measures(b, simulator.spec.measures, simulator.spec.counters)
        simulator.begin(agents, index)
        obs = simulator.observe(agents, state)
        for t in range(steps):
            chosen = engine.act(
                rows, prepared, obs, self._seen(rows, obs), noise, t, samples, value, layers
            )
            step = simulator.step(state, self._moves(chosen))
            reward[:, t], terminated[:, t] = step.reward, step.terminated
            finished[:, t], elapsed[:, t] = step.finished, step.lengths - 1
            if step.finished.any():
                note_returns(step, returns)
                cut = np.flatnonzero(step.truncated.any(axis=1))
                if len(cut) and has_critic:
                    cuts.append((t, cut, step.next_obs[cut], step.truncated[cut]))
            measures.add(step)
            obs = step.obs
            if episodes is not None and len(returns[0]) >= episodes:
                break
        taken = t + 1
        samples = samples[:, : taken * m]
        reward, terminated, finished = reward[:, :taken], terminated[:, :taken], finished[:, :taken]
        elapsed, value, next_value = elapsed[:, :taken], value[:, :taken], next_value[:, :taken]
        if has_critic:
            o = obs.shape[2]
            if len(self.network.chains) > 1:
                seen = samples[:, :, :o]
                if self.network.normalizer is not None:
                    seen = self._seen(rows, seen)
                value[:] = engine.values(prepared, seen, layers).reshape(value.shape)
            next_value[:, :-1] = value[:, 1:]
            next_value[:, -1] = engine.values(prepared, self._seen(rows, obs))
            next_value[terminated] = 0.0
            for t, cut, ahead, truncated in cuts:
                found = engine.values(prepared[cut], self._seen(rows[cut], ahead))
                next_value[cut, t] = np.where(truncated, found, next_value[cut, t])
        return self._rollout(
            samples, reward, value, next_value, finished, elapsed, returns, measures, layers
        )

    def _cartpole(
        self,
        simulator: Simulator,
        rows: Vector,
        state: SimulatorState,
        agents: Sequence[int],
        index: Sequence[int],
        resets: Streams,
        actions: Streams,
        steps: int,
        episodes: int | None,
        forced: NDArray[np.int64] | None,
    ) -> Rollout:
        """Act in CartPole, which the engine computes."""
        assert isinstance(simulator, ArraySimulator)
        layers = self._room(len(rows), steps * simulator.instances, episodes)
        try:
            samples, reward, value, next_value, finished, elapsed, returns = self._engine.cartpole(
                rows,
                physics_of(simulator, agents),
                state,
                resets,
                actions,
                steps,
                simulator.max_steps or 0,
                episodes or 0,
                forced,
                layers,
            )
        except NotFiniteError as error:
            where = f"{moment('environment', index[error.row], 0)}: environment CartPole"
            raise AgentError(agents[error.row], f"{where}: an observation is not finite") from None
        measures = Measures(len(rows), ())
        return self._rollout(
            samples, reward, value, next_value, finished, elapsed, returns, measures, layers
        )

    def _rollout(
        self,
        samples: Vector,
        reward: Vector,
        value: Vector,
        next_value: Vector,
        finished: NDArray[np.bool_],
        elapsed: NDArray[np.int64],
        returns: list[list[float]],
        measures: Measures,
        layers: Vector | None,
    ) -> Rollout:
        columns, o = samples.transpose(0, 2, 1), self.simulator.spec.observation
        return Rollout(
            columns[:, :o],
            columns[:, o : o + self.policy.width],
            columns[:, :0],
            value,
            reward,
            next_value,
            finished,
            elapsed,
            returns,
            measures.means(),
            samples,
            layers,
        )

    @override
    def pack(self, rows: Vector, rollout: Rollout) -> Vector:
        samples, targets = rollout.samples, self.targets
        assert samples is not None
        if isinstance(targets, GAE):
            self._engine.advantages(
                rollout.reward,
                rollout.value,
                rollout.next_value,
                rollout.finished,
                targets.reward_scale,
                targets.gamma,
                targets.gae_lambda,
                samples,
            )
            advantage = samples[:, :, -2].reshape(rollout.reward.shape)
            if (weighted := targets.weighted(rollout, advantage)) is not advantage:
                samples[:, :, -2] = weighted.reshape(samples.shape[:2])
            return samples
        for column, found in zip((-2, -1), targets(rollout), strict=True):
            samples[:, :, column] = found.reshape(samples.shape[:2])
        return samples

    @override
    def accuracy(self, rollout: Rollout, packed: Vector) -> NDArray[np.float64]:
        return self._engine.explained_variance(rollout.value, packed)

    def _room(self, b: int, size: int, episodes: int | None) -> Vector | None:
        """Return room for the layers of all samples, if it is known how many there will be.

        None where that takes more than `_MOST_KEPT`: the first step computes them again then.
        """
        if not self._keeps_layers or episodes is not None:
            return None
        is_small = 4 * b * self._engine.numbers_of_layers(size) <= _MOST_KEPT
        return self._engine.layers(b, size) if is_small else None

    def _seen(self, rows: Vector, obs: Vector) -> Vector:
        return seen(self.network, rows, obs)

    def _moves(self, chosen: NDArray[np.generic]) -> NDArray[np.generic]:
        return moves(self.policy, chosen)


class NativeGreedy(GreedyAndDivergence):
    """Plays greedy episodes by the native engine.

    Args:
        engine: acts.
        network: of every agent.
        policy: what the network's outputs mean.
        evaluator: the environments of evaluation; None: nothing is evaluated.
        simulator: the environments of training.
    """

    def __init__(
        self,
        engine: Engine,
        network: Network,
        policy: Policy,
        evaluator: Simulator | None,
        simulator: Simulator,
    ) -> None:
        super().__init__(network, policy, evaluator, simulator)
        self._engine = engine
        # With a critic of its own, the actor alone is compared, for which the engine has no code.
        is_whole = network.normalizer is None and len(network.chains) == 1
        self._comparison = Comparison(network) if is_whole else None

    @override
    def divergence_of(
        self, agents: Sequence[int], vectors: Sequence[Vector], state: SimulatorState
    ) -> float | None:
        if self._comparison is None:
            return None
        x = self._observed(agents, state, np.dtype(np.float32))
        own, common, mean = self._comparison.outputs(vectors, x)
        k, policy = self._policy.outputs, self._policy
        heads: list[Vector] = []
        for out, of in ((own, vectors), (common, [mean] * len(vectors))):
            heads += [policy.legal(out[:, :k], x), self._comparison.log_std(of)]
        return float(policy.divergence(*heads).mean())

    @override
    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        evaluator = self._evaluator
        if evaluator is None:
            return None
        if is_cartpole(self._network, evaluator) and episodes <= evaluator.instances:
            assert isinstance(evaluator, ArraySimulator)
            physics, limit = physics_of(evaluator, agents), evaluator.max_steps or LONGEST
            state = evaluator.init(agents, purpose=f"evaluation-{index}")["state"]
            returns = self._engine.episodes(np.ascontiguousarray(parameters), physics, state, limit)
            if np.isfinite(returns).all():  # else the error is that of the way below
                mean: NDArray[np.float64] = returns.mean(axis=1)
                evaluator.note_open(index, 0)  # all have a limit
                return mean

        def acting(kept: Kept) -> Act:
            nonlocal parameters
            parameters = parameters[kept]
            return self._actor(parameters)

        return play(evaluator, acting, agents=agents, episodes=episodes, index=index)

    @override
    def act(
        self, agents: Sequence[int], parameters: Vector, obs: NDArray[np.float32]
    ) -> NDArray[np.generic] | None:
        return self._actor(parameters)(obs)

    def _actor(self, rows: Vector) -> Act:
        """Return observations `(b, m, o)` -> the greedy actions of rows."""
        rows = np.ascontiguousarray(rows)
        prepared = self._engine.prepared(rows)

        def act(obs: NDArray[np.float32]) -> NDArray[np.generic]:
            found = self._engine.act(rows, prepared, obs, seen(self._network, rows, obs))
            return moves(self._policy, found)

        return act


def is_cartpole(network: Network, simulator: Simulator) -> bool:
    """Return whether the engine computes an environment: CartPole, observed as it is."""
    return (
        type(simulator) is ArraySimulator
        and type(simulator.environment) is CartPole
        and network.normalizer is None
    )


def physics_of(simulator: ArraySimulator, agents: Sequence[int]) -> NDArray[np.float64]:
    """Return the physics `(b, 5)` of agents in CartPole, as the engine takes them."""
    physics, rows = simulator.physics, np.asarray(agents)
    found = np.empty((len(rows), len(_PHYSICS)))
    for column, name in enumerate(_PHYSICS):
        found[:, column] = physics[name][rows]
    return found


def seen(network: Network, rows: Vector, obs: Vector) -> Vector:
    """Return observations `(b, m, o)` as the network of rows sees them."""
    if network.normalizer is None:
        return obs
    scaled: Vector = network.normalizer.scaled(rows, obs.transpose(0, 2, 1)).transpose(0, 2, 1)
    return scaled


def moves(policy: Policy, chosen: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return what the engine chose, `(b, m, width)`, as environments take it."""
    if isinstance(policy, Gaussian):
        within: NDArray[np.generic] = np.clip(chosen, policy.low, policy.high)
        return within
    return chosen[:, :, 0] if isinstance(policy, Categorical) else chosen
