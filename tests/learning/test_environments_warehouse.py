"""Robots in a warehouse, a shared world."""

import numpy as np
import pytest

from p2pfrl.learning.environments.check import check_environment
from p2pfrl.learning.environments.warehouse import MOVES, Warehouse

STAY, NORTH, EAST, SOUTH, WEST = range(5)
SMALL = Warehouse(members=2, aisles=2, shelves=3)
"""Seven rows of three columns: aisles 0 and 2, a charger in cell (2, 1), the station in (6, 1)."""


def cell(row: int, column: int) -> int:
    return 3 * row + column


def robots(*rows: tuple[tuple[int, int], bool, tuple[int, int], float]) -> np.ndarray:
    """Return a world of robots: cell, whether it carries a parcel, the parcel's cell, battery."""
    table = [(cell(*at), carries, cell(*goal), battery) for at, carries, goal, battery in rows]
    return np.array(table, dtype=np.float64).T.reshape(1, 1, -1)


def step(world: np.ndarray, *action: int, environment: Warehouse = SMALL, **own: float):
    k = environment.members
    physics = {
        name: np.full((1, k, 1), value) for name, value in environment.spec.physics.items()
    } | {name: np.full((1, k, 1), value) for name, value in own.items()}
    noise = np.full((1, 1, k), 0.99)
    made = environment.step(world, np.array(action).reshape(1, k, 1), physics, noise)
    measures = {name: values[0, :, 0].tolist() for name, values in made[3].items()}
    return made[0][0, 0].reshape(4, k).tolist(), made[1][0, :, 0].tolist(), measures


FAR = (3, 2)


def test_small_warehouses_keep_the_contract():
    check_environment(SMALL, steps=10)


def test_the_floor_has_aisles_shelves_chargers_and_stations():
    floor = SMALL.floor
    rows = ["".join(".#"[not free] for free in row) for row in floor.is_free.reshape(7, 3)]
    assert rows == ["...", "...", "...", ".#.", ".#.", "...", "..."]
    assert floor.pickups.tolist() == [cell(r, c) for r in (2, 3, 4) for c in (0, 2)]
    assert floor.chargers.tolist() == [cell(2, 1)]
    assert floor.stations.tolist() == [cell(6, 1)]
    assert floor.next[cell(3, 0)].tolist() == [cell(3, 0), cell(2, 0), 9, cell(4, 0), 9]
    assert floor.steps[cell(3, 0), cell(3, 2)] == 4


@pytest.mark.parametrize(("aisles", "shelves"), [(2, 3), (6, 5)])
def test_along_the_lanes_one_gets_from_everywhere_to_parcels_stations_and_chargers(aisles, shelves):
    floor = Warehouse(aisles=aisles, shelves=shelves).floor
    goals = [*floor.pickups, *floor.stations, *floor.chargers]
    assert floor.lane_steps[goals][:, floor.is_free].max() < 100
    assert (floor.lane_steps >= floor.steps).all()
    back = [
        (at, action)
        for at, action in np.argwhere(floor.lanes)
        if (floor.next[floor.next[at, action]] == at)[floor.lanes[floor.next[at, action]]].any()
    ]
    assert not back  # nobody meets another one head-on


def test_a_parcel_is_picked_up_in_its_aisle_and_delivered_at_the_station():
    world = robots(((3, 0), False, (2, 0), 50.0), ((6, 0), True, (2, 0), 50.0))
    after, reward, measures = step(world, NORTH, EAST)
    assert after == [[cell(2, 0), cell(6, 1)], [1, 0], [cell(2, 0), cell(4, 2)], [49.0, 48.5]]
    assert reward == [0.5, 0.5]
    assert (measures["picked"], measures["delivered"]) == ([1, 0], [0, 1])


def test_a_robot_charges_where_it_stays_up_to_its_capacity():
    world = robots(((2, 1), False, FAR, 50.0), ((5, 0), False, FAR, 50.0))
    after, _, measures = step(world, STAY, STAY)
    assert after[3] == [60.0, 50.0]
    assert measures["charged"] == [10.0, 0.0]
    assert step(world, STAY, STAY, capacity=55.0)[0][3] == [55.0, 50.0]
    assert step(world, EAST, STAY)[0][3] == [49.0, 50.0]


def test_a_robot_without_battery_is_stranded_and_pays_for_it_once():
    world = robots(((4, 0), False, FAR, 1.5), ((5, 2), True, FAR, 1.2))
    after, reward, measures = step(world, NORTH, SOUTH)
    assert after[0] == [cell(3, 0), cell(5, 2)]
    assert reward == [-1.0, 0.0]
    assert measures["stranded"] == [1, 1]
    assert measures["blocked"] == [0, 0]


FOUR = Warehouse(members=4, aisles=2, shelves=3)


def conflict(places: list[tuple[int, int]], carries: list[int], *action: int) -> list[int]:
    rows = [(at, bool(load), FAR, 50.0) for at, load in zip(places, carries, strict=True)]
    return step(robots(*rows), *action, environment=FOUR)[0][0]


def test_of_two_who_want_a_cell_the_one_with_a_parcel_goes_then_the_lower_number():
    places = [(1, 0), (1, 2), (5, 0), (5, 2)]
    to = [cell(1, 1), cell(1, 2), cell(5, 0), cell(5, 1)]
    assert conflict(places, [0, 0, 0, 1], EAST, WEST, EAST, WEST) == to


def test_nobody_changes_places_and_a_row_moves_if_its_first_one_can():
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert conflict(places, [0] * 4, EAST, WEST, STAY, STAY) == [cell(*at) for at in places]
    row = [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert conflict(row, [0] * 4, *[SOUTH] * 4) == [cell(r + 1, 0) for r in range(4)]
    assert conflict(row, [0] * 4, SOUTH, SOUTH, SOUTH, STAY) == [cell(*at) for at in row]


def test_four_in_a_square_turn_around():
    square = [(0, 0), (0, 1), (1, 1), (1, 0)]
    turned = [cell(*square[(i + 1) % 4]) for i in range(4)]
    assert conflict(square, [0] * 4, EAST, SOUTH, WEST, NORTH) == turned


def test_the_baseline_goes_to_charge_while_the_battery_lasts():
    policy = SMALL.spec.baselines["one_way"]

    def act(*rows: tuple[tuple[int, int], bool, tuple[int, int], float]) -> list[int]:
        physics = {name: np.full((1, 2, 1), v) for name, v in SMALL.spec.physics.items()}
        return policy(robots(*rows), physics, np.zeros((1, 1), dtype=np.int64))[0, :, 0].tolist()

    full, low = ((1, 1), False, FAR, 90.0), ((1, 1), False, FAR, 3.0)
    away = ((5, 0), False, FAR, 90.0)
    assert act(full, away)[0] == EAST
    assert act(low, away)[0] == SOUTH
    assert act(((2, 1), False, FAR, 40.0), away)[0] == STAY
    assert act(((2, 1), False, FAR, 100.0), away)[0] == EAST


def test_what_a_robot_sees():
    world = robots(((3, 0), False, (2, 0), 50.0), ((4, 0), True, (2, 0), 20.0))
    physics = {"capacity": np.full((1, 2, 1), 100.0)}
    seen = SMALL.observe(world, physics)[0, :, 0]
    assert seen[0, :4].tolist() == [1, 0, 0, 0]
    assert seen[0, 4:8].tolist() == [1, 0, 0, 0]
    assert seen[1, :4].tolist() == [0, 0, 1, 0]
    assert np.allclose(seen[:, 20:], [[0.1, 0.2, 0.5, 0, 0], [0.3, 0.3, 0.2, 1, 0]])
    blocked = {(-2, 0): 0, (-1, 0): 0, (0, 1): 1, (0, -1): 1, (1, 0): 1, (1, 1): 1}
    near = [(r, c) for r in range(-2, 3) for c in range(-2, 3) if 0 < abs(r) + abs(c) <= 2]
    assert {at: seen[0, 8 + near.index(at)] for at in blocked} == blocked
    assert len(MOVES) == SMALL.spec.actions
