"""Central privacy whose participants are drawn by coins: what sampling is worth, and when."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.privacy.accountant import (
    delta_of_gaussian,
    epsilon_of_gaussian,
    epsilon_of_sampled,
    releases_of_renyi,
    renyi,
)
from p2pfrl.exchange.privacy.central import CentralNoise
from p2pfrl.exchange.privacy.ledger import Ledger, simulated
from p2pfrl.laws.runs import Table, text
from p2pfrl.scenario import Scenario, loads

Q, SIGMA, DELTA = 0.2, 1.5, 1e-3
PRIVATE: Table = {
    "kind": "central_noise",
    "clip": 1.0,
    "noise_multiplier": SIGMA,
    "delta": DELTA,
    "sampled": Q,
}
COINS: Table = {"participation": {"kind": "poisson", "probability": Q}}


def world(agents: int = 10, rounds: int = 30, **tables: Table) -> Scenario:
    known = {"exchange": {"payload": "delta"}, "privacy": PRIVATE, "coordinator": COINS}
    return loads(text(agents, rounds, mode="central", **{**known, **tables}))


def density(x: float, mean: float) -> float:
    return math.exp(-((x - mean) ** 2) / (2 * SIGMA**2)) / (SIGMA * math.sqrt(2 * math.pi))


@pytest.mark.parametrize("order", [1.5, 2.0, 4.7, 16.0])
def test_divergences_are_those_of_numerical_integration(order: float) -> None:
    """E over N(0, sigma^2) of ((1 - q) + q p_1 / p_0)^alpha, by quadrature."""

    def moment(x: float) -> float:
        ratio = 1 - Q + Q * math.exp((2 * x - 1) / (2 * SIGMA**2))
        return float(density(x, 0.0) * ratio**order)

    found, _ = integrate.quad(moment, -30, 60, limit=500)
    assert renyi(SIGMA, Q, [order])[0] == pytest.approx(math.log(found) / (order - 1), rel=1e-6)


def exact_delta(epsilon: float) -> float:
    """Return the delta of one sampled release, the greater of both directions, by quadrature."""

    def excess(x: float, sign: int) -> float:
        one = (1 - Q) * density(x, 0.0) + Q * density(x, 1.0)
        other = density(x, 0.0)
        p, r = (one, other) if sign > 0 else (other, one)
        return max(0.0, p - math.exp(epsilon) * r)

    return max(integrate.quad(excess, -30, 40, (sign,), limit=400)[0] for sign in (1, -1))


def test_one_sampled_release_keeps_what_is_claimed_and_less_than_without_sampling() -> None:
    claimed = epsilon_of_sampled(SIGMA, Q, 1, DELTA)
    whole = epsilon_of_gaussian(1 / SIGMA, DELTA)
    assert delta_of_gaussian(whole, 1 / SIGMA) == pytest.approx(DELTA, rel=1e-6)
    assert exact_delta(claimed) <= DELTA < exact_delta(claimed / 3)
    assert claimed < 0.6 * whole


def test_a_budget_grants_as_many_releases_as_keep_it() -> None:
    for budget in (1.0, 3.0):
        most = releases_of_renyi(renyi(SIGMA, Q), budget, DELTA)
        assert epsilon_of_sampled(SIGMA, Q, most, DELTA) <= budget
        assert epsilon_of_sampled(SIGMA, Q, most + 1, DELTA) > budget
        rule = CentralNoise(clip=1.0, noise_multiplier=SIGMA, delta=DELTA, sampled=Q, budget=budget)
        ledger, granted = Ledger(simulated(1, -1)), 0
        while ledger.charge(rule.cost(granted), rule.most, granted):
            granted += 1
        assert granted == most
        assert rule.epsilon(ledger.spent) <= budget


def test_a_run_claims_the_bound_of_its_rounds_and_sigma_follows_from_a_target() -> None:
    run = p2pfrl.run(world())
    spent = run.summary["privacy"]
    assert spent["releases"] == 30, "a release in every round, also where nobody takes part"
    assert spent["epsilon"] == pytest.approx(epsilon_of_sampled(SIGMA, Q, 30, DELTA), rel=1e-9)
    assert spent["epsilon"] < 0.6 * epsilon_of_gaussian(math.sqrt(30) / SIGMA, DELTA)
    aimed = {**PRIVATE, "target_epsilon": 2.0}
    del aimed["noise_multiplier"]
    planned = world(privacy=aimed).privacy.planned(30)
    assert isinstance(planned, CentralNoise)
    found = epsilon_of_sampled(planned.noise_multiplier, Q, 30, DELTA)
    assert found == pytest.approx(2.0, rel=1e-4)
    assert found <= 2.0


def test_participants_are_as_many_as_their_coins_say_and_sometimes_none() -> None:
    plain = {"kind": "none"}
    run = p2pfrl.run(world(4, 400, privacy=plain), trace=True)
    assert run.events is not None
    asked = [e for e in run.events if e.kind == "send" and e.sender == -1]
    counts = np.bincount([e.sequence for e in asked])
    rounds = counts[counts > 0][:-1]  # the last model goes to all
    skipped = 400 - len(rounds)
    expected = 400 * 0.8**4
    assert skipped == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - 0.8**4)))
    assert rounds.sum() == pytest.approx(400 * 4 * Q, abs=3 * math.sqrt(400 * 4 * Q * 0.8))
    assert run.summary["deadlines_expired"] == 0, "a round of nobody ends at once"


def bound(hits: int, trials: int, above: bool) -> float:
    """Return an end of the interval of Clopper and Pearson (1934), wrong with probability 1e-4."""
    if above:
        return float(stats.beta.ppf(1 - 1e-4, hits + 1, trials - hits)) if hits < trials else 1.0
    return float(stats.beta.ppf(1e-4, hits, trials - hits + 1)) if hits else 0.0


def played(rule: CentralNoise, trials: int, threshold: float) -> float:
    """Return a lower bound of epsilon of a game: an observer of sums tells two worlds apart.

    In one of them an agent takes part with probability q, with a change of the largest size.
    """
    ledger, rng = Ledger(simulated(3, -1)), np.random.default_rng(5)
    sums: list[list[float]] = [[], []]
    for trial in range(trials):
        for there in (0, 1):
            takes_part = there and rng.random() < Q
            found = rule.sum([np.array([float(takes_part)])], 1.0, ledger, trial)
            assert found is not None
            sums[there].append(float(found[0][0]))
    hits = [sum(value > threshold for value in one) for one in sums]
    high, low = bound(hits[1], trials, above=False), bound(hits[0], trials, above=True)
    return math.log(max((high - DELTA) / low, 1e-9))


def test_no_observer_beats_the_claim_of_a_sampled_release_and_a_fifth_of_the_noise_is_caught() -> (
    None
):
    rule = CentralNoise(clip=1.0, noise_multiplier=SIGMA, delta=DELTA, sampled=Q)
    claim = rule.epsilon(rule.cost(0))
    assert played(rule, 3000, 2.4 * SIGMA) < claim

    class Fifth(CentralNoise):
        def of_sum(self, release: int) -> float:
            return super().of_sum(release) / 5

    planted = Fifth(clip=1.0, noise_multiplier=SIGMA, delta=DELTA, sampled=Q)
    assert played(planted, 3000, 2.4 * SIGMA / 5) > claim


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (
            {"coordinator": {"participation": {"kind": "uniform", "fraction": Q}}},
            "kind = 'poisson'",
        ),
        ({"coordinator": {"participation": {"kind": "poisson", "probability": 0.3}}}, "= 0.2}"),
        ({"privacy": {**PRIVATE, "adjacency": "replace"}}, "no bound is known here"),
        ({"privacy": {**PRIVATE, "decay": 0.9}}, "no bound is known here"),
        ({"privacy": {**PRIVATE, "count_noise": 5.0}}, "no bound is known here"),
        ({"coordinator": {**COINS, "standbys": 2}, "privacy": {"kind": "none"}}, "standbys"),
        (
            {"secure": {"kind": "secure_aggregation"}, "privacy": {"kind": "none"}},
            "a sum of few hides little",
        ),
    ],
)
def test_what_is_not_accounted_for_is_refused(tables: dict[str, Table], expected: str) -> None:
    with pytest.raises(ScenarioError, match=expected):
        world(**tables)


def test_between_processes_the_coins_are_not_those_of_the_seed(tmp_path: Path) -> None:
    from p2pfrl.deploy.ledgers import open_ledgers

    ledger = open_ledgers(tmp_path, [-1], lambda text: None, lambda agent, charge: None)[-1]
    assert ledger.secret(7) != 7
    assert Ledger(simulated(7, -1)).secret(7) == 7
