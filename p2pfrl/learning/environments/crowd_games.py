"""Games of more than two players in one step: what one gets depends on how many choose what."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.shared_tabular import JointTables, SharedTabular, require_small


@rule
class CrowdGame(SharedTabular):
    """What the games below have in common.

    Attributes:
        members: players k.
        share: own: each player gets what it earns; team: everyone gets the mean.
    """

    members: int = Field(default=4, ge=2)
    share: Literal["own", "team"] = "own"

    def __post_init__(self) -> None:
        require_small(self.members, self.choices, 1)

    @property
    @abstractmethod
    def choices(self) -> int:
        """Number of actions A."""

    @abstractmethod
    def payoffs(self, counts: Array) -> Array:
        """Return what a player of each action gets, `(A, J)`.

        Args:
            counts: `(A, J)` how many players choose each action, in each joint action.
        """

    @property
    @override
    def spec(self) -> Spec:
        """One state, A actions, one step."""
        return Spec(
            observation=1,
            state=1,
            actions=self.choices,
            reset_noise=1,
            step_noise=1 + self.members,
            max_steps=1,
            states=1,
            ranges={
                "noise": (0.0, 1000000.0),
            },
            physics={"noise": 0.0},
            measures=("team_reward",),
            baselines={"best_joint": self._best_joint},
            members=self.members,
        )

    @property
    @override
    def pays_team(self) -> bool:
        return self.share == "team"

    @override
    def tables(self, seed: int, world: int) -> JointTables:
        """Return the game: one state, which ends the episode."""
        chosen = self._chosen()
        counts = (chosen == np.arange(self.choices)[:, None, None]).sum(axis=1)
        reward = np.take_along_axis(self.payoffs(counts.astype(np.float64)), chosen, axis=0)
        return JointTables(np.ones((1, chosen.shape[1], 1)), reward[:, None], is_last=True)

    @override
    def optimum(self, physics: Mapping[str, NDArray[Any]]) -> Array | None:
        """Return the highest mean reward of any joint action; None where players get their own."""
        if self.share == "own":
            return None
        return np.asarray(physics["team"][:, 0].max(axis=-1))

    def _chosen(self) -> NDArray[np.intp]:
        """Return the action of each player in each joint action, `(k, J)`."""
        joint = np.arange(self.choices**self.members)
        places = self.choices ** np.arange(self.members)[::-1]
        return joint // places[:, None] % self.choices

    def _best_joint(
        self, world: Array, physics: Mapping[str, NDArray[Any]], elapsed: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Return the joint action of the highest mean reward."""
        best = physics["team"][:, 0, 0, 0].argmax(axis=-1)
        chosen = self._chosen()[:, best].T
        return np.repeat(chosen[:, :, None], world.shape[1], axis=2)


@rule
class PublicGoods(CrowdGame):
    """Players keep a coin (0) or give it (1); factor times all that is given is shared equally.

    A player gets factor g / k, less 1 if it gives, with g givers. For 1 < factor < k to keep is
    dominant, and all are best off if everyone gives: a prisoner's dilemma of k players.

    Physics: noise (uniform in [-noise, noise], of every payoff). Measures: team_reward (the mean
    over players). Baseline: best_joint.

    Reference: Ledyard, "Public goods: a survey of experimental research", in Kagel, Roth, The
    handbook of experimental economics, 1995; sizes as used here.

    Attributes:
        factor: what a coin that is given is worth to all together.
    """

    factor: float = Field(default=1.6, gt=0)

    @property
    @override
    def choices(self) -> int:
        """Keep and give."""
        return 2

    @override
    def payoffs(self, counts: Array) -> Array:
        """Return what those who keep and those who give get."""
        shared = self.factor * counts[1] / self.members
        return np.stack([shared, shared - 1.0])


@rule
class Congestion(CrowdGame):
    """Players choose roads, and pay the delay of theirs: free + slope x (share of players on it).

    The game has a potential (Rosenthal), so it has an equilibrium without chance, and players that
    improve one after the other reach one. In the default roads, Pigou's, the one that is slow at
    any load is left to nobody or one player, though half of the players there would be best.

    Physics: noise (uniform in [-noise, noise], of every payoff). Measures: team_reward (the mean
    over players). Baseline: best_joint.

    References: Rosenthal, "A class of games possessing pure-strategy Nash equilibria",
    International Journal of Game Theory 2, 1973; Pigou, The economics of welfare, 1920.

    Attributes:
        roads: (free, slope) of each.
    """

    roads: tuple[tuple[float, float], ...] = Field(default=((1.0, 0.0), (0.0, 1.0)), min_length=2)

    @property
    @override
    def choices(self) -> int:
        """One road each."""
        return len(self.roads)

    @override
    def payoffs(self, counts: Array) -> Array:
        """Return less the delay of each road."""
        free, slope = np.array(self.roads, dtype=np.float64).T[:, :, None]
        return np.asarray(-(free + slope * counts / self.members))
