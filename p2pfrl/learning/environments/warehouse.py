"""Warehouse: robots bring parcels from shelves to stations and recharge, a shared world."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.core.scene import BLUE, DARK, GREEN, ORANGE, PALE, Box, Disc, Scene, Shape
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.shared import SharedEnvironment, by_instance, per_member

Physics = Mapping[str, NDArray[Any]]
Cells = NDArray[np.intp]

MOVES = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows and columns by action: stay, north, east, south, west."""
_STAY, _NORTH, _EAST, _SOUTH, _WEST = range(5)
_NEAR = tuple((r, c) for r in range(-2, 3) for c in range(-2, 3) if 0 < abs(r) + abs(c) <= 2)
_FAR = 10_000  # steps to where one cannot get
_LOADED = 1.5  # times the battery that a move costs with a parcel
_SPARE = 1.0  # moves more than to the charger that the battery has to last for, in the baselines


@dataclass(frozen=True)
class Floor:
    """A floor of n cells, numbered by rows.

    Attributes:
        is_free: `(n,)` where robots may stand; the rest are shelves.
        pickups, stations, chargers: cells where parcels are picked up, brought to, robots charge.
        next: `(n, 5)` the cell that each action leads to: the own one if that is blocked.
        steps: `(n + 1, n)` steps to each cell, from each cell; last, to the nearest station.
        lanes: `(n, 5)` which moves go along the lanes, each of which has one direction.
        lane_steps: `(n + 1, n)` steps along the lanes.
        near: `(n, 12)` the cells within two steps; n outside of the floor.
    """

    is_free: NDArray[np.bool_]
    pickups: Cells
    stations: Cells
    chargers: Cells
    next: Cells
    steps: NDArray[np.int64]
    lanes: NDArray[np.bool_]
    lane_steps: NDArray[np.int64]
    near: Cells


@rule
class Warehouse(SharedEnvironment):
    """Carry parcels: robots on a grid choose to stay or to move north, east, south or west.

    Aisles run from north to south between rows of shelves, with two free rows above and below. A
    robot picks up its parcel when it is at the parcel's place in an aisle, and delivers it when it
    is at a station, in the last row. Then it has another parcel, anywhere. A move costs `move` of
    its battery, and half as much more with a parcel; a robot that cannot pay for it stays. On a
    charger, the first cell of every row of shelves, it gains `charge` per step that it stays.

    All move at once. A robot stays if it wants a cell in which another one stays, if it would
    change places with another one, or if another one wants the same cell that carries a parcel
    while it does not, or that has a lower number where both or neither do.

    A member observes, for each move, whether it leads nearer to its goal and whether nearer to the
    nearest charger; whether each cell within two steps is a shelf, outside, or has a robot; both
    distances / 10; its battery / capacity; whether it carries a parcel, and is on a charger.
    Reward: .5 for a parcel picked up, .5 for one delivered, -1 when it is stranded, off the
    chargers without the battery for a move. Physics: capacity (of the battery; at first half to
    full), move, charge. Measures per step: picked, delivered, blocked (wanted to move and could
    not), used, charged, battery, stranded.

    Baselines: `shortest_path` goes to its goal, or to the nearest charger when the battery just
    suffices for that, and stays there until it is full. `one_way` does so along lanes
    with one direction each, in which nobody meets another one head-on.

    Attributes:
        members: robots.
        aisles: an even number; the floor has 2 x aisles - 1 columns.
        shelves: rows of shelves; the floor has four rows more.
        max_steps: steps of an episode.
    """

    members: int = Field(default=8, ge=2)
    aisles: int = Field(default=6, ge=2, multiple_of=2)
    shelves: int = Field(default=5, ge=3)
    max_steps: int = Field(default=200, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Cell, whether it carries a parcel, the parcel's cell and battery of each robot."""
        k = self.members
        return Spec(
            observation=25,
            state=4 * k,
            actions=len(MOVES),
            reset_noise=int(self.floor.is_free.sum()) + 2 * k,
            step_noise=k,
            max_steps=self.max_steps,
            ranges={
                "capacity": (1.0, 1000000.0),
                "move": (0.0, 1000000.0),
                "charge": (0.0, 1000000.0),
            },
            physics={"capacity": 100.0, "move": 1.0, "charge": 10.0},
            measures=("picked", "delivered", "blocked", "used", "charged", "battery", "stranded"),
            baselines={
                "shortest_path": partial(self._plan, is_one_way=False),
                "one_way": partial(self._plan, is_one_way=True),
            },
            members=k,
        )

    @property
    def floor(self) -> Floor:
        """The floor plan."""
        return _floor(self.aisles, self.shelves)

    @override
    def reset(self, physics: Physics, noise: Array) -> Array:
        """Return robots in different free cells, with batteries half to full."""
        k, floor = self.members, self.floor
        cells = np.flatnonzero(floor.is_free)
        order = np.argsort(noise[..., : len(cells)], axis=-1, kind="stable")[..., :k]
        world = np.zeros((*noise.shape[:2], 4 * k))
        place, _, goal, battery = self._parts(world)
        place[:] = cells[order]
        goal[:] = _drawn(floor.pickups, noise[..., len(cells) : len(cells) + k])
        battery[:] = by_instance(physics["capacity"]) * (0.5 + 0.5 * noise[..., len(cells) + k :])
        return world

    @override
    def observe(self, world: Array, physics: Physics) -> NDArray[np.float32]:
        """Return the ways, the surroundings and the battery of each robot."""
        floor, k = self.floor, self.members
        place, target, _, battery, carries = self._read(world)
        ahead = floor.next[place][..., 1:]
        to_charger = floor.steps[floor.chargers].min(axis=0)
        out = np.empty((*place.shape, 25), dtype=np.float32)
        here = floor.steps[target, place]
        out[..., :4] = floor.steps[target[..., None], ahead] < here[..., None]
        out[..., 4:8] = to_charger[ahead] < to_charger[place][..., None]
        out[..., 8:20] = np.take_along_axis(
            self._is_taken(place), floor.near[place].reshape(*place.shape[:2], 12 * k), axis=-1
        ).reshape(*place.shape, 12)
        out[..., 20], out[..., 21] = here / 10, to_charger[place] / 10
        out[..., 22] = battery / by_instance(physics["capacity"])
        out[..., 23], out[..., 24] = carries, to_charger[place] == 0
        return per_member(out)

    @override
    def step(
        self, world: Array, action: NDArray[Any], physics: Physics, noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Move all robots, then charge, pick up and deliver."""
        floor = self.floor
        place, _, goal, battery, carries = self._read(world)
        move, capacity = by_instance(physics["move"]), by_instance(physics["capacity"])
        cost = np.where(carries, _LOADED * move, move)
        is_able = battery >= cost
        intended = floor.next[place, by_instance(action)]
        wanted = np.where(is_able, intended, place)
        after = _resolve(place, wanted, carries)
        has_moved = after != place
        is_charger = np.zeros(len(floor.is_free), dtype=np.bool_)
        is_charger[floor.chargers] = True
        used = np.where(has_moved, cost, 0.0)
        gain = np.minimum(by_instance(physics["charge"]), capacity - battery)
        charged = np.where(is_charger[after] & ~has_moved, gain, 0.0)
        now = battery - used + charged
        picked = ~carries & (after == goal)
        delivered = carries & np.isin(after, floor.stations)
        carries_now = (carries | picked) & ~delivered
        was_stranded = ~is_able & ~is_charger[place]
        needed = np.where(carries_now, _LOADED * move, move)
        stranded = (now < needed) & ~is_charger[after]
        reward = 0.5 * picked + 0.5 * delivered - 1.0 * (stranded & ~was_stranded)
        out = np.empty_like(world)
        parts = self._parts(out)
        parts[0][:], parts[1][:], parts[3][:] = after, carries_now, now
        parts[2][:] = np.where(delivered, _drawn(floor.pickups, noise), goal)
        found = {
            "picked": picked,
            "delivered": delivered,
            "blocked": (wanted != place) & ~has_moved,
            "used": used,
            "charged": charged,
            "battery": now,
            "stranded": stranded,
        }
        measures = {name: per_member(values.astype(np.float64)) for name, values in found.items()}
        return out, per_member(reward), np.zeros(world.shape[:2], dtype=np.bool_), measures

    @override
    def scene(self, state: Array) -> Scene:
        """Return shelves, stations, chargers, parcels that wait, and robots, in cells."""
        floor, (rows, columns) = self.floor, (self.shelves + 4, 2 * self.aisles - 1)

        def at(cell: int) -> tuple[float, float]:
            row, column = divmod(cell, columns)
            return column + 0.5, rows - row - 0.5

        shapes: list[Shape] = [
            Box(*at(cell), 0.9, 0.9, color)
            for cells, color in (
                (np.flatnonzero(~floor.is_free), DARK),
                (floor.stations, PALE),
                (floor.chargers, GREEN),
            )
            for cell in cells.tolist()
        ]
        place, carries, goal, _ = (part.astype(np.intp).tolist() for part in self._parts(state))
        waiting = [cell for cell, is_loaded in zip(goal, carries, strict=True) if not is_loaded]
        shapes += [Box(*at(cell), 0.4, 0.4, ORANGE) for cell in waiting]
        for i, (cell, is_loaded) in enumerate(zip(place, carries, strict=True)):
            shapes.append(Disc(*at(cell), 0.38, ORANGE if is_loaded else BLUE, str(i)))
        return Scene(float(columns), float(rows), tuple(shapes))

    def _parts(self, world: Array) -> tuple[Array, Array, Array, Array]:
        """Return views `(G, m, k)`: cell, whether it carries, its parcel's cell, battery."""
        k = self.members
        return world[..., :k], world[..., k : 2 * k], world[..., 2 * k : 3 * k], world[..., 3 * k :]

    def _read(self, world: Array) -> tuple[Cells, Cells, Cells, Array, NDArray[np.bool_]]:
        """Return cells, targets (rows of `steps`), parcels' cells, batteries, whether loaded."""
        place, carries, goal, battery = self._parts(world)
        is_loaded = carries > 0
        parcel = goal.astype(np.intp)
        target = np.where(is_loaded, len(self.floor.is_free), parcel)
        return place.astype(np.intp), target, parcel, battery, is_loaded

    def _is_taken(self, place: Cells) -> NDArray[np.bool_]:
        """Return `(G, m, n + 1)` whether cells are shelves or have robots; last, the outside."""
        is_free = np.append(self.floor.is_free, False)
        taken = np.tile(~is_free, (*place.shape[:2], 1))
        np.put_along_axis(taken, place, True, axis=-1)
        return taken

    def _plan(
        self, world: Array, physics: Physics, t: NDArray[np.int64], *, is_one_way: bool
    ) -> NDArray[np.int64]:
        floor = self.floor
        place, target, _, battery, _ = self._read(world)
        steps = floor.lane_steps if is_one_way else floor.steps
        ahead, busy = floor.next[place], self._is_taken(place)
        detour = 0.5 * np.take_along_axis(busy, ahead.reshape(*busy.shape[:2], -1), axis=-1)
        detour = detour.reshape(ahead.shape)
        if is_one_way:
            detour = np.where(floor.lanes[place], detour, np.inf)
        detour[..., _STAY] = 0.0

        def towards(target: Cells) -> NDArray[np.int64]:
            chosen: NDArray[np.int64] = (steps[target[..., None], ahead] + detour).argmin(axis=-1)
            return chosen

        to_goal = towards(target)
        there = np.take_along_axis(ahead, to_goal[..., None], axis=-1)[..., 0]
        to_chargers = steps[floor.chargers]
        left = battery - _LOADED * by_instance(physics["move"]) * (1.0 + _SPARE)
        is_low = left < _LOADED * by_instance(physics["move"]) * to_chargers.min(axis=0)[there]
        to_charger = towards(floor.chargers[to_chargers.argmin(axis=0)[place]])
        is_charging = np.isin(place, floor.chargers)
        is_charging &= battery < by_instance(physics["capacity"])
        chosen = np.where(is_charging, _STAY, np.where(is_low, to_charger, to_goal))
        return per_member(chosen.astype(np.int64))


def _drawn(cells: Cells, uniform: Array) -> Cells:
    """Return one of the cells for each uniform number."""
    found: Cells = cells[(uniform * len(cells)).astype(np.intp)]
    return found


def _resolve(place: Cells, wanted: Cells, carries: NDArray[np.bool_]) -> Cells:
    """Return where robots `(..., k)` are after all moved at once: no two in one cell.

    Who is blocked stays, which may block others: repeated until nobody is.
    """
    k = place.shape[-1]
    rank = np.arange(k) - k * carries
    is_behind = rank[..., :, None] > rank[..., None, :]
    others = ~np.eye(k, dtype=np.bool_)
    here = place[..., None, :]
    while True:
        stays = wanted == place
        wants = wanted[..., :, None]
        clash = (wants == wanted[..., None, :]) & (stays[..., None, :] | is_behind)
        swap = (wants == here) & (np.swapaxes(wants, -1, -2) == np.swapaxes(here, -1, -2))
        is_blocked = ~stays & ((clash | swap) & others).any(axis=-1)
        if not is_blocked.any():
            return wanted
        wanted = np.where(is_blocked, place, wanted)


@lru_cache(maxsize=8)
def _floor(aisles: int, shelves: int) -> Floor:
    """Return the floor plan; its lanes are a circle around the shelves, and aisles in turn.

    From north: row 0 goes west, row 1 east, then the aisles south and north in turn, the last but
    one row west, the last one east. One enters a charger from the north and leaves it to the east.
    """
    rows, columns = shelves + 4, 2 * aisles - 1
    cell = np.arange(rows * columns).reshape(rows, columns)
    is_free = np.ones((rows, columns), dtype=np.bool_)
    is_free[2 : rows - 2, 1::2] = False
    is_free[2, 1::2] = True
    n = rows * columns
    next_, lanes = np.empty((n, 5), dtype=np.intp), np.zeros((n, 5), dtype=np.bool_)
    near = np.full((n, len(_NEAR)), n, dtype=np.intp)
    for row in range(rows):
        for column in range(columns):
            at = int(cell[row, column])
            for action, (down, right) in enumerate(MOVES):
                r, c = row + down, column + right
                is_open = 0 <= r < rows and 0 <= c < columns and bool(is_free[r, c])
                next_[at, action] = cell[r, c] if is_open else at
            for i, (down, right) in enumerate(_NEAR):
                if 0 <= row + down < rows and 0 <= column + right < columns:
                    near[at, i] = cell[row + down, column + right]
            lanes[at, list(_along(row, column, rows))] = True
            lanes[at] &= next_[at] != at
    flat = is_free.ravel()
    stations, chargers = cell[-1, 1::2], cell[2, 1::2]
    return Floor(
        is_free=flat,
        pickups=cell[2 : rows - 2, 0::2].ravel(),
        stations=stations,
        chargers=chargers,
        next=next_,
        steps=_all_steps(next_, next_ != np.arange(n)[:, None], stations),
        lanes=lanes,
        lane_steps=_all_steps(next_, lanes, stations),
        near=near,
    )


def _along(row: int, column: int, rows: int) -> tuple[int, ...]:
    """Return the moves of the lane of a cell."""
    across = {0: _WEST, 1: _EAST, rows - 2: _WEST, rows - 1: _EAST}.get(row)
    if column % 2:
        if row == 1:
            return _EAST, _SOUTH
        return (_EAST,) if across is None else (across,)
    aisle = _NORTH if column % 4 else _SOUTH
    return (aisle,) if across is None else (across, aisle)


def _all_steps(next_: Cells, allowed: NDArray[np.bool_], stations: Cells) -> NDArray[np.int64]:
    """Return the steps to each cell, and last to the nearest station, from each cell."""
    n = len(next_)
    before: list[list[int]] = [[] for _ in range(n)]
    for at, action in np.argwhere(allowed).tolist():
        before[next_[at, action]].append(at)
    out = np.full((n + 1, n), _FAR, dtype=np.int64)
    for goal in range(n):
        out[goal, goal] = 0
        queue = deque([goal])
        while queue:
            at = queue.popleft()
            for other in before[at]:
                if out[goal, other] == _FAR:
                    out[goal, other] = out[goal, at] + 1
                    queue.append(other)
    out[n] = out[stations].min(axis=0)
    return out
