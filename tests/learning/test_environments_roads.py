"""Shared worlds on roads: the junction and the grid of signals."""

from typing import Any

import numpy as np
import pytest

from p2pfrl.learning.environments.check import check_environment
from p2pfrl.learning.environments.junction import Junction, fuel
from p2pfrl.learning.environments.shared import SharedEnvironment
from p2pfrl.learning.environments.signal_grid import SignalGrid


def physics(environment: SharedEnvironment, **own: float) -> dict[str, np.ndarray]:
    values = dict(environment.spec.physics) | own
    shape = (1, environment.spec.members, 1)
    return {name: np.full(shape, float(value)) for name, value in values.items()}


def step(environment: SharedEnvironment, world: list[float], action: list[int], **own: Any):
    spec, noise = environment.spec, own.pop("noise", 0.0)
    made = environment.step(
        np.array([[world]], dtype=np.float64),
        np.array([action], dtype=np.int64)[..., None],
        physics(environment, **own),
        np.full((1, 1, spec.step_noise), noise),
    )
    return made[0][0, 0], made[1][0, :, 0], bool(made[2][0, 0]), made[3]


@pytest.mark.parametrize(
    "environment",
    [
        Junction(members=2, share="own"),
        Junction(members=3),
        SignalGrid(rows=1, columns=2),
        SignalGrid(rows=2, columns=3, delay=1, neighbors=0.5),
    ],
    ids=str,
)
def test_variants_keep_the_contract(environment):
    check_environment(environment, steps=5)


# --- the junction ---------------------------------------------------------------------------------

HOLD, GO, BRAKE = 1, 2, 0


def vehicles(*rows: tuple[float, float, float]) -> list[float]:
    """Return a world of vehicles: x, v, whether there; 3 s after the start."""
    return [*np.array(rows).T.ravel().tolist(), *[3.0] * len(rows)]


def test_a_vehicle_drives_within_its_speeds():
    own = Junction(members=2, share="own")
    world, *_ = step(own, vehicles((50, 10, 1), (50, 14.5, 1)), [BRAKE, GO], engine=2.0)
    assert world.tolist() == [50 - 4.5, 50 - 7.375, 8.0, 15.0, 1, 1, 3.5, 3.5]
    world, *_ = step(own, vehicles((50, 1, 1), (50, 10, 1)), [BRAKE, HOLD], brake=0.25)
    assert world[2:4].tolist() == [0.5, 10.0]


def test_vehicles_on_crossing_approaches_crash_in_the_zone_and_those_ahead_do_not():
    own = Junction(members=4, share="own")
    there = vehicles((2, 10, 1), (3, 10, 1), (30, 10, 1), (-11, 10, 1))
    world, reward, over, measures = step(own, there, [HOLD] * 4, fuel_cost=0.0)
    assert world[8:12].tolist() == [-1, -1, 1, -1]
    assert reward.tolist() == [-10.05, -10.05, -0.05, -10.05]
    assert not over
    assert measures["collisions"][0, :, 0].tolist()[:2] == [1, 1]
    assert np.isnan(measures["collisions"][0, 2, 0])
    assert measures["throughput"][0, :, 0].tolist() == [0.0] * 4
    there = vehicles((2, 10, 1), (30, 10, 1), (3, 10, 1), (30, 10, 1))
    assert step(own, there, [HOLD] * 4)[0][8:12].tolist() == [1, 1, 1, 1]


def test_who_has_passed_is_gone_and_reports_its_time_once():
    own = Junction(members=2, share="own")
    there = vehicles((-11, 10, 1), (60, 10, 1))
    world, _, over, measures = step(own, there, [HOLD, HOLD])
    assert world[4:6].tolist() == [0, 1]
    assert measures["travel_time"][0, 0, 0] == 3.5
    assert measures["collisions"][0, 0, 0] == 0.0
    assert measures["throughput"][0, :, 0].tolist() == [120.0, 120.0]  # one in half a second
    assert not over
    world[1:6:2] = -11, 10, 1
    _, reward, over, measures = step(own, world.tolist(), [HOLD, HOLD])
    assert reward[0] == 0.0
    assert np.isnan(measures["travel_time"][0, 0, 0])
    assert over


def test_the_team_shares_the_mean_reward():
    there = vehicles((2, 10, 1), (3, 10, 1))
    own = step(Junction(members=2, share="own"), there, [HOLD, GO])[1]
    team = step(Junction(members=2), there, [HOLD, GO])[1]
    assert own[0] != own[1]
    assert np.allclose(team, own.mean(), rtol=0, atol=1e-12)


def test_fuel_is_that_of_the_formula():
    assert fuel(np.array(10.0), np.array(-3.0)) == pytest.approx(
        0.1569 + 0.0245 * 10 - 7.415e-4 * 100 + 5.975e-5 * 1000
    )
    more = fuel(np.array(10.0), np.array(2.0)) - fuel(np.array(10.0), np.array(0.0))
    assert more == pytest.approx(2 * (0.07224 + 0.09681 * 10 + 0.001075 * 100))


def test_who_is_due_later_at_the_zone_yields_and_the_lower_number_goes_first():
    environment = Junction(members=2)
    policy = environment.spec.baselines["first_come_first_served"]

    def act(*rows: tuple[float, float, float]) -> list[int]:
        world = np.array([[vehicles(*rows)]])
        chosen = policy(world, physics(environment), np.zeros((1, 1), dtype=np.int64))
        return chosen[0, :, 0].tolist()

    assert act((20, 10, 1), (10, 10, 1)) == [BRAKE, GO]
    assert act((20, 10, 1), (20, 10, 1)) == [GO, BRAKE]
    assert act((60, 10, 1), (10, 10, 1)) == [GO, GO]
    assert act((20, 10, 1), (10, 10, 0)) == [GO, GO]


# --- the grid of signals --------------------------------------------------------------------------


def grid(environment: SignalGrid) -> tuple[np.ndarray, Any]:
    """Return an empty grid and its parts, views of it."""
    world = np.zeros((1, 1, environment.spec.state))
    return world, environment._parts(world)


def test_a_green_approach_is_served_and_its_vehicles_go_straight_or_turn():
    environment = SignalGrid(rows=2, columns=2, delay=2)
    world, (queue, _, _, _) = grid(environment)
    queue[0, 0, 0, 0] = 5.0  # at the north-west crossing, from the north
    queue[0, 0, 0, 1] = 5.0  # and from the east, at red
    after, reward, _, measures = step(environment, world[0, 0].tolist(), [0] * 4)
    queue, road, _, _ = environment._parts(after[None, None])
    assert queue[0, 0, 0].tolist() == [3.0, 5.0, 0.0, 0.0]
    assert road[0, 0, 1, 2].tolist() == [1.4, 0, 0, 0]  # straight on to the south
    assert road[0, 0, 1, 1].tolist() == [0, 0, 0, 0.3]  # left to the east
    assert measures["left"][0, :, 0].tolist() == [0.3, 0, 0, 0]  # right to the west, out
    assert reward.tolist() == [-0.8, 0, 0, 0]
    later = step(environment, after.tolist(), [0] * 4)[0]
    assert environment._parts(later[None, None])[1][0, 0, 0, 2].tolist() == [1.4, 0, 0, 0]
    last = step(environment, later.tolist(), [0] * 4)[0]
    assert environment._parts(last[None, None])[0][0, 0, 2].tolist() == [1.4, 0, 0, 0]


def test_a_change_of_the_stage_serves_nobody_and_cannot_be_followed_by_another():
    environment = SignalGrid(rows=1, columns=1)
    world, (queue, _, _, _) = grid(environment)
    queue[...] = 5.0
    once, *_ = step(environment, world[0, 0].tolist(), [1])
    assert environment._parts(once)[0].tolist() == [[5.0] * 4]
    again, *_ = step(environment, once.tolist(), [0])
    assert environment._parts(again)[0].tolist() == [[5.0, 3.0, 5.0, 3.0]]


def test_vehicles_enter_over_the_border_alone():
    environment = SignalGrid(rows=3, columns=3, delay=1)
    world, _ = grid(environment)
    after, *_ = step(environment, world[0, 0].tolist(), [0] * 9, noise=0.99, ns=1.0, ew=0.0)
    road = environment._parts(after)[1][0]
    assert (road[:, [1, 3]] == 0).all()
    assert road[:3, 0].min() >= 2.0
    assert (road[3:, 0] == 0).all()
    assert road[6:, 2].min() >= 2.0


def test_the_rewards_of_neighbors_count_as_asked():
    world, (queue, _, _, _) = grid(SignalGrid(rows=1, columns=3))
    queue[0, 0, :, 1] = 10.0, 20.0, 30.0
    own = step(SignalGrid(rows=1, columns=3), world[0, 0].tolist(), [0] * 3)[1]
    both = step(SignalGrid(rows=1, columns=3, neighbors=0.5), world[0, 0].tolist(), [0] * 3)[1]
    assert own.tolist() == [-1.0, -2.0, -3.0]
    assert both.tolist() == [-2.0, -4.0, -4.0]


def test_baselines_change_the_stage_when_the_other_is_ahead():
    environment = SignalGrid(rows=1, columns=2)
    world, (queue, _, _, _) = grid(environment)

    def act(name: str) -> list[int]:
        policy = environment.spec.baselines[name]
        chosen = policy(world, physics(environment), np.zeros((1, 1), dtype=np.int64))
        return chosen[0, :, 0].tolist()

    queue[0, 0, 0] = 1.0, 4.0, 1.0, 0.0
    assert act("longest_queue") == [0, 0]
    queue[0, 0, 0, 3] = 4.0  # from the west, on to a crossing that is full
    assert act("longest_queue") == act("max_pressure") == [1, 0]
    queue[0, 0, 1, 3] = 10.0
    assert act("longest_queue") == [1, 1]
    assert act("max_pressure") == [0, 1]


def test_webster_gives_a_heavier_flow_more_green():
    environment = SignalGrid(rows=2, columns=2)
    policy = environment.spec.baselines["webster"]
    world, _ = grid(environment)
    table = physics(environment, ns=1.5, ew=0.5)
    chosen = [policy(world, table, np.full((1, 1), t))[0, :, 0] for t in range(60)]
    assert 0.1 < np.mean(chosen) < 0.4
    even = [policy(world, physics(environment), np.full((1, 1), t))[0, :, 0] for t in range(8)]
    assert np.mean(even) == 0.5


@pytest.mark.parametrize(("delay", "greens"), [(1, 1), (5, 2), (6, 2)])
def test_a_progression_repeats_after_the_time_between_two_stop_lines(delay: int, greens: int):
    environment = SignalGrid(rows=1, columns=2, delay=delay)
    policy = environment.spec.baselines["progression"]
    world, _ = grid(environment)
    chosen = [int(policy(world, {}, np.full((1, 1), t))[0, 1, 0]) for t in range(24)]
    cycle = max(delay + 1, 4)
    assert chosen[:-cycle] == chosen[cycle:]
    assert chosen[: greens + 1] == [0] * greens + [1]
