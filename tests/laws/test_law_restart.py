"""Agents that crash and restart keep what their rule remembers: the invariants of the rule hold.

Where the rule needs every message, neighbors wait, and the run ends as if nobody had crashed.
"""

import numpy as np
import pytest

from p2pfrl.consensus.mixing.push_sum import PushSum, _Mass
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.restarts import DOWN, EVERY_MESSAGE, crashes, of_agents
from p2pfrl.laws.runs import play, text
from p2pfrl.laws.watch import watched
from p2pfrl.scenario import loads

CRASHES = [
    {"at": "250ms", "kind": "crash", "agents": [1, 4]},
    {"at": "700ms", "kind": "restart", "agents": [1]},
    {"at": "900ms", "kind": "restart", "agents": [4]},
    {"at": "1300ms", "kind": "crash", "agents": [0]},
    {"at": "1500ms", "kind": "restart", "agents": [0]},
]


def world(seed, schedule, rounds, **tables):
    network = {"latency": "5ms", "jitter": "20ms", "loss": 0.2, "peer_timeout": "100ms"}
    return loads(
        text(
            6,
            rounds,
            seed=seed,
            mixing={"kind": "push_sum"},
            topology={"kind": "directed_ring"},
            learner=PLAIN,
            network=network,
            compute={
                "seconds_per_env_step": "20ms",
                "speed": {"kind": "uniform", "low": 0.5, "high": 1.5},
            },
            schedule=schedule,
            faults=CRASHES,
            **tables,
        )
    )


SCHEDULES = {
    "synchronous": {"kind": "synchronous", "deadline": "100ms"},
    "asynchronous": {"kind": "asynchronous", "staleness": {"kind": "constant"}},
}


PLAIN = {"lr": 0.0, "initial_spread": 1.0, "dimension": 3}


def starts(seed):
    alone = text(6, 1, seed=seed, learner=PLAIN, mode="independent")
    return simulate(loads(alone)).parameters


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]
)
def test_push_sum_finds_the_exact_mean_though_agents_crash_and_restart(seed):
    record = simulate(world(seed, SCHEDULES["asynchronous"], 600))
    assert record.summary["messages_dropped"] > 100
    mean = starts(seed).mean(axis=0)
    np.testing.assert_allclose(record.parameters, np.tile(mean, (6, 1)), atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (3, 4))]
)
def test_no_mass_is_lost_with_a_crash_at_agents_and_under_way(seed, schedule):
    with watched(PushSum, "mix") as calls:
        record = simulate(world(seed, SCHEDULES[schedule], 150))
    assert record.summary["virtual_seconds"] > 1.6  # the last restart is at 1.5 s
    last = {arguments[0].agent: _Mass(*result[1]) for arguments, result in calls}
    held = sum(mass.own for mass in last.values())
    given = {(i, j): total for i, mass in last.items() for j, total in mass.given.items()}
    had = {(j, i): total for i, mass in last.items() for j, total in mass.had.items()}
    under_way = sum(total - had.get(edge, 0.0) for edge, total in given.items())
    expected = np.append(starts(seed).sum(axis=0), 6.0)
    np.testing.assert_allclose(held + under_way, expected, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("name", EVERY_MESSAGE)
def test_rules_that_need_every_message_end_as_if_nobody_had_crashed(name, seed):
    expected = of_agents(name, seed)
    faults = crashes(seed, expected.summary["virtual_seconds"])
    record = of_agents(name, seed, faults)
    assert record.summary["messages_dropped"] > 0
    assert record.summary["virtual_seconds"] > expected.summary["virtual_seconds"]
    assert record.summary["rounds"] == expected.summary["rounds"]
    np.testing.assert_array_equal(record.parameters, expected.parameters)


def test_an_agent_that_crashes_before_its_first_checkpoint_trains_as_it_did_before():
    name = "extra, three updates per exchange"
    expected = of_agents(name, 1)
    faults = (  # its first update has ended, its first round has not
        {"at": "60ms", "kind": "crash", "agents": [1]},
        {"at": "90ms", "kind": "restart", "agents": [1]},
    )
    record = of_agents(name, 1, faults)
    assert record.summary["env_steps"] > expected.summary["env_steps"]
    np.testing.assert_array_equal(record.parameters, expected.parameters)


def test_a_neighbor_that_stays_away_too_long_ends_the_run_with_a_reason():
    faults = [
        {"at": "200ms", "kind": "crash", "agents": [2]},
        {"at": "20s", "kind": "restart", "agents": [2]},
    ]
    tables = {**DOWN, "mixing": {"kind": "extra"}, "faults": faults}
    with pytest.raises(P2PFRLError, match=r"waited 10 s .* in round \d+ for agent 2, .*deadline"):
        play(4, 20, schedule={"deadline": "1s"}, **tables)
    record = play(4, 20, schedule={"deadline": "2s"}, **tables)
    assert record.summary["virtual_seconds"] > 20
