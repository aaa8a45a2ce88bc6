"""Rollouts of a batch of agents, with their returns and advantages.

Samples are columns: column t m + j is step t of instance j. Arrays are `(b, features, steps m)` or
`(b, steps, m)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.parameters import Vector, aligned_zeros
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments.base import LONGEST, Simulator, Step
from p2pfrl.learning.environments.base import State as SimulatorState
from p2pfrl.learning.networks import Network
from p2pfrl.learning.policies import Policy
from p2pfrl.learning.recurrent import MEMORY

_BLOCK = (
    64  # columns of one product: more does not go faster, and keeps BLAS from waking other threads
)
_LEAVING = 0.25
"""Share of agents whose episodes have all ended at which an evaluation goes on without them."""

Kept = slice | NDArray[np.intp]
"""Some of the rows of a batch."""
Act = Callable[[NDArray[np.float32]], NDArray[np.generic]]
"""Observations `(b, m, o)` -> actions."""
_StatedAct = Callable[[NDArray[np.float32], SimulatorState], NDArray[np.generic]]


@dataclass(frozen=True)
class Played:
    """What came of evaluation episodes.

    Attributes:
        returns: `(b,)` mean undiscounted returns.
        measures: `(b,)` means of the environment's own, over the steps of these episodes.
    """

    returns: NDArray[np.float64]
    measures: Mapping[str, NDArray[np.float64]]


@dataclass
class Rollout:
    """The experience of b agents in `steps` steps of m instances each.

    Attributes:
        obs: `(b, o, steps m)` float32, as the network is shown it.
        action: `(b, width, steps m)` float32, before clipping.
        out: `(b, outputs, steps m)` the network's outputs: head, then value if there is a critic;
            empty where `samples` has what they are needed for.
        value: `(b, steps, m)` of the observations; 0 without a critic.
        reward: `(b, steps, m)` float32, as the environment gave it.
        next_value: `(b, steps, m)` of the true successors; 0 where the episode terminated, or
            without a critic.
        finished: `(b, steps, m)` whether the episode ended here, terminated or truncated.
        elapsed: `(b, steps, m)` steps since the episode began; 0 at its first.
        returns: per agent, undiscounted returns of the episodes that finished, in order of step and
            instance.
        measures: `(b,)` means of the environment's own.
        samples: `(b, steps m, features)` as (obs, action, log prob), and room for advantage and
            target; None: nobody has made them yet.
        layers: what the networks computed of the observations, for whoever learns from them with
            the same parameters; None: it was not kept.
    """

    obs: Vector
    action: Vector
    out: Vector
    value: Vector
    reward: Vector
    next_value: Vector
    finished: NDArray[np.bool_]
    elapsed: NDArray[np.int64]
    returns: list[list[float]]
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    samples: Vector | None = None
    layers: Vector | None = None


def collect(
    network: Network,
    policy: Policy,
    simulator: Simulator,
    rows: Vector,
    state: SimulatorState,
    *,
    seed: int,
    agents: Sequence[int],
    index: Sequence[int],
    steps: int,
    episodes: int | None = None,
) -> Rollout:
    """Act for `steps` steps with the policies in `rows` `(b, stride)`; `state` changes in place.

    With `episodes`, stop as soon as so many have finished; for one agent, since others would stop
    elsewhere.
    """
    assert episodes is None or len(agents) == 1
    b, m, o = len(agents), simulator.instances, network.extra + simulator.spec.observation
    acting = network.chains[:1]
    memory = state.get(MEMORY, np.zeros((b, m, 0), dtype=rows.dtype))
    log_std = network.log_std(rows)
    obs = aligned_zeros((b, o, steps * m), rows.dtype)
    out = aligned_zeros((b, network.outputs, steps * m), rows.dtype)
    action = np.empty((b, policy.width, steps * m), dtype=np.float32)
    reward = np.empty((b, steps, m), dtype=np.float32)
    terminated = np.empty((b, steps, m), dtype=np.bool_)
    finished = np.empty((b, steps, m), dtype=np.bool_)
    elapsed = np.empty((b, steps, m), dtype=np.int64)
    successors: list[tuple[int, NDArray[np.intp], Vector, NDArray[np.bool_]]] = []
    returns: list[list[float]] = [[] for _ in agents]
    measures = Measures(b, simulator.spec.measures, simulator.spec.counters)
    noise = policy.noise(Streams.of(seed, agents, Purpose.ACTION, index), steps, m)
    simulator.begin(agents, index)
    current = simulator.observe(agents, state)
    for t in range(steps):
        columns = slice(t * m, (t + 1) * m)
        x = network.shown(current, memory)
        obs[:, :, columns] = x
        network.forward(rows, x, out[:, :, columns], acting)
        if network.remembered:
            memory = network.memory
        if network.extra and t:
            obs[:, 0, columns], obs[:, 1, columns] = 0.0, finished[:, t - 1]
        head = policy.legal(out[:, : policy.outputs, columns], obs[:, :, columns])
        chosen = policy.sample(head, log_std, noise[:, t])
        action[:, :, columns] = chosen
        step = simulator.step(state, policy.to_environment(chosen))
        reward[:, t], terminated[:, t], finished[:, t] = step.reward, step.terminated, step.finished
        elapsed[:, t] = step.lengths - 1
        if step.finished.any():
            note_returns(step, returns)
            cut = np.flatnonzero(step.truncated.any(axis=1))
            if len(cut):
                ahead = network.shown(step.next_obs[cut], memory[cut])
                successors.append((t, cut, ahead, step.truncated[cut]))
            memory = np.where(step.finished[..., None], np.zeros((), memory.dtype), memory)
        measures.add(step)
        current = step.obs
        if episodes is not None and len(returns[0]) >= episodes:
            break
    if MEMORY in state:
        state[MEMORY] = memory
    taken = t + 1
    obs, action, out = obs[:, :, : taken * m], action[:, :, : taken * m], out[:, :, : taken * m]
    reward, terminated, finished = reward[:, :taken], terminated[:, :taken], finished[:, :taken]
    elapsed = elapsed[:, :taken]
    value, next_value = np.zeros_like(reward), np.zeros_like(reward)
    if network.has_critic:
        _forward_blocks(network, rows, obs, out, len(acting))
        value[:] = out[:, -1].reshape(reward.shape)
        next_value[:, :-1], next_value[:, -1] = (
            value[:, 1:],
            _values(network, rows, network.shown(current, memory)),
        )
        next_value[terminated] = 0.0
        for t, cut, successor, truncated in successors:
            own = aligned_zeros((len(cut), rows.shape[1]), rows.dtype)
            np.take(rows, cut, axis=0, out=own)
            ahead = _values(network, own, successor)
            next_value[cut, t] = np.where(truncated, ahead, next_value[cut, t])
    return Rollout(
        obs, action, out, value, reward, next_value, finished, elapsed, returns, measures.means()
    )


def advantages(
    reward: Vector,
    value: Vector,
    next_value: Vector,
    finished: NDArray[np.bool_],
    *,
    gamma: float,
    gae_lambda: float,
) -> Vector:
    """Return A_t = delta_t + gamma lambda A_(t+1), delta_t = r_t + gamma V(s_(t+1)) - V(s_t).

    `next_value` is 0 where the episode terminated, the true successor's value where it was
    truncated. All `(b, T, m)`. Schulman, Moritz, Levine, Jordan, Abbeel, High-dimensional
    continuous control using generalized advantage estimation, ICLR 2016, arXiv 1506.02438, equation
    16.
    """
    delta = reward + np.float32(gamma) * next_value - value
    carry = np.float32(gamma * gae_lambda) * ~finished
    out = np.empty_like(delta)
    tail = np.zeros_like(delta[:, 0])
    for t in range(delta.shape[1] - 1, -1, -1):
        tail = delta[:, t] + carry[:, t] * tail
        out[:, t] = tail
    return out


def explained_variance(value: Vector, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 - Var(target - value) / Var(target) of every agent, `(b,)`.

    1: values are right up to a constant; 0: no better than a constant. nan where targets are alike.

    Args:
        value: of the critic, `(b, N)`.
        target: what it should have been, `(b, N)`.
    """
    unknown, all_ = (_variance(np.ascontiguousarray(x)) for x in (target - value, target))
    is_known = all_ > 0
    share = np.divide(unknown, all_, out=np.full(len(target), np.nan), where=is_known)
    return np.asarray(1.0 - share)


def _variance(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance of each row: `x.var(axis=1)`, with the same bits in half the time."""
    apart = x - np.add.reduce(x, axis=1, keepdims=True) / x.shape[1]
    apart *= apart
    found: NDArray[np.float64] = np.add.reduce(apart, axis=1) / x.shape[1]
    return found


@dataclass(frozen=True)
class GAE:
    """The targets of a rollout by generalized advantage estimation (`advantages`).

    Attributes:
        gamma: discount.
        gae_lambda: lambda of the advantage estimate.
        reward_scale: multiplies rewards.
    """

    gamma: float
    gae_lambda: float
    reward_scale: float

    def __call__(self, rollout: Rollout) -> tuple[Vector, Vector]:
        """Return advantages and value targets, `(b, T, m)` each.

        The targets are advantages + values.
        """
        advantage = advantages(
            rollout.reward * self.reward_scale,
            rollout.value,
            rollout.next_value,
            rollout.finished,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
        )
        return self.weighted(rollout, advantage), advantage + rollout.value

    def weighted(self, rollout: Rollout, advantage: Vector) -> Vector:
        """Return the advantages as the loss weighs them; here as they are."""
        return advantage


@dataclass(frozen=True)
class Returns(GAE):
    """The targets w (G - b) and G of a rollout.

    Attributes:
        gamma, gae_lambda, reward_scale: as in `GAE`; G - b is the estimate of lambda = 1.
        discounted: w = gamma^t with t the steps since the episode began; else w = 1.
        is_of_episodes: the rollout is one agent's, of whole episodes. Then w also makes a sum over
            steps and a mean over episodes of the loss's mean over samples.
    """

    discounted: bool
    is_of_episodes: bool

    @override
    def weighted(self, rollout: Rollout, advantage: Vector) -> Vector:
        if self.discounted:
            powers = np.float32(self.gamma) ** np.arange(rollout.elapsed.max() + 1)
            advantage = advantage * powers.astype(np.float32)[rollout.elapsed]
        if self.is_of_episodes:
            (returns,) = rollout.returns
            advantage = advantage * np.float32(advantage.shape[1] / len(returns))
        return advantage


class Measures:
    """Sums of the environment's own measures over the steps of a rollout.

    Args:
        agents: number of agents b.
        names: measures that are known before the first step; others are added as they come.
        counters: those of which the last value counts, as a sum over instances.
    """

    def __init__(self, agents: int, names: Sequence[str], counters: Sequence[str] = ()) -> None:
        self._known = len(names)
        self._counters = counters
        self._agents = agents
        self._totals = {name: np.zeros((2, agents)) for name in names}

    def add(self, step: Step, rows: Kept = slice(None)) -> None:
        """Add the measures of one step, of the agents `rows`; nan counts as not there."""
        for name, values in step.measures.items():
            if name in self._counters:
                self._totals[name] = np.stack([values.sum(axis=1), np.ones(len(values))])
                continue
            if name not in self._totals:
                self._totals[name] = np.zeros((2, self._agents))
            is_there = ~np.isnan(values)
            self._totals[name][:, rows] += (
                np.where(is_there, values, 0.0).sum(axis=1),
                is_there.sum(axis=1),
            )

    def means(self) -> dict[str, NDArray[np.float64]]:
        """Return the mean of each measure `(b,)`, nan where it was never there.

        Measures that were not known before the first step come last, sorted by name.
        """
        names = list(self._totals)
        return {
            name: np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
            for name in (*names[: self._known], *sorted(names[self._known :]))
            for total, count in (self._totals[name],)
        }


def note_returns(step: Step, returns: list[list[float]]) -> None:
    """Append the returns of the episodes that finished to those of their agents."""
    rows, instances = np.nonzero(step.finished)
    for row, value in zip(rows.tolist(), step.returns[rows, instances].tolist(), strict=True):
        returns[row].append(value)


def _values(network: Network, rows: Vector, x: Vector) -> Vector:
    """Return the values `(b, m)` of what networks are shown, `(b, extra + o, m)`."""
    out = np.empty((len(rows), network.outputs, x.shape[2]), dtype=rows.dtype)
    network.forward(rows, x, out, network.chains[-1:])
    value: Vector = out[:, -1]
    return value


def _forward_blocks(network: Network, rows: Vector, obs: Vector, out: Vector, done: int) -> None:
    """Fill in the outputs of the chains that acting left out."""
    if done == len(network.chains):
        return
    for start in range(0, obs.shape[2], _BLOCK):
        columns = slice(start, start + _BLOCK)
        network.forward(rows, obs[:, :, columns], out[:, :, columns], network.chains[done:])


def act(
    network: Network, policy: Policy, rows: Vector, obs: NDArray[np.float32]
) -> NDArray[np.generic]:
    """Return the greedy actions of rows at observations `(b, m, o)`."""
    x = np.ascontiguousarray(obs.transpose(0, 2, 1), dtype=rows.dtype)
    out = np.empty((len(rows), network.outputs, obs.shape[1]), dtype=rows.dtype)
    network.forward(rows, x, out, network.chains[:1])
    return policy.to_environment(policy.greedy(policy.legal(out[:, : policy.outputs], x)))


def evaluate(
    network: Network,
    policy: Policy,
    simulator: Simulator,
    rows: Vector,
    *,
    agents: Sequence[int],
    episodes: int,
    index: int,
) -> NDArray[np.float64]:
    """Return the mean undiscounted return `(b,)` of greedy episodes; see `play`."""

    def acting(kept: Kept) -> Act:
        nonlocal rows
        own = rows = rows[kept]
        return lambda obs: act(network, policy, own, obs)

    return play(simulator, acting, agents=agents, episodes=episodes, index=index)


def best_actions(tables: NDArray[np.floating], obs: NDArray[np.float32]) -> NDArray[np.generic]:
    """Return the action `(b, m)` with the largest entry of each state, the first of equals.

    Args:
        tables: `(b, states, actions)`, values or logits.
        obs: `(b, m, states)`, one-hot.
    """
    best = tables.argmax(axis=-1)
    return np.asarray(best[np.arange(len(best))[:, None], np.argmax(obs, axis=-1)])


def play(
    simulator: Simulator,
    acting: Callable[[Kept], Act],
    *,
    agents: Sequence[int],
    episodes: int,
    index: int,
) -> NDArray[np.float64]:
    """Return the mean undiscounted return `(b,)` of ceil(episodes / instances) per instance.

    Start states and noise are named by (seed, agent, index). An episode without end counts as it
    stands after 10,000 steps, or the environment's own limit if that is longer;
    `Simulator.open_episodes` says how many there were. Agents whose episodes have all ended are
    left out of the rest, which changes no other agent's result.

    Args:
        simulator: of the agents' environments.
        acting: some of the rows that acted last -> what acts for them from now on: observations
            `(b, m, o)` -> actions, as the environment takes them. Called with all rows first.
        agents: whose, `(b,)`.
        episodes: per agent, at least.
        index: names the random streams.
    """

    def stated(kept: Kept) -> _StatedAct:
        act = acting(kept)
        return lambda obs, state: act(obs)

    return _play(simulator, stated, agents=agents, episodes=episodes, index=index)


def remember(
    network: Network,
    policy: Policy,
    simulator: Simulator,
    rows: Vector,
    *,
    agents: Sequence[int],
    episodes: int,
    index: int,
) -> NDArray[np.float64]:
    """Return the mean undiscounted return `(b,)` of greedy episodes of networks with a memory."""
    memory = np.zeros((len(agents), simulator.instances, network.remembered), dtype=rows.dtype)

    def acting(kept: Kept) -> _StatedAct:
        nonlocal rows, memory
        own, memory = rows[kept], memory[kept]
        rows = own

        def acted(obs: NDArray[np.float32], state: SimulatorState) -> NDArray[np.generic]:
            x = network.shown(obs, memory)
            out = np.empty((len(own), network.outputs, obs.shape[1]), dtype=own.dtype)
            network.forward(own, x, out)
            memory[:] = network.memory
            head = policy.legal(out[:, : policy.outputs], x)
            return policy.to_environment(policy.greedy(head))

        return acted

    def ended(finished: NDArray[np.bool_]) -> None:
        memory[finished] = 0.0

    return _play(simulator, acting, agents=agents, episodes=episodes, index=index, ended=ended)


def play_baselines(
    simulator: Simulator, *, agents: Sequence[int], episodes: int, index: int
) -> dict[str, Played]:
    """Return what every baseline reaches on the episodes of `play`, by name."""

    def acting(name: str) -> _StatedAct:
        return lambda obs, state: simulator.baselines[name](state)

    return {
        name: _measured(
            simulator,
            lambda kept, name=name: acting(name),  # type: ignore[misc]
            agents=agents,
            episodes=episodes,
            index=index,
        )
        for name in simulator.baselines
    }


def play_measured(
    simulator: Simulator,
    acting: Callable[[Kept], Act],
    *,
    agents: Sequence[int],
    episodes: int,
    index: int,
) -> Played:
    """Return returns and measures of the episodes of `play`, whose arguments these are."""

    def stated(kept: Kept) -> _StatedAct:
        act = acting(kept)
        return lambda obs, state: act(obs)

    return _measured(simulator, stated, agents=agents, episodes=episodes, index=index)


def _measured(
    simulator: Simulator,
    acting: Callable[[Kept], _StatedAct],
    *,
    agents: Sequence[int],
    episodes: int,
    index: int,
) -> Played:
    spec = simulator.spec
    measures = Measures(len(agents), spec.measures, spec.counters)
    returns = _play(
        simulator, acting, agents=agents, episodes=episodes, index=index, measures=measures
    )
    return Played(returns, measures.means())


def _play(
    simulator: Simulator,
    acting: Callable[[Kept], _StatedAct],
    *,
    agents: Sequence[int],
    episodes: int,
    index: int,
    ended: Callable[[NDArray[np.bool_]], None] | None = None,
    measures: Measures | None = None,
) -> NDArray[np.float64]:
    """See `play`; what acts takes the simulator's state, too, and `ended` which episodes end.

    To `measures` the steps of episodes that count are added.
    """
    b, m, spec = len(agents), simulator.instances, simulator.spec
    wanted = -(-episodes // m)
    total, count = np.zeros((b, m)), np.zeros((b, m), dtype=np.int64)
    simulator.begin(agents, [index] * b, purpose="evaluation")
    state = simulator.init(agents, purpose=f"evaluation-{index}")
    obs = simulator.observe(agents, state)
    act = acting(slice(None))
    mean, place = np.empty(b), np.arange(b)
    for _ in range(wanted * max(LONGEST, spec.max_steps or 0)):
        step = simulator.step(state, act(obs, state))
        if ended is not None:
            ended(step.finished)
        if measures is not None:
            is_open = count < wanted
            own = {name: np.where(is_open, found, np.nan) for name, found in step.measures.items()}
            measures.add(replace(step, measures=own), place)
        counts = step.finished & (count < wanted)
        total += np.where(counts, step.returns, 0.0)
        count += counts
        obs, finished, returns = step.obs, step.finished, step.returns
        done: NDArray[np.bool_] = np.logical_and.reduce(count >= wanted, axis=1)
        if done.all():
            break
        kept = np.flatnonzero(~done)
        if len(done) - len(kept) >= _LEAVING * len(done) and simulator.narrow(kept):
            mean[place[done]] = (total[done] / count[done]).mean(axis=1)
            place, total, count, obs = place[kept], total[kept], count[kept], obs[kept]
            finished, returns = finished[kept], returns[kept]
            state = {name: values[kept] for name, values in state.items()}
            act = acting(kept)
    is_open = (count < wanted) & ~finished
    simulator.note_open(index, int(is_open.sum()))
    total += np.where(is_open, returns, 0.0)
    mean[place] = (total / (count + is_open)).mean(axis=1)
    return mean
