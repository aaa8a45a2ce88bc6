"""Gridworld: walk to a goal, past walls and over slippery ground that may differ by agent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.tabular import Tables, Tabular

_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
_ATTEMPTS = 1000


@rule
class GridWorld(Tabular):
    """Walk up (0), right (1), down (2) or left (3) to the goal on `rows` x `columns` cells.

    Walls and the edge stop a step. State row * columns + column. With probability `slip` a step
    goes to one of the two perpendicular directions (Russell and Norvig, Artificial Intelligence: A
    Modern Approach, ch. 17). Physics: slip; the goal's row and column; `extra_walls`, the number of
    cells walled besides `walls` at random from (seed, agent) such that the goal can be reached from
    every free cell; the rewards for entering the goal and for any step. Measure: `goals`, per step.

    Attributes:
        rows: number of rows of cells.
        columns: number of columns of cells.
        walls: (row, column) of the walls that all agents have.
        start: (row, column) of the first cell; None: any free cell but the goal, uniformly.
    """

    rows: int = Field(default=5, ge=1, le=32)
    columns: int = Field(default=5, ge=1, le=32)
    walls: tuple[tuple[int, int], ...] = ()
    start: tuple[int, int] | None = None
    max_steps: int = Field(default=100, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """One-hot cells, four actions."""
        cells = self.rows * self.columns
        physics = {
            "slip": 0.1,
            "goal_row": self.rows - 1.0,
            "goal_column": self.columns - 1.0,
            "extra_walls": 0.0,
            "goal_reward": 1.0,
            "step_reward": -0.01,
        }
        return Spec(
            observation=cells,
            state=1,
            actions=4,
            reset_noise=1,
            step_noise=1,
            max_steps=self.max_steps,
            ranges={
                "slip": (0.0, 1.0),
                "goal_row": (0.0, self.rows - 1.0),
                "goal_column": (0.0, self.columns - 1.0),
                "extra_walls": (0.0, float(cells)),
                "goal_reward": (-1000000.0, 1000000.0),
                "step_reward": (-1000000.0, 1000000.0),
            },
            states=cells,
            physics=physics,
            measures=("goals",),
        )

    @property
    @override
    def successors(self) -> int:
        """Ahead and to both sides, as far as there are cells."""
        return min(3, self.rows * self.columns)

    @override
    def tables(self, seed: int, agent: int, row: Mapping[str, float]) -> Tables:
        goal = (round(row["goal_row"]), round(row["goal_column"]))
        wall = self._walls(seed, agent, round(row["extra_walls"]), goal)
        target = goal[0] * self.columns + goal[1]
        rewards = row["step_reward"], row["goal_reward"]
        return _tables(self, wall.tobytes(), target, row["slip"], *rewards)

    def made(
        self, walled: bytes, target: int, slip: float, step_reward: float, goal_reward: float
    ) -> Tables:
        """Return the tables of an agent.

        Args:
            walled: which cells are walls, row by row.
            target: the goal's cell.
            slip: probability of a step to either side.
            step_reward: of every step.
            goal_reward: of the one that enters the goal.
        """
        wall = np.frombuffer(walled, np.bool_).reshape(self.rows, self.columns)
        cells = self.rows * self.columns
        transition = np.zeros((cells, 4, cells))
        for cell in range(cells):
            ends = [self._move(wall, cell, move) for move in range(4)]
            for action in range(4):
                if cell == target or wall[divmod(cell, self.columns)]:
                    transition[cell, action, cell] = 1.0
                    continue
                transition[cell, action, ends[action]] += 1.0 - slip
                transition[cell, action, ends[(action + 1) % 4]] += slip / 2
                transition[cell, action, ends[(action - 1) % 4]] += slip / 2
        inside = np.arange(cells) == target
        start = np.zeros(cells)
        if self.start is None:
            start[~(wall.ravel() | inside)] = 1.0 / np.count_nonzero(~(wall.ravel() | inside))
        else:
            start[self.start[0] * self.columns + self.start[1]] = 1.0
        reward = np.where(inside | wall.ravel(), 0.0, step_reward)[:, None] * np.ones(4)
        entry = np.where(inside, goal_reward, 0.0)
        return Tables(transition, reward, entry, start, inside)

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Walk one cell."""
        out, reward, terminated, _ = super().step(state, action, physics, noise)
        return out, reward, terminated, {"goals": terminated.astype(np.float64)}

    def _move(self, wall: NDArray[np.bool_], cell: int, move: int) -> int:
        row, column = divmod(cell, self.columns)
        row, column = row + _MOVES[move][0], column + _MOVES[move][1]
        is_free = 0 <= row < self.rows and 0 <= column < self.columns and not wall[row, column]
        return row * self.columns + column if is_free else cell

    def _walls(self, seed: int, agent: int, extra: int, goal: tuple[int, int]) -> NDArray[np.bool_]:
        fixed = np.zeros((self.rows, self.columns), dtype=np.bool_)
        for cell in (*self.walls, goal, *([self.start] if self.start else [])):
            if not (0 <= cell[0] < self.rows and 0 <= cell[1] < self.columns):
                raise P2PFRLError(
                    f"gridworld: agent {agent}: {cell} lies outside of {self.rows} x {self.columns} cells"
                )
        for cell in self.walls:
            fixed[cell] = True
        if fixed[goal] or (self.start and (fixed[self.start] or self.start == goal)):
            raise P2PFRLError(
                f"gridworld: agent {agent}: goal {goal} and start {self.start} must be two free cells"
            )
        kept = [goal[0] * self.columns + goal[1]] + (
            [self.start[0] * self.columns + self.start[1]] if self.start else []
        )
        free = np.count_nonzero(~fixed) - len(kept)
        if (
            not extra
            and free >= (self.start is None)
            and _is_connected(self, fixed.tobytes(), kept[0])
        ):
            return fixed
        if 0 < extra <= free - (self.start is None):
            candidates = np.setdiff1d(np.flatnonzero(~fixed), kept)
            rng = generator(seed, agent, Purpose.PROBLEM)
            for _ in range(_ATTEMPTS):
                wall = fixed.copy()
                wall.flat[rng.choice(candidates, size=extra, replace=False)] = True
                if self.is_connected(wall, kept[0]):
                    return wall
        raise P2PFRLError(
            f"gridworld: agent {agent}: found no {extra} extra walls that let every free cell reach the goal {goal}"
        )

    def is_connected(self, wall: NDArray[np.bool_], target: int) -> bool:
        """Return whether every free cell reaches the goal's."""
        reached, frontier = {target}, [target]
        while frontier:
            cell = frontier.pop()
            ahead = [
                end for move in range(4) if (end := self._move(wall, cell, move)) not in reached
            ]
            reached.update(ahead)
            frontier.extend(ahead)
        return len(reached) == np.count_nonzero(~wall)


@lru_cache(maxsize=1)
def _is_connected(world: GridWorld, walled: bytes, target: int) -> bool:
    """Return what `GridWorld.is_connected` says, once for agents with the same walls."""
    wall = np.frombuffer(walled, np.bool_).reshape(world.rows, world.columns)
    return world.is_connected(wall, target)


@lru_cache(maxsize=1)
def _tables(
    world: GridWorld,
    walled: bytes,
    target: int,
    slip: float,
    step_reward: float,
    goal_reward: float,
) -> Tables:
    """Return what `GridWorld.made` makes, once for agents whose worlds are the same."""
    return world.made(walled, target, slip, step_reward, goal_reward)
