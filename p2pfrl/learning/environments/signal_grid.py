"""Signal grid: crossings on a grid of streets, each of them an agent, a shared world."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.core.scene import DARK, GREEN, RED, Box, Scene, Shape
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.shared import SharedEnvironment, by_instance, per_member
from p2pfrl.learning.environments.signals import SATURATION, STEP, poisson

Physics = Mapping[str, NDArray[Any]]

_TOWARDS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # north, east, south, west: rows, columns on
_STRAIGHT, _TURN = 0.7, 0.15
_MARGIN = 2.0  # vehicles by which another stage must be ahead: what one step of the change costs


@rule
class SignalGrid(SharedEnvironment):
    """Choose the green stage of a crossing on a grid; reward -.1 x queued vehicles per step of 4 s.

    Each crossing has four approaches, from north, east, south and west, with a queue q_a each, and
    two stages: north-south green, east-west green. If the action is another stage than the green
    one, the stage changes and nobody is served in this step; the next step cannot change it again.
    Otherwise min(q_a, 2) leave every green approach: .7 straight on, .15 left, .15 right. Whoever
    leaves over a side joins the queue of the next crossing `delay` steps later, or has left the
    grid. Flows are real numbers and roads have room for all (store and forward). Approaches at the
    border receive a Poisson number of vehicles per step, at most 9. Episodes last 15 minutes and
    start empty.

    A member observes sqrt(q_a) / 3, the vehicles that will join within two steps / 2, its stage,
    and whether it has just changed. Physics: demand (vehicles per hour and border approach), ns, ew
    (its factors for those from north and south, from east and west). Measures per step: queue,
    served, entered, left (the grid, from this crossing), travelling (towards this crossing).

    Baselines: `webster` has fixed times at every crossing, with the flows that reach it on average:
    cycle C = (1.5 L + 5) / (1 - Y) with L = 4 s lost per stage, Y the sum of the stages' flow
    ratios, greens in proportion to these. `progression` has equal greens at all crossings at once,
    and a cycle of delay + 1 steps, the time from one stop line to the next, at least 4 steps, so
    that whoever was served arrives at green. `max_pressure` serves the stage with the largest sum
    of q_a less the queues that its vehicles will join, weighted with the turns. `longest_queue`
    serves that with the largest sum of q_a. The last two change if the other stage is ahead by more
    than a step serves.

    Reference: Varaiya, "Max pressure control of a network of signalized intersections",
    Transportation Research Part C 36, 2013; Webster, "Traffic signal settings", Road Research
    Technical Paper 39, 1958; Chu, Wang, Codecà, Li, "Multi-agent deep reinforcement learning for
    large-scale traffic signal control", IEEE Transactions on Intelligent Transportation Systems
    21(3), 2020, arXiv 1903.04527, for rewards of neighbors.

    Attributes:
        rows, columns: of crossings; the world has rows x columns members.
        delay: steps on the road between two crossings, and from the border.
        neighbors: weight of the rewards of the adjacent crossings, beside one's own.
        max_steps: steps of an episode.
    """

    rows: int = Field(default=4, ge=1)
    columns: int = Field(default=4, ge=1)
    delay: int = Field(default=5, ge=1)
    neighbors: float = Field(default=0.0, ge=0)
    max_steps: int = Field(default=225, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Queues, vehicles on the road, stages and whether they have just changed."""
        k = self.rows * self.columns
        return Spec(
            observation=11,
            state=k * (4 + 4 * self.delay + 2),
            actions=2,
            reset_noise=1,
            step_noise=4 * k,
            max_steps=self.max_steps,
            ranges={
                "demand": (0.0, 100000.0),
                "ns": (0.0, 100.0),
                "ew": (0.0, 100.0),
            },
            physics={"demand": 400.0, "ns": 1.0, "ew": 1.0},
            measures=("queue", "served", "entered", "left", "travelling"),
            baselines={
                "webster": self._webster,
                "progression": self._progression,
                "max_pressure": self._max_pressure,
                "longest_queue": self._longest_queue,
            },
            members=k,
        )

    @override
    def reset(self, physics: Physics, noise: Array) -> Array:
        """Return empty grids, north-south green."""
        return np.zeros((*noise.shape[:2], self.spec.state))

    @override
    def observe(self, world: Array, physics: Physics) -> NDArray[np.float32]:
        """Return queues, vehicles about to join them, and the stage of each crossing."""
        queue, road, stage, changed = self._parts(world)
        out = np.empty((*stage.shape, 11), dtype=np.float32)
        out[..., :4] = np.sqrt(queue) / 3
        near = road[..., 0, :, :] if self.delay == 1 else road[..., 0, :, :] + road[..., 1, :, :]
        out[..., 4:8] = near / 2
        out[..., 8], out[..., 9], out[..., 10] = stage == 0, stage == 1, changed
        return per_member(out)

    @override
    def step(
        self, world: Array, action: NDArray[Any], physics: Physics, noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Change the stage or serve; those who are due join their queues; others enter."""
        queue, road, stage, changed = self._parts(world)
        wanted = by_instance(action)
        changes = (changed == 0) & (wanted != stage)
        stage = np.where(changes, wanted, stage)
        green = np.stack([stage == 0, stage == 1] * 2, axis=-1) & ~changes[..., None]
        served = np.where(green, np.minimum(queue, SATURATION), 0.0)
        queue = queue - served + road[..., 0, :, :]
        leaving = _over_sides(served)
        joining, is_border = self._joining(leaving)
        came = poisson(self._rates(physics), noise.reshape(queue.shape))
        entered = came * is_border
        out = np.empty_like(world)
        new_queue, new_road, new_stage, new_changed = self._parts(out)
        new_queue[:], new_stage[:], new_changed[:] = queue, stage, changes
        new_road[..., :-1, :, :] = road[..., 1:, :, :]
        new_road[..., -1, :, :] = joining + entered
        total = _sum(queue)
        reward = -0.1 * total
        if self.neighbors:
            reward = reward + self.neighbors * _sum(self._of_neighbors(reward))
        on_road = new_road[..., 0, :, :].copy()
        for ahead in range(1, self.delay):
            on_road += new_road[..., ahead, :, :]
        measures = {
            "queue": per_member(total),
            "served": per_member(_sum(served)),
            "entered": per_member(_sum(entered)),
            "left": per_member(_sum(leaving * is_border)),
            "travelling": per_member(_sum(on_road)),
        }
        return out, per_member(reward), np.zeros(world.shape[:2], dtype=np.bool_), measures

    @override
    def scene(self, state: Array) -> Scene:
        """Return crossings with bars as long as their queues, green or red; 12 vehicles at most."""
        queue, _, stage, changed = self._parts(state)
        shapes: list[Shape] = []
        for at in range(len(stage)):
            row, column = divmod(at, self.columns)
            x, y = column + 0.5, self.rows - row - 0.5
            shapes.append(Box(x, y, 0.12, 0.12, DARK))
            for approach, (down, right) in enumerate(_TOWARDS):
                is_green = approach % 2 == stage[at] and not changed[at]
                long = min(float(queue[at, approach]), 12.0) / 36
                far = 0.08 + long / 2
                size = (0.06, long) if down else (long, 0.06)
                shapes.append(
                    Box(x + right * far, y - down * far, *size, GREEN if is_green else RED)
                )
        return Scene(float(self.columns), float(self.rows), tuple(shapes))

    def _parts(self, world: Array) -> tuple[Array, Array, Array, Array]:
        """Return views: queues (k, 4), road (delay, k, 4), stages (k) and whether changed (k)."""
        k, d, shape = self.rows * self.columns, self.delay, world.shape[:-1]
        queue, road, stage, changed = np.split(
            world, [4 * k, 4 * k * (d + 1), 4 * k * (d + 1) + k], axis=-1
        )
        return queue.reshape(*shape, k, 4), road.reshape(*shape, d, k, 4), stage, changed

    def _joining(self, leaving: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return who comes from the next crossings, by approach, and which are at the border."""
        links = _links(self.rows, self.columns)
        found = np.empty_like(leaving)
        for side in range(4):
            found[..., side] = leaving[..., links[:, side], (side + 2) % 4]
        is_border = links < 0
        found[..., is_border] = 0.0
        return found, is_border

    def _of_neighbors(self, values: Array) -> Array:
        """Return the values `(..., k)` of the four adjacent crossings, `(..., k, 4)`, else 0."""
        links = _links(self.rows, self.columns)
        found: Array = values[..., links]
        found[..., links < 0] = 0.0
        return found

    def _rates(self, physics: Physics) -> Array:
        """Return the vehicles per step of each approach, `(G, 1, k, 4)`, if at the border."""
        demand = by_instance(physics["demand"]) * (STEP / 3600.0)
        ns, ew = demand * by_instance(physics["ns"]), demand * by_instance(physics["ew"])
        return np.stack([ns, ew, ns, ew], axis=-1)

    def _webster(self, world: Array, physics: Physics, t: NDArray[np.int64]) -> NDArray[np.int64]:
        entering = self._rates(physics)
        flow = np.zeros(entering.shape)
        for _ in range(4 * (self.rows + self.columns)):
            joining, is_border = self._joining(_over_sides(flow))
            flow = joining + entering * is_border
        ratio = np.maximum(flow[..., :2], flow[..., 2:]) / SATURATION  # by stage
        both, lost = ratio[..., 0] + ratio[..., 1], 2 * STEP
        cycle = (1.5 * lost + 5.0) / (1.0 - np.minimum(both, 0.95))
        share = ratio / np.maximum(both, 1e-9)[..., None]
        greens = np.maximum(np.round((cycle - lost)[..., None] * share / STEP), 1.0)
        first, second = greens[..., 0] + 1.0, greens[..., 1] + 1.0  # a step for the change
        place = np.mod(t[..., None] + 1, first + second)  # the first is green at the start
        return per_member((place >= first).astype(np.int64))

    def _progression(
        self, world: Array, physics: Physics, t: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        cycle = max(self.delay + 1, 4)
        second = (t + 1) % cycle >= cycle // 2  # the first is green at the start
        return np.repeat(second[:, None].astype(np.int64), self.spec.members, axis=1)

    def _longest_queue(
        self, world: Array, physics: Physics, t: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        queue, _, stage, _ = self._parts(world)
        return per_member(_ahead(queue, stage))

    def _max_pressure(
        self, world: Array, physics: Physics, t: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        queue, _, stage, _ = self._parts(world)
        links, approaches = _links(self.rows, self.columns), (np.arange(4) + 2) % 4
        ahead = queue[..., links, approaches]  # over each side, the queue that one joins there
        ahead[..., links < 0] = 0.0
        pressure = queue.copy()
        for approach in range(4):
            for turn, part in ((2, _STRAIGHT), (3, _TURN), (1, _TURN)):
                pressure[..., approach] -= part * ahead[..., (approach + turn) % 4]
        return per_member(_ahead(pressure, stage))


def _ahead(pressure: Array, stage: Array) -> NDArray[np.int64]:
    """Return the stage with the larger sum over its two approaches, if it is ahead enough."""
    lead = pressure[..., 0] + pressure[..., 2] - pressure[..., 1] - pressure[..., 3]
    other = np.where(stage == 0, -lead, lead)
    return np.where(other > _MARGIN, 1 - stage, stage).astype(np.int64)


@lru_cache(maxsize=8)
def _links(rows: int, columns: int) -> NDArray[np.intp]:
    """Return the next crossing over each side, `(rows x columns, 4)`; -1 at the border."""
    found = np.full((rows * columns, 4), -1, dtype=np.intp)
    for at in range(rows * columns):
        row, column = divmod(at, columns)
        for side, (down, right) in enumerate(_TOWARDS):
            if 0 <= row + down < rows and 0 <= column + right < columns:
                found[at, side] = (row + down) * columns + column + right
    return found


def _over_sides(served: Array) -> Array:
    """Return who leaves over each side: whoever comes from side a goes on to a + 2, or turns."""
    out = np.empty_like(served)
    for side in range(4):
        opposite, right, left = (served[..., (side + turn) % 4] for turn in (2, 1, 3))
        out[..., side] = _STRAIGHT * opposite + _TURN * right + _TURN * left
    return out


def _sum(values: Array) -> Array:
    """Return the sum over four approaches or sides, added in order."""
    total: Array = values[..., 0] + values[..., 1] + values[..., 2] + values[..., 3]
    return total
