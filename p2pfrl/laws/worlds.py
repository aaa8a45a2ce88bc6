"""Laws of the native worlds: what is conserved, closed forms, and optima that nothing exceeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.distributions.base import Constant
from p2pfrl.laws.base import Figure, Law, at_most, near
from p2pfrl.learning.environments import glucose
from p2pfrl.learning.environments.base import ArraySimulator, Environment, State
from p2pfrl.learning.environments.glucose import Glucose
from p2pfrl.learning.environments.maintenance import REPLACE, Maintenance
from p2pfrl.learning.environments.microgrid import Microgrid, net_load
from p2pfrl.learning.environments.portfolio import Portfolio
from p2pfrl.learning.environments.signals import Signals, greens
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.rollout import play_baselines

_AGENTS, _COPIES = 8, 8


def made(
    environment: Environment, agents: int, copies: int, **physics: float
) -> tuple[ArraySimulator, dict[str, NDArray[Any]]]:
    """Return a simulator and the physics `(n, ...)` of agents that are alike."""
    vary = {name: Constant(value=value) for name, value in physics.items()}
    table = environment.physics(
        1, range(agents), columns(environment, vary, 1, range(agents), agents)
    )
    return ArraySimulator(environment, table, copies, 1), table


def _begun(environment: Environment) -> tuple[ArraySimulator, State, Mapping[str, NDArray[Any]]]:
    simulator, table = made(environment, _AGENTS, _COPIES)
    state = simulator.init(range(_AGENTS))
    simulator.begin(range(_AGENTS), [0] * _AGENTS)
    return simulator, state, {name: values[:, None] for name, values in table.items()}


def _vehicles(lanes: int) -> float:
    simulator, state, _ = _begun(Signals(lanes=lanes, max_steps=201))  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    count = state["state"][..., :lanes].sum(axis=-1)
    for _ in range(200):
        action = rng.integers(simulator.spec.actions, size=(_AGENTS, _COPIES))
        own = simulator.step(state, action).measures
        count = count + own["arrived"] - own["served"] - own["blocked"]
    return float(np.abs(count - state["state"][..., :lanes].sum(axis=-1)).max())


def _energy() -> float:
    simulator, state, rows = _begun(Microgrid(max_steps=201))
    rng, worst = np.random.default_rng(0), 0.0
    for _ in range(200):
        before = state["state"]
        own = simulator.step(state, rng.integers(5, size=(_AGENTS, _COPIES))).measures
        net = net_load(before[..., 1], before[..., 2], before[..., 3], rows)
        stored = state["state"][..., 0] - before[..., 0]
        lost = own["losses"] - rows["resistance"] * np.square(own["grid"])
        worst = max(worst, float(np.abs(own["grid"] - net - stored - lost).max()))
        worst = max(worst, float(-lost.min()))
    return worst


def _carbohydrates() -> float:
    simulator, state, rows = _begun(Glucose(max_steps=289))
    rng, gut = np.random.default_rng(0), slice(glucose.D1, glucose.D2 + 1)
    eaten = absorbed = np.zeros((_AGENTS, _COPIES))
    for _ in range(288):
        d1, d2 = (state["state"][..., k] for k in (glucose.D1, glucose.D2))
        grams = 1000.0 * glucose.ABSORBED * glucose.meal(state["state"])
        eaten, d1 = eaten + grams, d1 + grams
        for _ in range(glucose.MINUTES):
            absorbed = absorbed + d2 / rows["taum"]
            d1, d2 = d1 - d1 / rows["taum"], d2 + (d1 - d2) / rows["taum"]
        simulator.step(state, rng.uniform(-1, 0, (_AGENTS, _COPIES, 1)).astype(np.float32))
    left = eaten - state["state"][..., gut].sum(axis=-1) - absorbed
    return float(np.abs(left / eaten).max())


def _equilibrium(infusion: float) -> tuple[float, float]:
    """Return glucose after four days without meals, and EGP / (GEZI + SI u / CI)."""
    simulator, table = made(Glucose(max_steps=5000), 1, 1, meals=0.0)
    state = simulator.init([0])
    simulator.begin([0], [0])
    action = glucose.to_action(np.array([[infusion]]))
    exact = float(glucose.MOST * np.exp(4.0 * (float(action[0, 0, 0]) - 1.0)))
    for _ in range(4 * 288):
        simulator.step(state, action)
    p = {name: float(values[0]) for name, values in table.items()}
    return float(state["state"][0, 0, glucose.G]), p["egp"] / (
        p["gezi"] + p["si"] * exact / p["ci"]
    )


def _conserved() -> Iterator[Figure]:
    for lanes in (2, 8):
        what = f"signals, {lanes} lanes: vehicles that came - left - were turned away - are there"
        yield at_most(what, 0.0, _vehicles(lanes))
    yield at_most("microgrid: grid - net load - stored - losses, kWh", 1e-12, _energy())
    yield at_most("glucose: eaten - in the gut - absorbed, share", 1e-12, _carbohydrates())
    for infusion in (15.0, 20.0, 30.0):
        found, expected = _equilibrium(infusion)
        yield near(f"glucose: mg/dL in equilibrium at {infusion:g} mU/min", expected, found, 1e-9)


def fixed_time(steps: int) -> float:
    """Return the mean return of equal greens of so many steps, two lanes at 1000 vehicles/h."""
    simulator, _ = made(Signals(), 4, 64)
    state, total = simulator.init(range(4)), 0.0
    simulator.begin(range(4), [0] * 4)
    for t in range(225):
        action = np.full((4, 64), (t + 1) // (steps + 1) % 2)
        total += float(simulator.step(state, action).reward.mean())
    return total


def expected_return(table: Mapping[str, NDArray[Any]], level: int, steps: int) -> float:
    """Return the expected return of replacing from `level` on: sum over t of start P^t reward."""
    choice = np.where(np.arange(table["R"].shape[1]) >= level, REPLACE, 0)
    at = np.arange(len(choice))
    move, reward = table["P"][0][at, choice], table["R"][0][at, choice]
    share, total = (at == 0).astype(np.float64), 0.0
    for _ in range(steps):
        total += float(share @ reward)
        share = share @ move
    return total


def _above(environment: Environment, **physics: float) -> Iterator[tuple[str, float]]:
    """Yield how many standard errors every baseline is above the optimum."""
    agents, copies = 16, 64
    simulator, table = made(environment, agents, copies, **physics)
    best = environment.optimum({name: values[:1] for name, values in table.items()})
    assert best is not None
    for name, played in play_baselines(
        simulator, agents=range(agents), episodes=copies, index=0
    ).items():
        values = played.returns
        error = float(values.std(ddof=1) / np.sqrt(agents))
        yield name, float((values.mean() - best[0]) / error)


def _optima() -> Iterator[Figure]:
    for environment, physics in (
        (Signals(), {"demand": 1100.0}),
        (Signals(), {"demand": 900.0, "share": 0.7, "wave": 0.5}),
        (Microgrid(), {}),
        (Maintenance(), {}),
        (Portfolio(), {}),
    ):
        for name, errors in _above(environment, **physics):
            where = type(environment).__name__.lower()
            what = f"{where} {physics or ''}: {name} above the optimum, standard errors"
            yield at_most(what, 3.0, errors)
    row = {name: np.array(value) for name, value in Signals().spec.physics.items()}
    webster = int(greens(2, row)[0])
    others = {steps: fixed_time(steps) for steps in range(1, 8)}
    best = max(others, key=others.__getitem__)
    yield near(
        "signals: best equal greens at 1000 vehicles/h, steps; Webster's", webster, best, 0.5
    )
    yield from _shifts()
    yield from _kelly()


def _shifts() -> Iterator[Figure]:
    """Yield simulated returns against those of the tables, in standard errors."""
    simulator, table = made(Maintenance(), 16, 64)
    for name, played in play_baselines(simulator, agents=range(16), episodes=64, index=1).items():
        values = played.returns
        expected = expected_return(table, {"run_to_failure": 16, "replace_in_time": 9}[name], 100)
        error = float(abs(values.mean() - expected) / (values.std(ddof=1) / 4))
        yield at_most(f"maintenance: {name}, simulated against its tables", 3.5, error)


def _kelly() -> Iterator[Figure]:
    """Yield the best constant weight without costs, by quadrature, against Kelly's fraction."""
    nodes, chances = np.polynomial.hermite_e.hermegauss(81)
    chances = chances / chances.sum()
    weights = np.linspace(0.0, 1.0, 1001)
    for mean, deviation, cash in ((0.008, 0.12, 0.002), (0.004, 0.10, 0.002)):
        asset = np.exp(mean + deviation * nodes)
        wealth = weights[:, None] * asset + (1.0 - weights[:, None]) * np.exp(cash)
        best = float(weights[(np.log(wealth) @ chances).argmax()])
        kelly = (mean + deviation**2 / 2 - cash) / deviation**2
        yield near(f"portfolio: best constant weight at deviation {deviation:g}", kelly, best, 2e-3)


LAWS = (
    Law(
        "worlds_conserve",
        "vehicles, energy and carbohydrates are conserved; constant insulin ends at the closed form",
        "computed",
        _conserved,
    ),
    Law(
        "worlds_optima",
        "no baseline exceeds a computed optimum; Webster's greens, the wear of a machine and Kelly's weight are found",
        "Webster 1958; Derman 1963; Kelly 1956; computed",
        _optima,
    ),
)
