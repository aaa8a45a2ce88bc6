"""A coordinator with standbys in the simulator: who dies, when, and what becomes of the run."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.laws.runs import Table, play
from p2pfrl.results.record import Record

TABLES: dict[str, Table] = {
    "learner": {"lr": 0.05, "dimension": 4},
    "schedule": {"deadline": "2s"},
    "network": {"peer_timeout": "300ms"},
    "compute": {"seconds_per_env_step": 0.1},
}
WAIT: Table = {"standbys": 2, "fallback": "wait"}
ROUNDS = 12


def crash(at: str, *agents: object) -> Table:
    return {"at": at, "kind": "crash", "agents": [*agents]}


def restart(at: str, *agents: object) -> Table:
    return {"at": at, "kind": "restart", "agents": [*agents]}


def run(*faults: Table, **coordinator: object) -> Record:
    tables = {**TABLES, "coordinator": coordinator} if coordinator else TABLES
    return play(8, ROUNDS, mode="central", faults=faults, **tables)


@pytest.fixture(scope="module")
def plain() -> Record:
    """The run without standbys and faults."""
    return run()


def test_standbys_change_no_number_of_a_run_in_which_nobody_dies(plain: Record) -> None:
    for standbys in (2, [5, 7], [1, 2, 3, 4]):
        record = run(standbys=standbys)
        assert np.array_equal(record.parameters, plain.parameters)
        assert record.summary["env_steps"] == plain.summary["env_steps"]
        assert record.summary["bytes_sent"] > plain.summary["bytes_sent"]


@pytest.mark.parametrize("at", ["50ms", "700ms", "750ms", "1100ms"])
def test_a_standby_takes_over_and_no_committed_round_is_lost(at: str, plain: Record) -> None:
    record = run(crash(at, "coordinator"), **WAIT)
    assert np.array_equal(record.parameters, plain.parameters)
    assert record.summary["rounds"] == ROUNDS
    names = [term["coordinator"] for term in record.summary["terms"]]
    assert names == ["coordinator", "standby0"]
    waited = record.summary["virtual_seconds"] - plain.summary["virtual_seconds"]
    # The link is found dead after 300 ms, and the first standby waits twice 200 ms.
    assert waited < 0.3 + 0.4 + 0.1


def test_one_after_the_other_may_die_if_a_majority_is_up(plain: Record) -> None:
    faults = (
        crash("300ms", "coordinator"),
        crash("1500ms", 5),
        restart("2500ms", "coordinator"),
        restart("3s", 5),
    )
    record = run(*faults, standbys=[5, 7], fallback="wait")
    assert np.array_equal(record.parameters, plain.parameters)


@pytest.mark.parametrize("seed", range(3))
def test_whoever_dies_whenever_the_rounds_are_those_of_a_quiet_run(
    seed: int, plain: Record
) -> None:
    rng = np.random.default_rng(seed)
    faults = []
    for name in ("coordinator", "standby0", "standby1"):
        times = np.sort(rng.uniform(0.0, 4.0, 4))
        kinds = (crash, restart, crash, restart)
        faults += [kind(f"{at:.3f}s", name) for kind, at in zip(kinds, times, strict=True)]
    record = run(*faults, **WAIT)
    assert np.array_equal(record.parameters, plain.parameters)


def test_messages_may_be_lost_doubled_and_late() -> None:
    lossy = {"loss": 0.1, "duplicate": 0.1, "jitter": "20ms", "peer_timeout": "300ms"}
    faults = (crash("700ms", "coordinator"), restart("2s", "coordinator"), crash("3s", "standby0"))
    tables = {**TABLES, "network": lossy, "coordinator": WAIT}
    first, again = (play(8, ROUNDS, mode="central", faults=faults, **tables) for _ in range(2))
    assert first.summary["rounds"] >= ROUNDS - 1, "the last model may be lost for an agent"
    assert first.summary["digest"] == again.summary["digest"]


def test_the_side_without_a_majority_makes_no_round() -> None:
    groups = [[0, 1, 2, 3], [4, 5, 6, 7]]
    cut = {"at": "550ms", "kind": "partition", "groups": groups}
    heal = {"at": "9s", "kind": "heal"}
    record = run(cut, heal, standbys=[5, 7], fallback="wait")
    assert record.summary["rounds"] == ROUNDS
    times = [record.agents["virtual_seconds"][record.agents["agent"] == i] for i in range(8)]
    ended = [len(np.unique(own[own < 9.0])) for own in times]
    # The coordinator is on the side of agents 0 to 3, and both standbys are on the other side.
    assert ended == [5] * 4 + [ROUNDS] * 4


def test_without_a_majority_the_run_ends_when_patience_does() -> None:
    record = run(crash("550ms", "coordinator", "standby0"), **WAIT)
    assert record.summary["stopped_by"] == "coordinator_gone"
    assert record.summary["rounds"] == 5


def test_agents_train_on_without_a_coordinator_and_their_next_answer_has_it(plain: Record) -> None:
    waits, trains = (
        run(crash("550ms", "coordinator"), standbys=2, fallback=f) for f in ("wait", "train")
    )
    assert waits.summary["env_steps"] == plain.summary["env_steps"]
    more = trains.summary["env_steps"] - waits.summary["env_steps"]
    assert 8 * 3 <= more <= 8 * 7, "0.4 s to 0.8 s without a coordinator, 0.1 s per update"
    assert trains.summary["final_error"] < waits.summary["final_error"]


def test_agents_average_with_neighbors_without_a_coordinator() -> None:
    # All voters but one are gone for long: agents of one edge alone come closer to each other.
    def apart(fallback: str) -> float:
        tables = {**TABLES, "topology": {"kind": "complete"}}
        tables["coordinator"] = {"standbys": 2, "fallback": fallback}
        faults = (crash("550ms", "coordinator", "standby0"),)
        record = play(8, ROUNDS, mode="central", faults=faults, **tables)
        return float(np.std(record.parameters, axis=0).max())

    assert apart("gossip") < 0.25 * apart("train")


def test_a_successor_goes_on_with_what_was_spent_of_a_privacy_budget() -> None:
    noise: Table = {"kind": "central_noise", "clip": 1.0, "noise_multiplier": 2.0}
    tables = {**TABLES, "privacy": noise, "exchange": {"payload": "delta"}, "coordinator": WAIT}
    faults = (crash("700ms", "coordinator"),)
    quiet, record = (
        play(8, ROUNDS, mode="central", faults=f, **tables).summary["privacy"] for f in ((), faults)
    )
    assert record["releases"] == quiet["releases"] == ROUNDS
    assert record["epsilon"] == quiet["epsilon"]
