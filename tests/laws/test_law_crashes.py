"""One crash costs one deadline, not one per round.

An agent that was away or slow catches up; both halves of a partition continue.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from p2pfrl.agent import Agent
from p2pfrl.core.types import Action, Mix
from p2pfrl.laws.runs import FLAT, play
from p2pfrl.results.record import AGENTS, METRICS, Record, load, save

STEP = 0.01
COMPUTE = {"seconds_per_env_step": STEP}
CRASH = {"at": "305ms", "kind": "crash", "agents": [3]}


def world(
    rounds: int,
    *,
    mode: str = "gossip",
    faults: tuple[dict[str, object], ...] = (),
    **tables: object,
) -> Record:
    """Run 8 agents whose update takes 10 ms.

    The deadline is 2 s and the link timeout 1 s where nothing else is said.
    """
    tables = {
        "schedule": {"deadline": "2s"},
        "network": {"peer_timeout": "1s"},
        "learner": FLAT,
        **tables,
    }
    return play(8, rounds, mode=mode, faults=faults, compute=COMPUTE, **tables)  # type: ignore[arg-type]


@functools.cache
def free(mode: str, kind: str) -> Record:
    """Return the run of `world` in which nothing goes wrong; its timeouts never matter."""
    run = world(60, mode=mode, topology={"kind": kind})
    assert run.summary["deadlines_expired"] == 0
    return run


def heard(patch: pytest.MonkeyPatch, sender: int) -> dict[int, list[int]]:
    """Return the rounds in which each agent mixed a payload of `sender`.

    The result is filled during the next run.
    """
    rounds: dict[int, list[int]] = {}
    perform = Agent.perform

    def watch(agent: Agent, action: Action) -> None:
        if isinstance(action, Mix) and any(message.sender == sender for message in action.received):
            rounds.setdefault(agent.id, []).append(action.round)
        perform(agent, action)

    patch.setattr(Agent, "perform", watch)
    return rounds


@pytest.mark.parametrize("mode", ["gossip", "central"])
@pytest.mark.parametrize("kind", ["ring", "complete", "star"])
def test_one_crash_costs_at_most_one_deadline(mode: str, kind: str) -> None:
    run = world(60, mode=mode, topology={"kind": kind}, faults=(CRASH,))
    assert run.summary["virtual_seconds"] <= free(mode, kind).summary["virtual_seconds"] + 2.0
    assert run.summary["deadlines_expired"] <= 7
    assert run.metrics["active"][-1] == 7
    assert run.summary["rounds"] == 60
    assert run.summary["consensus_distance"] < 1e-2 * run.summary["initial_consensus_distance"]


@pytest.mark.parametrize("mode", ["gossip", "central"])
@pytest.mark.parametrize("kind", ["ring", "complete"])
@pytest.mark.parametrize("suspect_after", [1, 3])
def test_without_reports_of_links_a_crash_costs_at_most_suspect_after_deadlines(
    mode: str, kind: str, suspect_after: int
) -> None:
    tables = {
        "topology": {"kind": kind},
        "network": {"peer_timeout": "1h"},
        "schedule": {"deadline": "2s", "suspect_after": suspect_after},
    }
    run = world(60, mode=mode, faults=(CRASH,), **tables)
    lost = run.summary["virtual_seconds"] - free(mode, kind).summary["virtual_seconds"]
    # One deadline, then half of one for a neighbor that missed the last; a coordinator always
    # grants all of it.
    deadlines = suspect_after if mode == "central" else (1 + suspect_after) / 2
    assert 2.0 * deadlines - 0.1 <= lost <= 2.0 * deadlines + 0.3
    assert run.summary["rounds"] == 60


def test_who_leaves_costs_nothing() -> None:
    whole = free("gossip", "ring").summary
    run = world(60, faults=({"at": "305ms", "kind": "leave", "agents": [3]},))
    assert run.summary["virtual_seconds"] <= whole["virtual_seconds"] + 1e-3
    assert run.summary["deadlines_expired"] == 0
    assert run.summary["env_steps"] < whole["env_steps"]


def test_a_restarted_agent_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = heard(monkeypatch, 3)
    run = world(250, faults=(CRASH, {"at": "2.5s", "kind": "restart", "agents": [3]}))
    away = [
        b - a for i in (2, 4) for a, b in zip(rounds[i], rounds[i][1:], strict=False) if b - a > 5
    ]
    assert len(away) == 2
    assert all(rounds[i][-1] == 249 for i in (2, 4))
    assert np.ptp(run.parameters, axis=0).max() < 1e-9
    assert run.metrics["active"][-1] == 8


def test_a_restarted_agent_alone_goes_on_where_it_was() -> None:
    run = world(
        100, mode="independent", faults=(CRASH, {"at": "505ms", "kind": "restart", "agents": [3]})
    )
    # 30 rounds before the crash, 70 from 505 ms on.
    assert run.summary["env_steps"] == 800
    assert run.summary["virtual_seconds"] == pytest.approx(0.505 + 0.7, abs=1e-6)


@pytest.mark.slow
def test_a_straggler_is_heard_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = heard(monkeypatch, 3)
    run = world(
        400,
        schedule={"deadline": "200ms"},
        network={},
        topology={"kind": "star"},
        faults=({"at": "305ms", "kind": "straggle", "agents": [3], "factor": 50},),
    )
    slow = [r for r in rounds[0] if r > 40]
    # It needs 500 ms per update, so it is heard at most twice a second; never ignored for long.
    seconds = run.summary["virtual_seconds"] - 0.3
    assert len(slow) >= 0.5 * seconds / 0.7
    assert max(b - a for a, b in itertools.pairwise(slow)) < 100
    assert run.summary["rounds"] == 400


@pytest.mark.slow
def test_a_straggler_that_recovers_takes_part_in_every_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds = heard(monkeypatch, 3)
    world(
        300,
        schedule={"deadline": "200ms"},
        network={},
        faults=(
            {"at": "305ms", "kind": "straggle", "agents": [3], "factor": 50},
            {"at": "1.5s", "kind": "straggle", "agents": [3], "factor": 1},
        ),
    )
    for i in (2, 4):
        assert rounds[i][-100:] == list(range(200, 300))


@pytest.mark.slow
def test_both_halves_of_a_partition_go_on_and_agree_after_it_heals() -> None:
    faults = (
        {"at": "105ms", "kind": "partition", "groups": [[0, 1, 2, 3], [4, 5, 6, 7]]},
        {"at": "4s", "kind": "heal"},
    )
    # Slow mixing, so that the halves do not agree before they part.
    slow = {"topology": {"kind": "ring"}, "mixing": {"kind": "lazy", "laziness": 0.5}}
    parted = world(220, faults=faults[:1], **slow)
    halves = [parted.parameters[:4], parted.parameters[4:]]
    assert all(np.ptp(half, axis=0).max() < 1e-6 for half in halves)
    assert np.abs(halves[0].mean(axis=0) - halves[1].mean(axis=0)).max() > 0.01
    healed = world(480, faults=faults, **slow)
    assert np.ptp(healed.parameters, axis=0).max() < 1e-6
    assert parted.summary["rounds"] == 220
    assert healed.summary["rounds"] == 480
    assert parted.summary["virtual_seconds"] < 220 * 0.012 + 2.0


@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
def test_who_joins_catches_up_with_the_others(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = heard(monkeypatch, 3)
    join = {"at": "1.5s", "kind": "join", "agents": [3]}
    run = world(250, schedule={"kind": kind}, faults=(join,))
    assert run.metrics["active"][0] == 7
    assert run.metrics["active"][-1] == 8
    assert np.ptp(run.parameters, axis=0).max() < 1e-3
    assert min(rounds[2]) > 100
    assert len(rounds[2]) > 80


EVERYONE = {"at": "305ms", "kind": "crash", "agents": list(range(8))}


def test_a_coordinator_whose_agents_are_all_gone_ends_and_is_not_a_clock_that_runs_for_ever():
    run = world(100, mode="central", faults=(EVERYONE,), schedule={"kind": "asynchronous"})
    assert 300.0 < run.summary["virtual_seconds"] < 302.0
    assert 0 < run.staleness.sum() < 100 * 8


def test_a_run_that_ends_before_its_first_round_has_every_column_and_reads_back(tmp_path):
    early = {**EVERYONE, "at": "5ms"}
    record = save(world(100, faults=(early,)), tmp_path / "run")
    assert set(METRICS) <= set(record.metrics)
    assert len(record.metrics["round"]) == 0
    assert set(AGENTS) <= set(load(tmp_path / "run").agents)


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_while_adapting"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("work", [0.0, 0.01])
@pytest.mark.parametrize("kind", ["join", "restart", "heal"])
def test_who_comes_back_waits_for_no_deadline(
    kind: str, work: float, dropout: float, order: str
) -> None:
    early, late = ("2ms", "5ms") if not work else ("25ms", "55ms")
    faults: dict[str, tuple[dict[str, object], ...]] = {
        "join": ({"kind": "join", "at": late, "agents": [3]},),
        "restart": (
            {"kind": "crash", "at": early, "agents": [1]},
            {"kind": "restart", "at": late, "agents": [1]},
        ),
        "heal": (
            {"kind": "partition", "at": early, "groups": [[0, 1]]},
            {"kind": "heal", "at": late},
        ),
    }
    tables = {"availability": {"dropout": dropout}, "exchange": {"order": order}}
    for seed in range(2):
        run = play(
            4,
            12,
            seed=seed,
            learner=FLAT,
            faults=faults[kind],
            compute={"seconds_per_env_step": work},
            **tables,
        )
        assert run.summary["deadlines_expired"] == 0
        assert run.summary["virtual_seconds"] < 0.3
