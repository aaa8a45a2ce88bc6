"""Matrix games: two players choose at once, and a table says what each gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.shared_tabular import JointTables, SharedTabular

Game = Literal["pennies", "rps", "prisoners", "stag_hunt", "chicken", "battle"]
Payoffs = tuple[tuple[tuple[float, float], ...], ...]

PAYOFFS: dict[str, Payoffs] = {
    "pennies": (((1, -1), (-1, 1)), ((-1, 1), (1, -1))),
    "rps": (((0, 0), (-1, 1), (1, -1)), ((1, -1), (0, 0), (-1, 1)), ((-1, 1), (1, -1), (0, 0))),
    "prisoners": (((3, 3), (0, 5)), ((5, 0), (1, 1))),
    "stag_hunt": (((4, 4), (0, 3)), ((3, 0), (3, 3))),
    "chicken": (((3, 3), (1, 4)), ((4, 1), (0, 0))),
    "battle": (((2, 1), (0, 0)), ((0, 0), (1, 2))),
}
"""Payoffs (first player, second player) by first action and second action."""


@rule
class MatrixGame(SharedTabular):
    """A game of two players in one step: agents 2w and 2w + 1 are the first and second of world w.

    Both choose one of A actions at once, without seeing anything, and get what the table says. A
    named game has two actions: pennies (equal or unequal), prisoners (cooperate or defect),
    stag_hunt (stag or hare), chicken (swerve or go straight), battle (each prefers an event of its
    own), or three: rps (rock, paper, scissors). In a game that is not symmetric, R_2 = R_1', the
    players' policies have nothing to do with each other, so members of a world must not average
    them; agents of one role may (topology islands with alternate agents).

    Physics: noise (uniform in [-noise, noise], of every payoff). Measures: team_reward (the mean of
    both). Baseline: best_joint, the first pair of actions with the highest mean payoff.

    Reference: von Neumann, Morgenstern, Theory of games and economic behavior, 1944; the payoffs of
    named games as used here.

    Attributes:
        game: a name, or payoffs [first player's, second player's] by first and second action.
    """

    game: Game | Payoffs = "pennies"

    def __post_init__(self) -> None:
        table = self.payoffs
        if len(table) < 2 or any(len(row) != len(table) for row in table):
            raise ValueError(
                "game must have as many columns as rows, two or more, each a pair of payoffs; got "
                f"rows of {[len(row) for row in table]}"
            )

    @property
    def payoffs(self) -> Payoffs:
        """What both players get, by first and second action."""
        return PAYOFFS[self.game] if isinstance(self.game, str) else self.game

    @property
    @override
    def spec(self) -> Spec:
        """One state, A actions, one step."""
        return Spec(
            observation=1,
            state=1,
            actions=len(self.payoffs),
            reset_noise=1,
            step_noise=3,
            max_steps=1,
            states=1,
            ranges={
                "noise": (0.0, 1000000.0),
            },
            physics={"noise": 0.0},
            measures=("team_reward",),
            baselines={"best_joint": self._best_joint},
            members=2,
            apart=self._apart(),
        )

    def _apart(self) -> str:
        """Return why the players must not average their policies; empty in a symmetric game."""
        first, second = self._tables()
        if np.array_equal(second, first.T):
            return ""
        name = self.game if isinstance(self.game, str) else "this game"
        if np.array_equal(second, -first):
            return f"in {name} one player's gain is the other's loss"
        return f"in {name} both players have payoffs of their own"

    def _tables(self) -> Array:
        """Return the payoffs `(player, first action, second action)`."""
        return np.moveaxis(np.array(self.payoffs, dtype=np.float64), -1, 0)

    @override
    def tables(self, seed: int, world: int) -> JointTables:
        """Return the game: one state, which ends the episode."""
        joint = len(self.payoffs) ** 2
        reward = self._tables().reshape(2, 1, joint)
        return JointTables(np.ones((1, joint, 1)), reward, is_last=True)

    def _best_joint(
        self, world: Array, physics: Mapping[str, NDArray[Any]], elapsed: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Return the pair of actions of the highest mean payoff."""
        best = physics["team"][:, 0, 0, 0].argmax(axis=-1)
        both = np.stack(np.divmod(best, len(self.payoffs)), axis=1)
        return np.repeat(both[:, :, None], world.shape[1], axis=2)
