from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from p2pfrl.learning.environments import fleet, glucose, solving
from p2pfrl.learning.environments.base import Environment
from p2pfrl.learning.environments.fleet import Fleet
from p2pfrl.learning.environments.glucose import Glucose
from p2pfrl.learning.environments.maintenance import Maintenance
from p2pfrl.learning.environments.microgrid import CHARGE, DISCHARGE, FOLLOW, Microgrid, net_load
from p2pfrl.learning.environments.portfolio import Portfolio
from p2pfrl.learning.environments.signals import Signals, rates


def physics(environment: Environment, agents: int = 1, **own: float) -> dict[str, np.ndarray]:
    values = dict(environment.spec.physics) | own
    return {name: np.full(agents, float(value)) for name, value in values.items()}


def rows(table: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: values[:, None] for name, values in table.items()}


def after(
    environment: Environment, state: list[float], action: Any, noise: float = 0.5, **own: float
):
    spec = environment.spec
    kind = np.int64 if spec.actions else np.float32
    made = environment.step(
        np.array([[state]], dtype=np.float64),
        np.array([[action]], dtype=kind),
        rows(physics(environment, **own)),
        np.full((1, 1, spec.step_noise), noise),
    )
    return made[0][0, 0], float(made[1][0, 0]), bool(made[2][0, 0]), made[3]


def test_a_change_of_the_stage_serves_nobody_and_cannot_be_followed_by_another():
    start = [5.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    kept, reward, _, measures = after(Signals(), start, 0, noise=0.0)
    assert kept[:4].tolist() == [3.0, 5.0, 0.0, 0.0]
    assert reward == pytest.approx(-0.8)
    assert measures["served"] == 2.0
    changed, *_ = after(Signals(), start, 1, noise=0.0)
    assert changed[:4].tolist() == [5.0, 5.0, 1.0, 1.0]
    again, *_ = after(Signals(), changed.tolist(), 0, noise=0.0)
    assert again[:4].tolist() == [5.0, 3.0, 1.0, 0.0]


def test_a_full_lane_turns_vehicles_away_and_counts_them():
    _, _, _, measures = after(Signals(), [30.0, 30.0, 0, 0, 0, 0, 0], 0, noise=1 - 1e-12)
    assert measures["arrived"] == 18.0
    assert measures["blocked"] == 9.0 + 7.0
    assert np.isnan(measures["delay"])


@pytest.mark.parametrize("lanes", [2, 8])
def test_the_arrivals_of_all_lanes_are_the_demand(lanes: int):
    row = rows(physics(Signals(), demand=1350.0, share=0.3, left=0.4))
    found = rates(lanes, 0.0, row)
    assert found.sum() == pytest.approx(1.5)
    north_south = found[0, 0, [0] if lanes == 2 else [0, 1, 4, 5]].sum()
    assert north_south == pytest.approx(0.45)


def test_a_battery_charges_with_losses_up_to_its_capacity():
    state = [9.0, 3.0, 1.0, 0.5, 0.0, 0.0, 0.0]
    full, _, _, _ = after(Microgrid(), state, CHARGE)
    assert full[0] == pytest.approx(10.0)
    empty, _, _, measures = after(Microgrid(), [1.0, *state[1:]], DISCHARGE)
    assert empty[0] == 0.0
    table = rows(physics(Microgrid()))
    net = net_load(np.array(3.0), np.array(1.0), np.array(0.5), table)
    assert measures["grid"] == pytest.approx(net - 0.95)


def test_following_the_load_leaves_the_grid_alone_and_earns_its_price():
    state = [5.0, 19.0, 1.0, 0.5, 0.0, 0.0, 0.0]
    own = {"wear": 0.0, "resistance": 0.0}
    _, reward, _, measures = after(Microgrid(), state, FOLLOW, **own)
    table = rows(physics(Microgrid(), **own))
    net = net_load(np.array(19.0), np.array(1.0), np.array(0.5), table)
    assert measures["grid"] == pytest.approx(0.0)
    assert reward == pytest.approx(0.45 * float(net[0, 0]))


def test_a_meal_is_announced_eaten_once_and_misjudged_by_at_most_the_error():
    environment = Glucose()
    table = rows(physics(environment, announce_error=0.3))
    noise = np.random.default_rng(0).random((1, 500, 10))
    state = environment.reset(table, noise)
    times, grams = state[..., 8:11], state[..., 11:14]
    assert (np.abs(times / 12.0 - [7.0, 12.5, 18.5]) <= 0.5 + 1 / 12).all()
    ratio = state[..., 14:] / grams
    assert 0.7 <= ratio.min() < 0.75 < 1.25 < ratio.max() <= 1.3
    state[..., glucose.TIME] = times[..., 0]
    assert glucose.meal(state).tolist() == grams[..., 0].tolist()
    obs = environment.observe(state, table)
    assert np.allclose(obs[..., 5] * 50.0, state[..., 14])
    assert not Glucose(announce=False).observe(state, table)[..., 5].any()


def test_the_risk_is_least_at_112_mg_per_dl_and_an_action_is_its_infusion():
    g = np.linspace(60.0, 200.0, 14001)
    assert g[glucose.risk(g).argmin()] == pytest.approx(112.5, abs=0.1)
    action = float(glucose.to_action(np.array([[30.0]]))[0, 0, 0])
    assert glucose.MOST * np.exp(4.0 * (action - 1.0)) == pytest.approx(30.0, rel=1e-5)


def test_insulin_works_less_at_dawn():
    start = [1.2, 1.2, 0.0097, 120.0, 0.0, 0.0, 12.0 * 5, 120.0, *[300.0] * 3, *[0.0] * 6]
    plain, *_ = after(Glucose(), start, [0.0])
    dawn, *_ = after(Glucose(), start, [0.0], dawn=0.2)
    noon, *_ = after(Glucose(), [*start[:6], 144.0, *start[7:]], [0.0], dawn=0.2)
    assert dawn[glucose.IEFF] < plain[glucose.IEFF] == noon[glucose.IEFF]


def test_a_portfolio_pays_for_trades_and_its_weight_drifts_with_prices():
    quiet = {"up": 0.1, "calm": 0.0, "cash": 0.0, "cost": 0.01}
    held, reward, _, measures = after(Portfolio(), [0.0, 0.0, 0.0], 5, **quiet)
    assert reward == pytest.approx(100 * (0.1 + np.log(0.99)))
    assert measures["turnover"] == 1.0
    assert held[1] == pytest.approx(1.0)
    kept, reward, _, _ = after(Portfolio(), [0.0, 0.4, 0.0], 6, **quiet)
    wealth = 0.4 * np.exp(0.1) + 0.6
    assert reward == pytest.approx(100 * np.log(wealth))
    assert kept[1] == pytest.approx(0.4 * np.exp(0.1) / wealth)


def test_a_failed_machine_is_repaired_whatever_the_action():
    table = Maintenance().physics(1, [0], physics(Maintenance()))
    assert np.allclose(table["P"].sum(axis=-1), 1.0)
    assert (table["P"][0, 15, :, 0] == 1.0).all()
    assert table["R"][0, 15].tolist() == [-12.0] * 3
    assert table["R"][0, 2].tolist() == pytest.approx([0.9, -0.8, -4.0])


def on_road(**columns: float) -> list[float]:
    state = {"s": 0.0, "d": 0.0, "psi": 0.0, "v": 16.0, "t": 0.0, "near": 90.0, "left": 90.0}
    state |= columns
    return [*state.values(), 10.0, 10.0]


def test_a_car_on_a_straight_road_keeps_its_lane_and_a_bend_carries_it_out():
    straight, *_ = after(Fleet(), on_road(), [0.0, 0.0], curvature=0.0)
    assert straight[[fleet.S, fleet.D, fleet.PSI, fleet.V]].tolist() == [3.2, 0.0, 0.0, 16.0]
    bent, *_ = after(Fleet(), on_road(s=75.0), [0.0, 0.0])
    assert bent[fleet.PSI] == pytest.approx(-0.2 * 0.006 * 16.0)


def test_friction_bounds_steering_and_braking():
    sharp, *_ = after(Fleet(), on_road(v=20.0), [1.0, -1.0], curvature=0.0, friction=0.2)
    grip = 0.2 * 9.81
    assert sharp[fleet.PSI] == pytest.approx(0.2 * grip / 20.0)
    assert sharp[fleet.V] == pytest.approx(20.0 - 0.2 * grip)
    dry, *_ = after(Fleet(), on_road(v=20.0), [1.0, -1.0], curvature=0.0)
    assert dry[fleet.V] == pytest.approx(20.0 - 0.2 * 6.0)


@pytest.mark.parametrize("columns", [{"near": 5.0}, {"d": -1.74, "psi": -0.2}])
def test_a_collision_and_leaving_the_road_end_the_episode(columns: dict[str, float]):
    _, reward, terminated, measures = after(Fleet(), on_road(**columns), [0.0, 0.0])
    assert terminated
    assert reward < -9.0
    assert measures["crashed"] == 1.0


def test_a_car_that_was_passed_is_followed_by_another_one_ahead():
    passed, reward, terminated, measures = after(Fleet(), on_road(left=-9.9), [0.0, 0.0])
    assert passed[6] == pytest.approx(20.0 + np.log(2.0) * 1000.0 / 12.0)
    assert not terminated
    assert np.isnan(measures["crashed"])
    assert 0.0 < reward <= 0.1


def test_optima_are_solved_once_for_equal_agents_and_not_for_a_crowd_of_unlike_ones():
    calls = []

    def solve(values: tuple[float, ...]) -> float:
        calls.append(values)
        return values[0]

    alike = {"a": np.array([2.0, 1.0, 2.0]), "b": np.zeros(3)}
    assert solving.solved(alike, ("a", "b"), solve).tolist() == [2.0, 1.0, 2.0]
    assert calls == [(1.0, 0.0), (2.0, 0.0)]
    assert solving.solved({"a": np.arange(257.0)}, ("a",), solve) is None
