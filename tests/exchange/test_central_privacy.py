"""Central differential privacy: what a trusted coordinator lets out of what agents sent."""

import math
from dataclasses import replace

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rule import rule
from p2pfrl.exchange.privacy.accountant import epsilon_of_gaussian
from p2pfrl.exchange.privacy.central import CentralNoise
from p2pfrl.exchange.privacy.ledger import Ledger, simulated
from p2pfrl.scenario import loads

BASE = """
name = "central"
agents = 5
stop = {rounds = 4}
mode = "central"
learner = {kind = "quadratic", dimension = 4, noise = 0.1, initial_spread = 1.0, lr = 0.1}
compute = {seconds_per_env_step = 0.002}
"""
DELTA = 'exchange = {payload = "delta"}\n'
NOISE = 'privacy = {kind = "central_noise", clip = 1.0, noise_multiplier = 2.0}\n'


def ledger(seed=1):
    return Ledger(simulated(seed, -1))


def test_the_sum_of_clipped_changes_gets_the_noise_of_one_agent():
    rule, own = CentralNoise(clip=2.0, noise_multiplier=0.5), ledger()
    far, near = np.full(4000, 3.0), np.zeros(4000)
    near[0] = 0.5
    total, clip = rule.sum([far, near, np.full(4000, np.nan)], 2.0, own, 0)
    noise = total - far * (2.0 / np.linalg.norm(far)) - near
    assert noise.std() == pytest.approx(0.5 * 2.0, rel=0.05)
    assert clip == 2.0
    assert own.spent == pytest.approx(1 / 0.5**2)


def test_two_noises_of_an_adapting_bound_cost_as_much_as_sigma():
    rule = CentralNoise(clip=1.0, noise_multiplier=1.0, count_noise=5.0)
    assert rule.of_sum(0) == pytest.approx(1.0050378)
    assert rule.of_sum(0) ** -2 + (2 * 5.0) ** -2 == pytest.approx(1.0)
    with pytest.raises(ScenarioError, match=r"more than sigma / 2 = 1, got 1"):
        loads(BASE + DELTA + NOISE.replace("2.0", "2.0, count_noise = 1.0"))


@pytest.mark.parametrize("first", [0.05, 20.0])
def test_the_bound_comes_to_the_quantile_of_norms(first):
    rule = CentralNoise(clip=first, noise_multiplier=1.0, count_noise=2.0, quantile=0.7)
    rng, own, clip = np.random.default_rng(3), ledger(), first
    seen = []
    for round in range(120):
        norms = rng.uniform(0.0, 2.0, 100)
        _, clip = rule.sum([np.array([norm, 0.0]) for norm in norms], clip, own, round)
        seen.append(clip)
    assert np.mean(seen[80:]) == pytest.approx(1.4, abs=0.1)


@rule
class Nothing(CentralNoise):
    """Lets nothing out: all models would be the same without data."""

    def sum(self, changes, clip, ledger, round):
        return np.zeros_like(changes[0]), clip


SCENES = {
    "delta": DELTA,
    "adam": DELTA + 'coordinator = {server_optimizer = {kind = "adam"}}\n',
    "half": DELTA + 'coordinator = {participation = {kind = "uniform"}}\n',
    "fedasync": DELTA + 'schedule = {kind = "asynchronous"}\n',
    "buffered": DELTA + 'schedule = {kind = "buffered", size = 2}\n',
    "gradient": 'exchange = {payload = "gradient"}\n'
    'coordinator = {server_optimizer = {kind = "sgd", lr = 0.1}}\n',
}


@pytest.mark.parametrize("scene", SCENES)
def test_all_models_follow_from_noised_sums(scene):
    def models(noise):
        made = loads(BASE.replace("noise = 0.1", f"noise = {noise}") + SCENES[scene] + NOISE)
        record = p2pfrl.run(replace(made, privacy=Nothing(clip=1.0)), trace=True)
        return [event for event in record.events if event.kind == "send" and event.sender < 0]

    assert models(0.1) == models(0.7)


def test_a_run_reports_what_its_models_cost_and_whom_agents_trust():
    record = p2pfrl.run(loads(BASE + DELTA + NOISE))
    expected = [epsilon_of_gaussian(math.sqrt(k) / 2.0, 1e-5) for k in range(1, 5)]
    assert record.metrics["epsilon"] == pytest.approx(expected)
    privacy = record.summary["privacy"]
    assert privacy["guarantee"].startswith("central: ")
    assert (privacy["epsilon"], privacy["releases"]) == (pytest.approx(expected[-1]), 4)


def test_a_coordinator_whose_budget_is_spent_moves_its_model_no_more():
    budget = epsilon_of_gaussian(math.sqrt(2) / 2.0, 1e-5)
    toml = BASE + DELTA + NOISE.replace("2.0", f"2.0, budget = {budget!r}")
    record = p2pfrl.run(loads(toml))
    shorter = p2pfrl.run(loads(toml.replace("rounds = 4", "rounds = 2")))
    assert record.parameters.tolist() == shorter.parameters.tolist()
    assert record.summary["privacy"]["silent"] == ["coordinator"]
    assert record.summary["privacy"]["releases_refused"] == 2


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (NOISE.replace("1.0", "1.0"), "no bound in mode central; use payload = 'delta'"),
        (DELTA + 'coordinator = {aggregator = {kind = "median"}}\n' + NOISE, "the plain mean"),
        (DELTA + 'gate = {kind = "norm", threshold = 0.1}\n' + NOISE, "by what an agent learned"),
        (DELTA + 'correction = {kind = "control_variate"}\n' + NOISE, "beside the payload"),
        ('mode = "gossip"\n' + NOISE, "one coordinator"),
    ],
)
def test_what_a_coordinator_cannot_promise_is_refused(toml, said):
    base = BASE.replace('mode = "central"\n', "") if "mode" in toml else BASE
    with pytest.raises(ScenarioError, match=said):
        loads(base + toml)
