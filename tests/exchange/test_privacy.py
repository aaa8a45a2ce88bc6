"""Differential privacy: what is released, what it costs, and that nothing else leaves."""

import math
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.core.errors import AgentError, ScenarioError
from p2pfrl.core.rule import rule
from p2pfrl.exchange.privacy.accountant import epsilon_of_gaussian
from p2pfrl.exchange.privacy.base import Privacy
from p2pfrl.exchange.privacy.gaussian import ClipNoise
from p2pfrl.exchange.privacy.ledger import Charge, Ledger, simulated
from p2pfrl.exchange.privacy.network import pairwise_mu
from p2pfrl.results.report import report
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.notes import notes

BASE = """
name = "releases"
agents = 5
stop = {rounds = 4}
learner = {kind = "quadratic", dimension = 4, noise = 0.1, initial_spread = 1.0, lr = 0.1}
compute = {seconds_per_env_step = 0.002}
"""
GOSSIP = 'mode = "gossip"\n'
DELTA = 'mode = "central"\nexchange = {payload = "delta"}\n'
GRADIENT = """
mode = "central"
exchange = {payload = "gradient"}
coordinator = {server_optimizer = {kind = "sgd", lr = 0.1}}
"""
TREE = """
mode = "hierarchical"
exchange = {payload = "delta"}
hierarchy = {edges = 2}
"""
NOISE = 'privacy = {kind = "clip_noise", clip = 1.0, noise_multiplier = 2.0}\n'


def ledger(seed=1, keep=None):
    return Ledger(simulated(seed, 0), *([keep] if keep else []))


# What is released


def test_a_change_is_clipped_and_its_noise_has_the_promised_size():
    rule, own = ClipNoise(clip=2.0, noise_multiplier=0.5), ledger()
    far, near = np.full(400, 3.0, np.float32), np.full(4, 0.5)
    assert np.linalg.norm(rule.clipped(far)) == pytest.approx(2.0)
    assert rule.clipped(near).tolist() == near.tolist(), "within the bound nothing changes"
    released = rule.protect(far, own, 0)
    assert released.dtype == np.float32
    noise = released - rule.clipped(far)
    assert noise.std() == pytest.approx(1.0, rel=0.1)
    again = rule.protect(far, own, 1)
    assert not np.array_equal(again, released), "no release has the noise of another"
    assert own.spent == pytest.approx(2 / 0.5**2)


def test_entries_are_clipped_one_by_one_with_noise_for_all_of_them():
    rule = ClipNoise(clip=0.5, norm="entry", noise_multiplier=2.0)
    assert rule.clipped(np.array([0.1, -3.0, 0.5])).tolist() == [0.1, -0.5, 0.5]
    assert rule.bound(9) == pytest.approx(1.5)
    zero = rule.protect(np.zeros(900), ledger(), 0)
    assert zero.std() == pytest.approx(2.0 * 0.5 * 30, rel=0.1)


def test_a_change_that_is_not_finite_counts_as_zero():
    rule = ClipNoise(clip=1.0, noise_multiplier=1.0)
    broken = rule.protect(np.array([np.nan, 1.0, np.inf]), ledger(), 0)
    assert broken.tolist() == rule.protect(np.zeros(3), ledger(), 0).tolist()


def test_sigma_follows_from_the_epsilon_of_all_releases():
    rule = ClipNoise(clip=1.0, target_epsilon=3.0, decay=0.9).planned(20)
    own = ledger()
    for round in range(20):
        assert rule.protect(np.ones(2), own, round) is not None
    assert rule.epsilon(own.spent) == pytest.approx(3.0, rel=1e-6)
    assert rule.sigma(19) == pytest.approx(rule.sigma(0) * 0.9**19)
    assert rule.protect(np.ones(2), own, 20) is None, "the budget is that of 20 releases"
    twice = ClipNoise(clip=1.0, target_epsilon=3.0, adjacency="replace", releases=5).planned(20)
    once = ClipNoise(clip=1.0, target_epsilon=3.0).planned(5)
    assert twice.noise_multiplier == pytest.approx(2 * once.noise_multiplier)


@given(
    st.sampled_from([1e-9, 1e-6, 1e-3, 0.3, 1.0, 3.0, 8.0, 50.0]) | st.floats(1e-9, 100.0),
    st.integers(1, 300),
    st.sampled_from([1e-9, 1e-5, 0.1]),
    st.sampled_from([1.0, 0.99]),
    st.sampled_from(["add_remove", "replace"]),
)
def test_all_releases_are_granted_and_never_cost_more_than_the_target(
    target, releases, delta, decay, adjacency
):
    rule = ClipNoise(
        clip=1.0, target_epsilon=target, delta=delta, decay=decay, adjacency=adjacency
    ).planned(releases)
    own = ledger()
    for number in range(releases):
        assert own.charge(rule.cost(number), rule.most, number)
    assert rule.epsilon(own.spent) <= target
    assert epsilon_of_gaussian(math.sqrt(own.spent), delta) <= target * (1.0 + 1e-14)
    assert rule.epsilon(own.spent) >= target * (1.0 - 1e-5), "no more noise than it takes"
    assert not own.charge(rule.cost(releases), rule.most, releases)


@pytest.mark.parametrize(("delta", "is_noted"), [(0.5, True), (0.2, True), (0.19, False)])
def test_a_delta_that_allows_to_publish_an_agent_is_noted(delta, is_noted):
    found = [*notes(loads(BASE + GOSSIP + NOISE.replace("2.0", f"2.0, delta = {delta}")))]
    assert any("privacy.delta" in note and "1 / agents" in note for note in found) == is_noted


# The ledger


@settings(max_examples=60)
@given(st.lists(st.floats(0.01, 3.0), max_size=30), st.floats(0.1, 20.0))
def test_a_ledger_only_grows_keeps_every_charge_and_never_passes_its_budget(costs, most):
    kept: list[Charge] = []
    own, before = ledger(keep=kept.append), 0.0
    for round, cost in enumerate(costs):
        was_closed = own.is_closed
        granted = own.charge(cost, most, round)
        assert before <= own.spent <= most
        assert not (was_closed and granted), "what is closed stays closed"
        assert not granted or kept[-1] == Charge(own.releases - 1, round, own.spent)
        before = own.spent
    assert own.releases + own.refused == len(costs)
    assert len([entry for entry in kept if entry.refused]) == min(own.refused, 1)


def test_a_release_that_cannot_be_kept_is_not_made():
    def full(charge):
        raise OSError("no space left")

    own = ledger(keep=full)
    with pytest.raises(OSError, match="no space"):
        ClipNoise(clip=1.0, noise_multiplier=1.0).protect(np.ones(2), own, 0)
    assert own.releases == own.spent == 0


# Nothing else leaves


@rule
class Nothing(ClipNoise):
    """Lets nothing of any change leave: all that agents send would be the same without data."""

    def protect(self, change, ledger, round):
        return np.zeros_like(change)


@rule
class Leaking(Nothing):
    """Forgets the last number."""

    def protect(self, change, ledger, round):
        return np.append(np.zeros_like(change[1:]), change[-1:])


CRASH = """
[[faults]]
kind = "crash"
at = 0.0045
agents = [1]
[[faults]]
kind = "restart"
at = 0.0065
agents = [1]
"""
SCENES = {
    "gossip": GOSSIP,
    "asynchronous": GOSSIP + 'schedule = {kind = "asynchronous", every = 2}\n' + CRASH,
    "crash": GOSSIP + "schedule = {every = 2}\n" + CRASH,
    "tracking": GOSSIP + 'mixing = {kind = "gradient_tracking"}\n',
    "extra": GOSSIP + 'mixing = {kind = "extra"}\n',
    "push_sum": GOSSIP + 'mixing = {kind = "push_sum"}\n',
    "choco": GOSSIP
    + 'mixing = {kind = "choco"}\n'
    + 'compressor = {kind = "difference", compressor = {kind = "topk"}}\n',
    "gate": GOSSIP + 'gate = {kind = "norm", threshold = 0.05}\n',
    "delta": DELTA + CRASH,
    "fedasync": DELTA + 'schedule = {kind = "asynchronous"}\n',
    "buffered": DELTA + 'schedule = {kind = "buffered", size = 2}\n',
    "scaffold": DELTA + 'correction = {kind = "control_variate"}\n',
    "error_feedback": DELTA + 'compressor = {kind = "error_feedback"}\n',
    "gradient": GRADIENT,
    "tree": TREE,
}


def sent(scene, rule, noise):
    """Return every message of a run, in which the noise of gradients changes what is learned."""
    toml = BASE.replace("noise = 0.1", f"noise = {noise}") + SCENES[scene]
    head, _, faults = toml.partition("[[")
    made = loads(head + NOISE + "[[" * bool(faults) + faults)
    events = p2pfrl.run(replace(made, privacy=rule), trace=True).events
    return [event for event in events if event.kind == "send"]


@pytest.mark.parametrize("scene", SCENES)
def test_all_that_leaves_an_agent_follows_from_what_is_released(scene):
    rule = Nothing(clip=1.0, noise_multiplier=1.0)
    assert sent(scene, rule, 0.1) == sent(scene, rule, 0.7)


def test_a_number_that_is_not_protected_is_noticed():
    leaking = Leaking(clip=1.0, noise_multiplier=1.0)
    assert sent("gossip", leaking, 0.1) != sent("gossip", leaking, 0.7)


# Runs


def run(toml, **more):
    return p2pfrl.run(loads(BASE + toml), **more)


@pytest.mark.parametrize("scene", [GOSSIP, DELTA, GRADIENT, TREE])
def test_a_run_reports_what_every_agent_spent(scene):
    record = run(scene + NOISE)
    expected = [epsilon_of_gaussian(math.sqrt(k) / 2.0, 1e-5) for k in range(1, 5)]
    assert record.metrics["epsilon"] == pytest.approx(expected)
    assert record.agents["epsilon"][-5:] == pytest.approx([expected[-1]] * 5)
    privacy = record.summary["privacy"]
    assert privacy["epsilon_of"] == pytest.approx([expected[-1]] * 5)
    assert privacy["noise"].startswith("simulated privacy")
    assert (privacy["unit"], privacy["adjacency"]) == ("agent", "add_remove")
    assert privacy["releases"] == 4
    assert privacy["releases_refused"] == 0


@pytest.mark.parametrize("scene", [GOSSIP, DELTA, GRADIENT])
def test_an_agent_whose_budget_is_spent_goes_on_and_sends_skips(scene):
    budget = epsilon_of_gaussian(math.sqrt(2) / 2.0, 1e-5)
    noise = NOISE.replace("2.0", f"2.0, budget = {budget!r}")
    record = run(scene + noise, trace=True)
    privacy = record.summary["privacy"]
    assert privacy["epsilon"] == pytest.approx(budget)
    assert privacy["silent"] == [0, 1, 2, 3, 4]
    assert (privacy["releases"], privacy["releases_refused"]) == (2, 10)
    assert record.summary["rounds"] == 4
    assert len(record.metrics["round"]) == 4, "it trains and mixes to the end"
    assert preview(loads(BASE + scene + noise))["privacy"]["epsilon"] == privacy["epsilon"]


def test_same_seed_same_run_and_another_seed_other_noise():
    again = [run(f"seed = {seed}\n" + GOSSIP + NOISE).summary["digest"] for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_a_restarted_agent_pays_for_what_it_releases_again():
    late = CRASH.replace("0.0065", "0.0085").replace("0.0045", "0.0065")
    record = run(GOSSIP + NOISE + "checkpoint = {every = 4}\n" + late, trace=True)
    releases = {i: set() for i in range(5)}
    for event in record.events:
        if event.kind == "send" and event.crc:
            releases[event.sender].add(event.crc)
    spent = record.summary["privacy"]["epsilon_of"]
    rule = ClipNoise(clip=1.0, noise_multiplier=2.0)
    assert spent == [rule.epsilon(len(own) / 4) for own in releases.values()]
    assert len(releases[1]) > 3, "it began again at its first round, with other noise"


# Refusals


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('mode = "central"\n' + NOISE, "no bound in mode central; use payload = 'delta'"),
        ('mode = "pooled"\n' + NOISE, "experience leaves the agents"),
        (GOSSIP + 'exchange = {order = "combine_while_adapting"}\n' + NOISE, "leave the order out"),
        (
            GOSSIP + 'mixing = {kind = "pairwise"}\nschedule = {kind = "asynchronous"}\n' + NOISE,
            "numbers of an agent's own in the clear",
        ),
        (
            DELTA + 'coordinator = {aggregator = {kind = "mean", weights = "samples"}}\n' + NOISE,
            "the number of steps of every agent",
        ),
        (
            DELTA + 'coordinator = {participation = {kind = "weighted"}}\n' + NOISE,
            "numbers of an agent's own in the clear",
        ),
        (
            GOSSIP + 'mixing = {kind = "extra"}\n' + NOISE.replace("2.0", "2.0, budget = 3.0"),
            "every message in its round",
        ),
        (GOSSIP + NOISE.replace("2.0", "2.0, target_epsilon = 1.0"), "leave noise_multiplier out"),
        (
            GOSSIP
            + 'privacy = {kind = "clip_noise", clip = 1.0, target_epsilon = 1.0, budget = 2.0}\n',
            "leave budget out",
        ),
        (GOSSIP + NOISE.replace("2.0", "2.0, releases = 99999, decay = 0.5"), "nearer to 1"),
    ],
)
def test_what_cannot_be_promised_is_refused_with_the_fix(toml, said):
    with pytest.raises(ScenarioError, match=said):
        p2pfrl.run(loads(BASE + toml))


def test_target_epsilon_needs_a_number_of_releases():
    open_end = BASE.replace("rounds = 4", "virtual_time = 0.02") + GOSSIP
    noise = 'privacy = {kind = "clip_noise", clip = 1.0, target_epsilon = 2.0}\n'
    with pytest.raises(ScenarioError, match=r"set it, or stop\.rounds"):
        loads(open_end + noise)
    record = p2pfrl.run(loads(open_end + noise.replace("2.0", "2.0, releases = 3")))
    assert record.summary["privacy"]["releases"] == 3
    assert record.summary["privacy"]["epsilon"] == pytest.approx(2.0)


def test_an_agent_that_neighbors_wait_for_does_not_fall_silent_unsaid():
    crowded = GOSSIP + 'mixing = {kind = "extra"}\n'
    few = 'privacy = {kind = "clip_noise", clip = 1.0, target_epsilon = 2.0, releases = 2}\n'
    with pytest.raises(AgentError, match="its privacy budget is spent"):
        run(crowded + few)


# The audit: a game that an attacker plays against one release.


def bound(hits, false_hits, trials, delta):
    """Return a lower bound of epsilon, false with probability 1e-4 (Clopper, Pearson, 1934)."""
    low = beta.ppf(5e-5, hits, trials - hits + 1) if hits else 0.0
    high = beta.ppf(1 - 5e-5, false_hits + 1, trials - false_hits)
    return math.log(max(low - delta, 1e-300) / high)


def played(rule, trials, threshold):
    """Return how often the attacker says "it contributed", if it did and if it did not."""
    own, there, nothing = ledger(), np.array([rule.clip, 0.0]), np.zeros(2)
    release = partial(rule.protect, ledger=own, round=0)
    seen = [[release(world)[0] for _ in range(trials)] for world in (there, nothing)]
    return [int((np.array(numbers) > threshold).sum()) for numbers in seen]


class Half(ClipNoise):
    """Adds half the noise that it claims."""

    is_accounted: ClassVar[bool] = True

    def protect(self, change, ledger, round):
        exact = self.clipped(change)
        return exact + (super().protect(change, ledger, round) - exact) / 2


def audited(cls, trials, delta, quantile):
    rule: Privacy = cls(clip=3.0, noise_multiplier=1.0, delta=delta)
    scale = 3.0 if cls is ClipNoise else 1.5
    hits, false_hits = played(rule, trials, quantile * scale)
    return bound(hits, false_hits, trials, delta), rule.epsilon(1.0)


def test_no_attacker_beats_the_claim_and_half_the_noise_is_caught():
    found, claim = audited(ClipNoise, 2000, 0.05, 2.33)
    assert -1.0 < found < claim
    found, claim = audited(Half, 2000, 0.05, 2.33)
    assert found > claim


@pytest.mark.slow
def test_no_attacker_beats_the_claim_in_a_hundred_thousand_games():
    found, claim = audited(ClipNoise, 100_000, 1e-5, 3.5)
    assert 1.5 < found < claim
    found, claim = audited(Half, 100_000, 1e-5, 3.5)
    assert found > claim


@pytest.mark.slow
def test_the_report_says_what_was_spent_and_on_what(tmp_path):
    noise = NOISE.replace("2.0", "2.0, budget = 9.0")
    run('topology = {kind = "path"}\n' + GOSSIP + noise, out=tmp_path / "run")
    page = report([tmp_path / "run"]).read_text(encoding="utf-8")
    assert "Privacy: epsilon so far" in page
    assert "Unit: agent; adjacency: add_remove; local: every agent adds its own noise" in page
    assert "simulated privacy" in page
    assert (tmp_path / "run" / "figures" / "epsilon.svg").stat().st_size > 5000


def test_single_agents_learn_less_of_those_far_away():
    found = run('topology = {kind = "path"}\n' + GOSSIP + NOISE).summary["privacy"]
    losses = found["epsilon_at_distance"]
    assert found["releases_of_distance"] == 4
    assert losses[0] == 0.0
    assert found["epsilon"] * (1 + 1e-12) >= losses[1] > losses[2] > losses[3] > losses[4] > 0.0
    assert "epsilon_at_distance" not in run(DELTA + NOISE).summary["privacy"]


def test_what_one_observer_learns_is_what_a_test_of_its_view_can_tell():
    """The best test of a fixed change has the mu of the quadratic form of the view's covariance."""
    matrix = np.array([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25], [0.0, 0.25, 0.75]])
    view = np.array([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 1.0, 0.0]])  # of agents 1, 2 in rounds 1, 2
    covariance = view @ view.T
    shift = np.array([view[:, 1], view[:, 3]]).T  # what agent 2 adds
    block = shift.T @ np.linalg.solve(covariance, shift)
    expected = np.sqrt(min(np.abs(block).sum(), 2 * np.linalg.eigvalsh(block)[-1])) / 1.5
    assert pairwise_mu(matrix, 0, 2, 1.5)[2] == pytest.approx(expected)
    assert pairwise_mu(matrix, 0, 1, 1.5) == pytest.approx([0.0, 1 / 1.5, 0.0])
    assert pairwise_mu(np.eye(3), 0, 2, 1.5).tolist() == [0.0] * 3, (
        "who hears nobody learns nothing"
    )


def test_epsilon_is_finite_for_any_noise():
    """For large mu, delta(epsilon) is near Phi(mu/2 - epsilon/mu)."""
    found = [epsilon_of_gaussian(mu, 1e-5) for mu in (1.0, 1e2, 1e5, 1e9)]
    assert found[0] == pytest.approx(4.377178, abs=1e-6)
    for mu, epsilon in zip((1e2, 1e5, 1e9), found[1:], strict=True):
        assert epsilon == pytest.approx(mu * (mu / 2 + 4.264890794), rel=max(0.1 / mu, 1e-9))
