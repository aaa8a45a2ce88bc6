"""Shared worlds given by tables of joint actions, so that anyone can check a result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.learning.environments.base import Array
from p2pfrl.learning.environments.shared import SharedEnvironment, shared_reward

_MOST_NUMBERS = 10**6  # of a world's table of transitions: 8 MB for each member


@dataclass(frozen=True)
class JointTables:
    """A Markov game of k members with S states and A actions each, J = A^k joint ones.

    Joint action j is that of the digits of j in base A, member 0 first.

    Attributes:
        transition: `(S, J, S)` probabilities of the next state; rows sum to 1.
        reward: `(k, S, J)` what each member earns.
        is_last: entering any state ends the episode: a game of one step.
    """

    transition: Array
    reward: Array
    is_last: bool = False


class SharedTabular(SharedEnvironment):
    """A shared world given by tables. Its state is a number, which all members observe one-hot.

    The first state is any, equally often. A reward has uniform noise of its own in [-noise, noise],
    where `noise` is among the physics.
    """

    @property
    def pays_team(self) -> bool:
        """Whether every member gets the mean reward of its world."""
        return False

    @abstractmethod
    def tables(self, seed: int, world: int) -> JointTables:
        """Return the tables of a world, from its own streams alone."""

    @override
    def physics(
        self, seed: int, agents: Sequence[int], columns: Mapping[str, Array]
    ) -> dict[str, NDArray[Any]]:
        """Return columns, the world's `P (b,S,J,S)` and the agent's own `R (b,S,J)`, and others.

        These are `team (b,S,J)`, the mean of R over the world, and what `step` looks up.
        """
        k = self.spec.members
        worlds = {world: self.tables(seed, world) for world in {agent // k for agent in agents}}
        own = [worlds[agent // k] for agent in agents]
        transition = np.stack([tables.transition for tables in own])
        sums = np.cumsum(transition, axis=-1)
        return dict(columns) | {
            "P": transition,
            "R": np.stack([t.reward[a % k] for t, a in zip(own, agents, strict=True)]),
            "team": np.stack([shared_reward("team", t.reward[None])[0, 0] for t in own]),
            "cumulative": np.where(sums >= sums[..., -1:], 1.0, sums),
            "is_last": np.array([tables.is_last for tables in own]),
        }

    @override
    def instance(self, physics: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return `P (n,S,J,S)`, the members' own `R (n,S,J)` and the columns."""
        return {name: physics[name] for name in ("P", "R", *self.spec.physics)}

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Draw first states."""
        return np.floor(noise * self.spec.states)

    @override
    def observe(self, world: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the state one-hot, to every member."""
        seen = (np.arange(self.spec.states) == world).astype(np.float32)
        return np.repeat(seen[:, None], self.spec.members, axis=1)

    @override
    def step(
        self,
        world: Array,
        action: NDArray[Any],
        physics: Mapping[str, NDArray[Any]],
        noise: Array,
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Draw the next state, and the rewards with their noise."""
        rows, here = np.arange(len(world))[:, None], world[..., 0].astype(np.intp)
        joint = joint_action(action, self.spec.actions)
        sums = physics["cumulative"][rows, 0, 0, here, joint]
        after = np.argmax(sums > noise[..., :1], axis=-1)[..., None].astype(np.float64)
        members = np.arange(self.spec.members)[:, None]
        own: Array = physics["R"][rows[..., None], members, 0, here[:, None], joint[:, None]]
        if "noise" in physics:
            own = own + physics["noise"] * (2 * np.swapaxes(noise[..., 1:], 1, 2) - 1)
        team = shared_reward("team", own)
        reward = team if self.pays_team else own
        is_over = np.repeat(physics["is_last"][:, 0], world.shape[1], axis=-1)
        return after, reward, is_over, {"team_reward": team}


def joint_action(actions: NDArray[Any], choices: int) -> NDArray[np.intp]:
    """Return joint actions `(G, m)` of those of the members `(G, k, m)`.

    >>> int(joint_action(np.array([[[1], [0], [1]]]), 2)[0, 0])
    5
    """
    joint = np.zeros((len(actions), actions.shape[2]), dtype=np.intp)
    for member in range(actions.shape[1]):
        joint = joint * choices + actions[:, member].astype(np.intp)
    return joint


def require_small(members: int, choices: int, states: int) -> None:
    """Raise an error if a world's table of transitions is large.

    Raises:
        ValueError: it has more than a million numbers.
    """
    size = states * states * choices**members
    if size > _MOST_NUMBERS:
        raise ValueError(
            f"states^2 x actions^members must be at most {_MOST_NUMBERS:,}, got {size:,}: fewer "
            "members or states"
        )
