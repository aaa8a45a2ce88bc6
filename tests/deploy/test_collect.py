"""The record of processes on loopback is the simulator's.

Journals that are damaged or do not belong are refused.
"""

import json
import pickle
import shutil
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import msgpack
import numpy as np
import processes
import pytest
from written import Written, quadratic

import p2pfrl
from p2pfrl.build.assembly import Assembly
from p2pfrl.cli import main
from p2pfrl.core.errors import RecordError, ScenarioError
from p2pfrl.core.files import checksum
from p2pfrl.core.types import Update
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.entries import Entry
from p2pfrl.deploy.journal import MAGIC, Reader, framed
from p2pfrl.experiment.verify import verify
from p2pfrl.results.record import Record, load
from p2pfrl.results.report import report
from p2pfrl.scenario import Scenario

RING_4 = [[0], [1], [2], [3]]
RING_8 = [[0, 1], [2, 3], [4, 5], [6, 7]]
CENTRAL = [[-1], [0, 1], [2, 3]]
SAME = (
    "round",
    "env_steps",
    "return_mean",
    "return_min",
    "return_max",
    "consensus_distance",
    "consensus_actor",
    "consensus_critic",
    "mean_drift",
    "messages_dropped",
    "staleness_mean",
    "active",
    "evaluation_own",
    "evaluation_mean_parameters",
)
SAME_AGENTS = (
    "round",
    "agent",
    "return",
    "episodes",
    "loss",
    "disagreement",
    "bytes_sent",
    "staleness",
)


def cartpole(agents: int = 4, mode: str = "gossip", **overrides: object) -> Scenario:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return p2pfrl.load(
        "ring_16",
        {
            "agents": agents,
            "mode": mode,
            "stop.rounds": 6,
            "stop.target_return": None,
            "evaluation.every": 3,
            "evaluation.episodes": 2,
            "schedule.deadline": "100s",
            **dotted,
        },
    )


def assert_equal(collected: Record, simulated: Record) -> None:
    assert collected.summary["deadlines_expired"] == 0
    assert np.array_equal(collected.parameters.view(np.uint8), simulated.parameters.view(np.uint8))
    assert collected.summary["parameters_digest"] == simulated.summary["parameters_digest"]
    assert list(collected.metrics) == [name for name in simulated.metrics if name != "policy_kl"]
    assert "no observations" in collected.summary["left_out"]["policy_kl"]
    for name in SAME:
        np.testing.assert_array_equal(
            collected.metrics[name], simulated.metrics[name], err_msg=name
        )
    order = [
        np.lexsort((record.agents["agent"], record.agents["round"]))
        for record in (collected, simulated)
    ]
    for name in SAME_AGENTS:
        own, other = (
            record.agents[name][i] for record, i in zip((collected, simulated), order, strict=True)
        )
        np.testing.assert_array_equal(own, other, err_msg=name)
    np.testing.assert_array_equal(collected.staleness, simulated.staleness)
    for key in (
        "rounds",
        "env_steps",
        "messages_sent",
        "messages_empty",
        "messages_delivered",
        "bytes_sent",
        "final_return",
        "evaluation",
        "mean_drift",
    ):
        assert collected.summary[key] == simulated.summary[key], key


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a2c", "ppo", "dqn"])
def test_whole_episodes_on_a_fixed_grid_behind_a_gate_leave_the_record_of_the_simulator(
    tmp_path: Path, kind: str
) -> None:
    scenario = cartpole(
        learner__kind=kind,
        learner__episodes=2,
        environment__instances=1,
        compressor={"kind": "quantize", "grid": "fixed", "bits": 10},
        gate={"kind": "reached", "value": 20.0, "window": 4},
    )
    collected = collect(
        processes.run(scenario, [[0, 1], [2, 3]], tmp_path / "peers"), tmp_path / "out"
    )
    assert_equal(collected, p2pfrl.run(scenario))
    assert 0 < collected.summary["messages_empty"] < collected.summary["messages_sent"]


@pytest.mark.slow
def test_a_coordinator_imitates_policies_as_it_does_in_the_simulator(tmp_path: Path) -> None:
    scenario = cartpole(mode="central", coordinator__aggregator={"kind": "distilled"})
    collected = collect(processes.run(scenario, CENTRAL, tmp_path / "peers"), tmp_path / "out")
    assert_equal(collected, p2pfrl.run(scenario))


def test_a_ring_of_processes_leaves_the_record_of_the_simulator(tmp_path: Path) -> None:
    scenario = cartpole()
    collected = collect(processes.run(scenario, RING_4, tmp_path / "peers"), tmp_path / "out")
    assert_equal(collected, p2pfrl.run(scenario))
    assert collected.metrics["consensus_distance"][-1] > 0
    assert collected.metrics["bytes_sent"][-1] == collected.summary["bytes_sent"]
    assert collected.summary["transport"] == "tcp"
    assert [peer["agents"] for peer in collected.summary["peers"]] == RING_4
    assert np.all(np.diff(collected.metrics["virtual_seconds"]) >= 0)
    assert {interval.kind for interval in collected.timeline} == {"train", "wait"}
    assert load(tmp_path / "out").summary["parameters_digest"] == digest(collected.parameters)
    assert report([tmp_path / "out"]).exists()


def forge(folder: Path, name: str, content: str) -> None:
    """Write a file of a record, and its checksum."""
    (folder / name).write_text(content)
    summary = json.loads((folder / "summary.json").read_text())
    summary["files"][name] = checksum(content.encode())
    (folder / "summary.json").write_text(json.dumps(summary))


def test_a_collected_run_is_verified_by_its_parameters_and_rows(tmp_path: Path) -> None:
    scenario = quadratic(4)
    collect(processes.run(scenario, [[0, 1], [2, 3]], tmp_path / "peers"), tmp_path / "out")
    verdict = verify(tmp_path / "out")
    assert verdict.is_equal
    assert "timeline.csv" in verdict.unchecked
    own = {name: (tmp_path / "out" / name).read_text() for name in ("metrics.csv", "agents.csv")}
    for name, column in (("metrics.csv", "consensus_distance"), ("agents.csv", "loss")):
        head, first, second, *rest = own[name].splitlines()
        cells = second.split(",")
        cells[head.split(",").index(column)] = "123.5"
        forge(tmp_path / "out", name, "\n".join([head, first, ",".join(cells), *rest, ""]))
        (line,) = verify(tmp_path / "out").different
        assert line.startswith(f"{name}: line 3, {column}: recorded 123.5, replayed ")
        forge(tmp_path / "out", name, own[name])
    assert verify(tmp_path / "out").is_equal
    dead = [
        Written(quadratic(), tmp_path / str(agent), agent).rounds(0, 2).dies() for agent in (0, 1)
    ]
    collect(dead, tmp_path / "dead")
    with pytest.raises(RecordError, match="ended by died"):
        verify(tmp_path / "dead")


@pytest.mark.slow
def test_a_run_of_processes_is_verified_though_the_simulator_would_have_stopped_at_its_target(
    tmp_path: Path,
) -> None:
    scenario = cartpole(
        2, topology__kind="complete", stop__target_return=1.0, stop__virtual_time="100s"
    )
    assert p2pfrl.run(scenario).summary["rounds"] < 6
    collect(processes.run(scenario, [[0], [1]], tmp_path / "peers"), tmp_path / "out")
    assert verify(tmp_path / "out").is_equal


def digest(parameters: np.ndarray) -> str:
    return blake2b(parameters.tobytes(), digest_size=16).hexdigest()


@pytest.mark.slow
def test_two_agents_per_process_leave_the_record_of_the_simulator(tmp_path: Path) -> None:
    scenario = cartpole(8, stop__rounds=4)
    collected = collect(processes.run(scenario, RING_8, tmp_path / "peers"), tmp_path / "out")
    assert_equal(collected, p2pfrl.run(scenario))


def test_a_coordinator_in_a_process_leaves_the_record_of_the_simulator(tmp_path: Path) -> None:
    scenario = cartpole(
        4, "central", coordinator__participation={"kind": "uniform", "fraction": 0.5}
    )
    collected = collect(processes.run(scenario, CENTRAL, tmp_path / "peers"), tmp_path / "out")
    simulated = p2pfrl.run(scenario)
    assert_equal(collected, simulated)
    assert set(simulated.metrics["active"]) != {4.0}
    assert collected.metrics["bytes_sent"][-1] == collected.summary["bytes_sent"]


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "groups", [RING_4, RING_8, CENTRAL], ids=["ring of 4", "ring of 8", "central"]
)
def test_ten_times_in_a_row_the_record_is_the_simulators(
    tmp_path: Path, groups: Sequence[Sequence[int]], tls: bool
) -> None:
    mode = "central" if groups is CENTRAL else "gossip"
    scenario = cartpole(8 if groups is RING_8 else 4, mode)
    simulated = p2pfrl.run(scenario)
    for time in range(10):
        root = tmp_path / str(time)
        assert_equal(
            collect(processes.run(scenario, groups, root / "peers", tls=tls), root / "out"),
            simulated,
        )


def test_large_parameters_are_logged_as_projections_that_keep_distances(tmp_path: Path) -> None:
    scenario = cartpole(learner__hidden=[128, 128], stop__rounds=3)
    homes = processes.run(scenario, [[0, 1], [2, 3]], tmp_path / "peers")
    collected, simulated = collect(homes, tmp_path / "out"), p2pfrl.run(scenario)
    assert collected.parameters.shape[1] > 16_384
    assert np.array_equal(collected.parameters, simulated.parameters)
    for name in ("consensus_distance", "consensus_actor", "consensus_critic"):
        np.testing.assert_allclose(collected.metrics[name], simulated.metrics[name], rtol=0.1)
        assert not np.array_equal(collected.metrics[name], simulated.metrics[name])
    np.testing.assert_array_equal(
        collected.metrics["return_mean"], simulated.metrics["return_mean"]
    )
    assert collected.summary["evaluation"] == simulated.summary["evaluation"]
    assert "consensus_distance" in collected.summary["projection"]["estimates"]
    size = sum((home / "journal.bin").stat().st_size for home in homes)
    assert size < 12 * 3 * 1024 * 8 * 1.1 + 4 * collected.parameters[0].nbytes


def test_the_record_counts_every_update_of_a_coordinator_without_rounds(tmp_path: Path) -> None:
    scenario = quadratic(
        2, **{"mode": "central", "schedule": {"kind": "asynchronous"}, "stop.rounds": 10}
    )
    record = collect(processes.run(scenario, [(-1,), (0, 1)], tmp_path), tmp_path / "all")
    assert record.staleness.sum() == 2 * 10


def test_asynchronous_processes_leave_rows_by_the_clock(tmp_path: Path) -> None:
    scenario = quadratic(4, **{"schedule": {"kind": "asynchronous"}, "stop.rounds": 200})
    record = collect(
        processes.run(scenario, [[0, 1], [2, 3]], tmp_path / "peers"), tmp_path / "out"
    )
    with pytest.raises(ScenarioError, match="an asynchronous run of processes cannot be repeated"):
        verify(tmp_path / "out")
    assert main(["verify", str(tmp_path / "out")]) == 2
    seconds = record.metrics["virtual_seconds"]
    assert len(seconds) > 5
    assert np.all(np.diff(seconds) >= 0)
    assert np.all(np.diff(record.metrics["round"]) >= 0)
    away = record.parameters - record.parameters.mean(axis=0)
    assert record.metrics["consensus_distance"][-1] == pytest.approx(
        np.square(away).sum(axis=1).mean() ** 0.5
    )
    assert record.staleness.sum() > 0
    assert record.summary["stopped_by"] == "rounds"
    assert [peer["rounds"] for peer in record.summary["peers"]] == [200, 200]
    assert 400 < record.summary["env_steps"] <= 800, (
        "who is behind catches up, and does fewer updates of its own"
    )
    assert load(tmp_path / "out").summary["mode"] == "gossip"


@pytest.fixture(name="pair")
def write_pair(tmp_path: Path) -> list[Path]:
    scenario = quadratic()
    return [Written(scenario, tmp_path / str(agent), agent).rounds(0, 4).ends() for agent in (0, 1)]


def test_a_process_that_died_counts_until_then(tmp_path: Path) -> None:
    scenario = quadratic()
    whole = Written(scenario, tmp_path / "0", 0).rounds(0, 5).ends()
    dead = Written(scenario, tmp_path / "1", 1).rounds(0, 2).dies()
    record = collect([whole, dead], tmp_path / "out")
    assert record.metrics["active"].tolist() == [2, 2, 2, 1, 1, 1]
    assert record.metrics["consensus_distance"].tolist() == pytest.approx([0.5 * 8] * 3 + [0.0] * 3)
    assert record.parameters[:, 0].tolist() == [5.0, 3.0]
    assert record.summary["stopped_by"] == "died"
    assert record.summary["env_steps"] == 9


def test_a_process_that_was_started_again_goes_on_where_it_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = quadratic()
    whole = Written(scenario, tmp_path / "0", 0).rounds(0, 7).ends()
    Written(scenario, tmp_path / "1", 1).rounds(0, 2).dies()
    again = Written(scenario, tmp_path / "1", 1, incarnation=1).rounds(5, 7).ends(incarnation=1)
    record = collect([whole, again], tmp_path / "out")
    assert record.metrics["active"].tolist() == [2, 2, 2, 1, 1, 2, 2, 2]
    assert record.metrics["bytes_sent"][-1] == record.summary["bytes_sent"] == 1400
    of_second = record.agents["agent"] == 1
    assert record.agents["virtual_seconds"][of_second].tolist() == [1, 2, 3, 4, 5, 6]
    assert record.metrics["virtual_seconds"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert record.summary["peers"][1]["incarnation"] == 1
    assert record.summary["stopped_by"] == "rounds"
    assert "episodes_began_anew" not in record.summary
    monkeypatch.setattr(Assembly, "forgets", "its environments cannot be saved")
    assert collect([whole, again], tmp_path / "out").summary["episodes_began_anew"] is True


def test_a_round_that_was_done_twice_counts_as_the_second_time(tmp_path: Path) -> None:
    scenario = quadratic()
    whole = Written(scenario, tmp_path / "0", 0).rounds(0, 3).ends()
    Written(scenario, tmp_path / "1", 1).rounds(0, 2).dies()
    second = Written(scenario, tmp_path / "1", 1, incarnation=1)
    second.shift = 0.5
    record = collect([whole, second.rounds(2, 3).ends(incarnation=1)], tmp_path / "out")
    assert record.metrics["round"].tolist() == [1, 2, 3, 4]
    assert record.metrics["active"].tolist() == [2, 2, 2, 2]
    assert record.metrics["consensus_distance"].tolist() == [4.0, 4.0, 6.0, 6.0]
    assert record.summary["env_steps"] == 9


def test_an_update_that_was_saved_before_a_kill_counts_once(tmp_path: Path) -> None:
    scenario = quadratic()
    whole = Written(scenario, tmp_path / "0", 0).rounds(0, 3).ends()
    first = Written(scenario, tmp_path / "1", 1).rounds(0, 1)
    first.journal.trained(1, Update(1, 1, 0.5, (2.0,)))
    saved = list(first.journal.updates(1))
    first.journal.mixed(1, 2, {0: 0}, first.row, first.row)
    first.dies()
    second = Written(scenario, tmp_path / "1", 1, incarnation=1)
    second.journal.resume(1, saved)
    second.journal.mixed(1, 2, {0: 0}, second.row, second.row)
    record = collect([whole, second.rounds(3, 3).ends(incarnation=1)], tmp_path / "out")
    assert record.summary["env_steps"] == 8


def test_nobody_waits_for_rounds_that_a_process_left_out(tmp_path: Path) -> None:
    scenario = quadratic()
    whole = Written(scenario, tmp_path / "0", 0).rounds(0, 7).ends()
    hung = Written(scenario, tmp_path / "1", 1).rounds(0, 2).rounds(5, 7).ends()
    record = collect([whole, hung], tmp_path / "out")
    assert record.metrics["active"].tolist() == [2, 2, 2, 1, 1, 2, 2, 2]
    assert record.metrics["virtual_seconds"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_summary_of_an_earlier_life_does_not_speak_for_the_last(tmp_path: Path) -> None:
    scenario = quadratic()
    whole = Written(scenario, tmp_path / "0", 0).rounds(0, 5).ends()
    Written(scenario, tmp_path / "1", 1).rounds(0, 2).ends()
    dead = Written(scenario, tmp_path / "1", 1, incarnation=1).rounds(3, 3).dies()
    record = collect([whole, dead], tmp_path / "out")
    assert record.summary["stopped_by"] == "died"
    assert record.metrics["active"].tolist() == [2, 2, 2, 2, 1, 1]


def test_what_does_not_belong_together_is_refused_by_name(tmp_path: Path, pair: list[Path]) -> None:
    other = Written(quadratic(**{"learner.lr": 0.5}), tmp_path / "other", 1).rounds(0, 4).ends()
    with pytest.raises(
        RecordError, match=r"0/scenario\.toml and .*other/scenario\.toml differ \(learner\.lr"
    ):
        collect([pair[0], other], tmp_path / "out")
    with pytest.raises(RecordError, match="no directory holds agents 1"):
        collect(pair[:1], tmp_path / "out")
    shutil.copytree(pair[1], tmp_path / "copy")
    with pytest.raises(RecordError, match=r"agent 1 lives in .*1 and in .*copy"):
        collect([*pair, tmp_path / "copy"], tmp_path / "out")
    with pytest.raises(RecordError, match=r"nothing/scenario\.toml: missing"):
        collect([pair[0], tmp_path / "nothing"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert collect([*pair, pair[0]], tmp_path / "out").summary["rounds"] == 5


def test_a_torn_end_is_read_up_to_there_and_cut_off_by_the_next_start(
    tmp_path: Path, pair: list[Path]
) -> None:
    path = pair[1] / "journal.bin"
    content = path.read_bytes()
    ends = [position for position, item in Reader(path).scan() if isinstance(item, Entry)]
    path.write_bytes(content[:-1])
    Written(quadratic(), pair[1], 1, incarnation=1).dies()
    assert len([item for _, item in Reader(path).scan() if isinstance(item, Entry)]) == 5
    for cut in (ends[4] + 1, ends[4] + 9, ends[4] + 600):
        path.write_bytes(content[:cut])
        Written(quadratic(), pair[1], 1, incarnation=1).dies()
        assert len([item for _, item in Reader(path).scan() if isinstance(item, Entry)]) == 4
        path.write_bytes(content[:cut])
        (pair[1] / "peer.json").unlink(missing_ok=True)
        assert collect(pair, tmp_path / "out").metrics["active"].tolist() == [2, 2, 2, 2, 1]
        Written(quadratic(), pair[1], 1, incarnation=1).rounds(4, 4).ends(incarnation=1)
        assert collect(pair, tmp_path / "out").metrics["active"].tolist() == [2, 2, 2, 2, 2]


def test_a_flipped_bit_is_refused_by_name_and_in_the_last_entry_counts_as_torn(
    pair: list[Path],
) -> None:
    path = pair[1] / "journal.bin"
    content = path.read_bytes()
    last = [position for position, _ in Reader(path).scan()][-1]
    rng = np.random.default_rng(5)
    for position in [0, 15, 16, 19, 20, 24, *rng.integers(16, last, 60).tolist()]:
        path.write_bytes(flipped(content, position, int(rng.integers(8))))
        with pytest.raises(RecordError, match=r"1/journal\.bin: (damaged|not a journal)"):
            list(Reader(path).scan())
    path.write_bytes(flipped(content, last + 20, 0))
    assert max(position for position, _ in Reader(path).scan()) < last


def flipped(content: bytes, position: int, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[position] ^= 1 << bit
    return bytes(damaged)


def test_zeros_after_a_power_cut_count_as_torn(pair: list[Path]) -> None:
    path = pair[1] / "journal.bin"
    content = path.read_bytes()
    last = [position for position, _ in Reader(path).scan()][-1]
    path.write_bytes(content[:last] + bytes(5_000))
    assert max(position for position, _ in Reader(path).scan()) < last
    path.write_bytes(content[:last] + bytes(5_000) + b"x")
    with pytest.raises(RecordError, match="damaged"):
        list(Reader(path).scan())


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {},
        {"agent": 1},
        {"begin": -1},
        {"begin": True, "agents": [1], "time": 0, "wall": 0, "projected": False},
        {"other": 1},
        {"final": 1, "parameters": "text"},
        {1: 2},
        "text",
        {"excused": 0, "time": 0, "totals": [1, 2]},
    ],
    ids=str,
)
def test_an_entry_that_says_something_else_is_refused_by_name(
    pair: list[Path], entry: object
) -> None:
    path = pair[1] / "journal.bin"
    path.write_bytes(MAGIC + framed(msgpack.packb(entry)))
    with pytest.raises(RecordError, match=r"1/journal\.bin: damaged at byte 16"):
        list(Reader(path).scan())


def test_parameters_of_another_size_are_refused_by_name(tmp_path: Path, pair: list[Path]) -> None:
    shutil.rmtree(pair[1])
    Written(quadratic(**{"learner.dimension": 32}), pair[1], 1).rounds(0, 4).ends()
    (pair[1] / "scenario.toml").write_bytes((pair[0] / "scenario.toml").read_bytes())
    with pytest.raises(
        RecordError, match=r"1/journal\.bin: round 0 of agent 1: expected 512 bytes"
    ):
        collect(pair, tmp_path / "out")


def test_a_pickle_is_no_journal(pair: list[Path]) -> None:
    (pair[1] / "journal.bin").write_bytes(pickle.dumps({"agent": 1}))
    with pytest.raises(RecordError, match=r"1/journal\.bin: not a journal"):
        list(Reader(pair[1] / "journal.bin").scan())
