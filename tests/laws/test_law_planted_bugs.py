"""Every law fails when agents do not do their part.

A checker that has never caught anything proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import test_law_crashes as crashes
import test_law_delay as delay
import test_law_determinism as determinism
import test_law_fedavg as fedavg
import test_law_invariants as invariants
import test_law_loss as loss
import test_law_noise_floor as noise_floor
import test_law_reference as reference
import test_law_spectral as spectral

from p2pfrl.agent import Agent
from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.consensus.mixing.base import Mixing
from p2pfrl.core.types import Action, Adopt, Mix
from p2pfrl.laws import laws, measure
from p2pfrl.laws.afedpg import throughput

Law = Callable[[], None]


def check(name: str) -> None:
    """Assert that a law of `p2pfrl bench laws` holds."""
    assert all(figure.holds for figure in measure(laws()[name]))


ATC, AWC = "adapt_then_combine", "combine_while_adapting"

LAWS: dict[str, Law] = {
    "spectral": lambda: spectral.test_disagreement_shrinks_by_the_second_eigenvalue(
        "ring", 8, {}, 0.804738
    ),
    "spectral_star": lambda: spectral.test_disagreement_shrinks_as_theory_says_on_other_graphs(
        "star", 7, {}, "lazy"
    ),
    "laplacian": lambda: (
        spectral.test_laplacian_step_decays_below_two_over_lambda_max_and_grows_above(
            "complete", 6, 6.0, 0.99, 0.98
        )
    ),
    "one_peer": lambda: spectral.test_one_peer_exponential_averages_exactly_after_log2_rounds(8, 3),
    "matchings": lambda: spectral.test_random_matchings_keep_the_mean_and_reach_it(7, 1),
    "noise_floor": lambda: noise_floor.test_noise_floor_on_other_graphs(
        ATC, "star", 6, 0.05, 2.0, 2
    ),
    "noise_floor_awc": lambda: noise_floor.test_noise_floor_on_other_graphs(
        AWC, "star", 6, 0.2, 0.1, 5
    ),
    "fedavg_gossip": lambda: fedavg.test_fedavg_ends_at_its_closed_form(
        "gossip", 8, 8, 5, 0.05, 120, 2
    ),
    "fedavg_central": lambda: fedavg.test_fedavg_ends_at_its_closed_form(
        "central", 8, 8, 5, 0.05, 120, 2
    ),
    "gossip_is_fedavg": lambda: check("gossip_is_fedavg"),
    "delay": lambda: delay.test_a_delay_of_tau_is_the_delayed_recursion(1, 0.95),
    "throughput_gossip": lambda: print(
        throughput("gossip", "asynchronous", [1.0, 1.0, 1.0, 4.0], 200)
    ),
    "throughput_central": lambda: print(
        throughput("central", "asynchronous", [1.0, 1.0, 1.0, 4.0], 200)
    ),
    "reference": lambda: reference.test_a_fault_free_run_is_the_plain_reference(
        "ring", reference.RING, 1, 1, ATC, {}
    ),
    "reference_awc": lambda: reference.test_a_fault_free_run_is_the_plain_reference(
        "directed_ring", reference.DIRECTED, 1, 1, AWC, {}
    ),
    "drift": lambda: loss.test_one_sided_drops_move_the_mean_as_a_monte_carlo_says("renormalize"),
    "symmetric": lambda: check("loss_drift"),
    "fedasync": lambda: check("fedasync"),
    "lookahead": lambda: check("lookahead"),
    "crash": lambda: crashes.test_one_crash_costs_at_most_one_deadline("gossip", "ring"),
    "partition": crashes.test_both_halves_of_a_partition_go_on_and_agree_after_it_heals,
    "determinism": determinism.test_the_digest_depends_on_one_bit_of_one_parameter,
}
NOT_ABOUT_MIXING = ("determinism",)


LONGEST = ("noise_floor_awc", "spectral_star", "partition")


@pytest.mark.parametrize(
    "law",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in LONGEST))
        for name in LAWS
        if name not in NOT_ABOUT_MIXING
    ],
)
def test_every_law_fails_if_agents_do_not_mix(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    perform = Agent.perform

    def keep_own(agent: Agent, action: Action) -> None:
        if isinstance(action, Mix):
            action = replace(action, received=(), staleness=(), factors=())
        if not isinstance(action, Adopt):
            perform(agent, action)

    monkeypatch.setattr(Agent, "perform", keep_own)
    with pytest.raises(AssertionError):
        LAWS[law]()


def planted_reference() -> None:
    """Run the reference law on a graph whose sums have three terms."""
    reference.test_a_fault_free_run_is_the_plain_reference("grid", reference.GRID, 1, 1, ATC, {})


def test_the_reference_catches_another_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    mix = Mixing.mix
    monkeypatch.setattr(
        Mixing,
        "mix",
        lambda self, own, received, weights, state: mix(
            self, own, received, dict(reversed(weights.items())), state
        ),
    )
    with pytest.raises(AssertionError):
        planted_reference()


def test_the_invariants_catch_a_payload_that_is_applied_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    perform = Agent.perform
    last: dict[int, Mix] = {}

    def again(agent: Agent, action: Action) -> None:
        if isinstance(action, Mix) and agent.id == 2:
            if action.received and agent.id in last and last[agent.id].received:
                before = last[agent.id]
                action = replace(
                    action,
                    received=before.received,
                    staleness=before.staleness,
                    factors=before.factors,
                )
            last[agent.id] = action
        perform(agent, action)

    watch = invariants.Watch()
    watch.install(monkeypatch)
    seen = Agent.perform
    monkeypatch.setattr(Agent, "perform", again)
    perform = seen
    invariants.play(6, 5)
    assert max(watch.applied.values()) > 1


def test_the_fixed_point_catches_a_coordinator_that_takes_the_first_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    perform = Coordinator.perform

    def first_only(coordinator: Coordinator, action: Action) -> None:
        if isinstance(action, Mix):
            action = replace(action, received=action.received[:1], staleness=(0,), factors=(1.0,))
        perform(coordinator, action)

    monkeypatch.setattr(Coordinator, "perform", first_only)
    with pytest.raises(AssertionError):
        LAWS["fedavg_central"]()
