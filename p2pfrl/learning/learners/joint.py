"""Markov games of tabular learners: what joint policies are worth, and to whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rng import Streams
from p2pfrl.core.softmax import log_softmax
from p2pfrl.learning.environments.base import Array, ArraySimulator, Simulator
from p2pfrl.learning.environments.shared import SharedSimulator
from p2pfrl.learning.environments.shared_tabular import SharedTabular, joint_action
from p2pfrl.learning.environments.tabular import Tabular
from p2pfrl.learning.learners.processes import Processes, running_sums, search
from p2pfrl.learning.learners.softmax import Paths

_CONVERGED = 1e-14
_MOST_SWEEPS = 100_000


@dataclass(frozen=True)
class Games:
    """The worlds of all agents, as tables of joint actions; without time limits.

    An environment of one agent is a world of one member.

    Attributes:
        transition: `(G, S, J, S)` probabilities of the next state.
        reward: `(G, k, S, J)` expected reward of each member.
        goes_on: `(G, S)` 1 where the process goes on from a state, 0 where entering it ends the
            episode.
        start: `(G, S)` probabilities of the first state.
    """

    transition: Array
    reward: Array
    goes_on: Array
    start: Array

    @classmethod
    def of(cls, simulator: Simulator | None, learner: str) -> Games:
        """Return the tables behind a simulator.

        Raises:
            ScenarioError: there is none, or it has no tables.
        """
        if isinstance(simulator, ArraySimulator) and isinstance(simulator.environment, Tabular):
            own = Processes.of(simulator, learner)
            return cls(own.transition, own.reward[:, None], own.goes_on, own.start)
        environment = simulator.environment if isinstance(simulator, SharedSimulator) else None
        if not (isinstance(simulator, SharedSimulator) and isinstance(environment, SharedTabular)):
            raise ScenarioError(
                [
                    f"learner: {learner!r} needs an environment given by tables: gridworld, garnet, crossing, "
                    "maintenance, networked_mdp, matrix_game, public_goods, congestion, or a class of "
                    "your own with `Tabular` as its base"
                ]
            )
        k, physics = environment.spec.members, simulator.physics
        transition = np.asarray(physics["P"][::k], dtype=np.float64)
        worlds, states = transition.shape[:2]
        paid = "team" if environment.pays_team else "R"
        reward = np.asarray(physics[paid], dtype=np.float64)
        is_last = np.asarray(physics["is_last"][::k], dtype=np.float64)
        return cls(
            transition=transition,
            reward=reward.reshape(worlds, k, *reward.shape[1:]),
            goes_on=np.repeat(1.0 - is_last[:, None], states, axis=1),
            start=np.full((worlds, states), 1.0 / states),
        )

    @property
    def members(self) -> int:
        """Members k of each world."""
        return int(self.reward.shape[1])

    @property
    def agents(self) -> int:
        """Agents n, of all worlds."""
        return len(self.reward) * self.members

    def part(self, worlds: list[int]) -> Games:
        """Return some of the worlds."""
        at = np.asarray(worlds, dtype=np.intp)
        return Games(self.transition[at], self.reward[at], self.goes_on[at], self.start[at])

    def values(self, policies: Array, gamma: float) -> Array:
        """Return what each member's discounted return is worth from the start, `(G, k)`.

        Args:
            policies: `(G, k, S, A)`, of the members.
            gamma: discount.
        """
        joint = joint_policy(policies)
        chain = np.matmul(joint[:, :, None, :], self.transition)[:, :, 0] * self.goes_on[:, None]
        reward = (joint[:, None] * self.reward).sum(axis=-1)
        system = np.eye(chain.shape[-1]) - gamma * chain
        values = np.linalg.solve(system, reward.transpose(0, 2, 1))
        found: Array = (self.start[..., None] * values).sum(axis=1)
        return found

    def best(self, gamma: float) -> Array:
        """Return the highest discounted mean return over members of any joint policy, `(G,)`.

        By value iteration over joint actions, to the last digits.
        """
        mean = self.reward.sum(axis=1) / self.members
        values = _optimal(self.transition, mean, self.goes_on, gamma)
        found: Array = (self.start * values).sum(axis=-1)
        return found

    def gains(self, policies: Array, gamma: float) -> Array:
        """Return what each member could gain alone, `(G, k)`: 0 in a Nash equilibrium.

        That is the value of its best response less the value of its policy. The sum over the
        members of a world is its exploitability (NashConv; Lanctot et al., NeurIPS 2017, arXiv
        1711.00832).

        Args:
            policies: `(G, k, S, A)`, of the members.
            gamma: discount.
        """
        against = self.against(policies)
        best = _optimal(against.transition, against.reward, against.goes_on, gamma)
        most = (against.start * best).sum(axis=-1).reshape(-1, self.members)
        found: Array = most - self.values(policies, gamma)
        return found

    def against(self, policies: Array) -> Processes:
        """Return the decision process of each member where the others keep their policies.

        P_i(s'|s, a_i) = sum over the others' actions of their probability times P(s'|s, a), and
        likewise R_i. It is not to be sampled.

        Args:
            policies: `(G, k, S, A)`, of the members.

        Returns:
            `(G k, ...)` tables, members of a world one after the other.
        """
        kernel, reward = self.transition, self.reward
        count, k, states, actions = policies.shape
        transitions, rewards = [], []
        for member in range(k):
            left, right = policies[:, :member], policies[:, member + 1 :]
            before, after = joint_policy(left, states), joint_policy(right, states)
            shape = (count, states, before.shape[-1], actions, after.shape[-1])
            others = before[..., :, None] * after[..., None, :]
            weight = others[:, :, :, None, :]
            moves = weight[..., None] * kernel.reshape(*shape, states)
            earned = weight * reward[:, member].reshape(shape)
            transitions.append(moves.sum(axis=(2, 4)))
            rewards.append(earned.sum(axis=(2, 4)))
        none = np.empty((count * k, 0))
        return Processes(
            transition=np.stack(transitions, axis=1).reshape(-1, states, actions, states),
            reward=np.stack(rewards, axis=1).reshape(-1, states, actions),
            goes_on=np.repeat(self.goes_on, k, axis=0),
            start=np.repeat(self.start, k, axis=0),
            after=none.astype(np.intp),
            cumulative=none,
            action_reward=none,
            entry_reward=none,
        )


def joint_policy(policies: Array, states: int | None = None) -> Array:
    """Return the probabilities of joint actions `(G, S, J)` of policies `(G, k, S, A)`.

    Args:
        policies: of the members, who draw independently.
        states: S, where there may be no members; their joint action is one.
    """
    if states is not None:
        joint = np.ones((len(policies), states, 1))
        rest = policies
    else:
        joint, rest = policies[:, 0], policies[:, 1:]
    for member in range(rest.shape[1]):
        product = joint[..., None] * rest[:, member, :, None, :]
        joint = product.reshape(*joint.shape[:2], -1)
    return joint


def together(games: Games, logits: Array, streams: Streams, count: int, horizon: int) -> Paths:
    """Return `count` trajectories of `horizon` steps of every world, as its members saw them.

    Members draw their actions independently, each from its own stream; first and next states are
    drawn from the stream of the first member. A member earns its mean reward of the joint action.

    Args:
        games: the worlds.
        logits: `(G k, S, A)`, of the members.
        streams: of the members.
        count: trajectories.
        horizon: steps.
    """
    k, choices = games.members, logits.shape[-1]
    log_pi = log_softmax(logits)
    policies, starts = running_sums(np.exp(log_pi)), running_sums(games.start)
    moves = running_sums(games.transition)
    worlds, own = np.arange(len(games.start))[:, None], np.arange(len(logits))[:, None]
    shape = (len(logits), count, horizon)
    state, action = np.empty(shape, dtype=np.intp), np.empty(shape, dtype=np.intp)
    reward, is_alive = np.zeros(shape), np.zeros(shape)
    here = search(starts[:, None, :], streams.uniform(count)[::k])
    alive = np.ones(here.shape)
    for t in range(horizon):
        noise = streams.uniform(count, 2)
        state[..., t], is_alive[..., t] = (np.repeat(each, k, axis=0) for each in (here, alive))
        action[..., t] = search(policies[own, state[..., t]], noise[..., 0])
        joint = joint_action(action[..., t].reshape(-1, k, count), choices)
        earned = games.reward[
            worlds[..., None], np.arange(k)[:, None], here[:, None], joint[:, None]
        ]
        reward[..., t] = is_alive[..., t] * earned.reshape(-1, count)
        here = search(moves[worlds, here, joint], noise[::k, :, 1])
        alive = alive * games.goes_on[worlds, here]
    return Paths(state, action, reward, is_alive, log_pi)


def _optimal(transition: Array, reward: Array, goes_on: Array, gamma: float) -> Array:
    """Return V* `(b, S)` of processes `(b, S, J, S)`, `(b, S, J)`; rows stop one by one."""
    kernel = gamma * transition * goes_on[:, None, None, :]
    values, is_open = np.zeros(reward.shape[:2]), np.ones(len(reward), dtype=np.bool_)
    for _ in range(_MOST_SWEEPS):
        after = (reward + np.matmul(kernel, values[:, None, :, None])[..., 0]).max(axis=-1)
        moved = np.abs(after - values).max(axis=1)
        values = np.where(is_open[:, None], after, values)
        is_open = is_open & (moved > _CONVERGED * np.maximum(1.0, np.abs(values).max(axis=1)))
        if not is_open.any():
            break
    return values
