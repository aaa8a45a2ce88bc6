"""Journals of long runs have entries of some rounds only, and these are as in a short run."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import processes
import pytest
from safetensors.numpy import save_file
from written import Written, quadratic

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Layout, Tensor
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.journal import Reader
from p2pfrl.deploy.thinning import Thinning, entry_bytes, thinning_of
from p2pfrl.results.record import Record
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import outline

QUADRATIC = Path(__file__).parents[1] / "hosts" / "quadratic_ring.toml"


@pytest.mark.parametrize("every", [1, 5, 7, 10, 1000])
@pytest.mark.parametrize("rows", [1, 2, 3, 10, 999])
@pytest.mark.parametrize("rounds", [1, 2, 7, 10, 11, 1000, 1001])
def test_of_a_known_number_of_rounds_at_most_so_many_have_entries_and_the_last_has(
    rounds: int, rows: int, every: int
) -> None:
    thinning = Thinning(rows, rounds, every)
    kept = [round for round in range(rounds) if thinning.keeps(round)]
    assert len(kept) == thinning.entries <= rows
    assert kept[-1] == rounds - 1
    assert len(kept) == rounds or rounds > rows
    assert len(set(np.diff(kept[:-1]))) <= 1, "they are equally far apart"


@pytest.mark.parametrize("rows", [46, 100, 1000])
def test_without_a_number_of_rounds_the_interval_doubles_and_the_number_is_bounded(
    rows: int,
) -> None:
    thinning = Thinning(rows, None)
    dense = (rows - 30) // 16
    assert all(thinning.keeps(round) for round in range(dense))
    ends = [0, *(dense * 2**k for k in range(31))]
    for first, last in pairwise(ends[1:]):
        assert thinning.stride(first) == thinning.stride(last - 1) == 2 * thinning.stride(first - 1)
    counts = [-(-(last - first) // thinning.stride(first)) for first, last in pairwise(ends)]
    assert sum(counts) <= rows, "of 2^30 times as many rounds as those that all have entries"


def test_entries_are_at_rounds_of_evaluations_if_that_costs_at_most_half_of_them() -> None:
    assert Thinning(100, 1000, 4).stride(0) == 12
    assert Thinning(100, 1000, 50).stride(0) == 10
    assert Thinning(100, 900, 10).stride(0) == 10
    assert Thinning(100, 1100, 97).stride(0) == 11, "97 is too far away"


def bounded(mode: str, **overrides: object) -> Scenario:
    tables = {"mode": mode, "agents": 3, "stop.rounds": 24, "evaluation.every": 1}
    return p2pfrl.load(QUADRATIC, {**tables, **overrides})


def assert_rows(thin: Record, whole: Record, kept: list[int]) -> None:
    """Check that a record has exactly the rows of some rounds of another one."""
    assert thin.metrics["round"].tolist() == [round + 1 for round in kept]
    for name in ("env_steps", "return_mean", "objective", "consensus_distance", "active"):
        np.testing.assert_array_equal(thin.metrics[name], whole.metrics[name][kept], err_msg=name)
    drift = whole.metrics["mean_drift"][kept]
    np.testing.assert_allclose(thin.metrics["mean_drift"], drift, rtol=1e-12, atol=1e-12)
    assert thin.metrics["bytes_sent"][-1] == whole.metrics["bytes_sent"][-1]
    rows = np.isin(whole.agents["round"], thin.metrics["round"])
    for name in ("agent", "return", "episodes", "loss", "disagreement", "bytes_sent"):
        own, other = (
            table[name][np.lexsort((table["agent"], table["round"]))]
            for table in (thin.agents, {k: v[rows] for k, v in whole.agents.items()})
        )
        np.testing.assert_array_equal(own, other, err_msg=name)
    np.testing.assert_array_equal(thin.staleness, whole.staleness)
    assert thin.summary["parameters_digest"] == whole.summary["parameters_digest"]
    assert thin.summary["rounds"] == whole.summary["rounds"]


def test_entries_carry_the_totals_of_the_rounds_without(tmp_path: Path) -> None:
    size = entry_bytes(outline(quadratic()).layout)
    records = []
    for rows in (60, 12):
        scenario = quadratic(**{"stop.rounds": 60, "checkpoint.journal": rows * size})
        home = tmp_path / str(rows)
        homes = [
            Written(scenario, home / str(agent), agent).rounds(0, 59).ends() for agent in (0, 1)
        ]
        records.append(collect(homes, home / "out"))
        written = [path.stat().st_size for path in home.glob("?/journal.bin")]
        assert max(written) < rows * size
    whole, thin = records
    assert "journal" not in whole.summary
    assert thin.summary["journal"] == {"every": 5}
    assert_rows(thin, whole, list(range(4, 60, 5)))
    assert thin.agents["episodes"].max() == 60
    assert thin.metrics["mean_drift"][-1] > 1


def test_a_process_that_died_between_two_entries_ends_with_its_checkpoint(tmp_path: Path) -> None:
    scenario = quadratic(**{"stop.rounds": 60, "checkpoint.journal": "20kB"})
    homes = [
        Written(scenario, tmp_path / str(agent), agent).rounds(0, 33).dies() for agent in (0, 1)
    ]
    ends = [5.0, 6.0]
    for home, value in zip(homes, ends, strict=True):
        (home / "checkpoints").mkdir()
        layout = outline(scenario).layout
        row = np.full(layout.stride, value, dtype=layout.dtype)
        save_file({"parameters": row}, home / "checkpoints" / f"agent-{int(home.name)}.safetensors")
    record = collect(homes, tmp_path / "out")
    assert record.parameters[:, 0].tolist() == ends
    assert record.summary["rounds"] < 34


def test_what_passed_between_entries_is_part_of_a_checkpoint(tmp_path: Path) -> None:
    scenario = quadratic(**{"stop.rounds": 60, "checkpoint.journal": "20kB"})
    first = Written(scenario, tmp_path / "1", 1).rounds(0, 32)
    kept = first.journal.updates(1)
    first.dies()
    again = Written(scenario, tmp_path / "1", 1, incarnation=1)
    again.journal.resume(1, kept)
    again.rounds(33, 59).ends(incarnation=1)
    other = Written(scenario, tmp_path / "0", 0).rounds(0, 59).ends()
    record = collect([other, tmp_path / "1"], tmp_path / "out")
    assert record.summary["env_steps"] == 120
    assert record.agents["episodes"].max() == 60


def test_a_thinned_record_has_the_simulators_rows_of_the_rounds_that_it_has(
    tmp_path: Path,
) -> None:
    mode, groups = "central", [[-1, 0], [1, 2]]
    size = entry_bytes(outline(bounded(mode)).layout)
    scenario = bounded(mode, **{"checkpoint.journal": 5 * size})
    homes = processes.run(scenario, groups, tmp_path / "peers")
    for home, agents in zip(homes, groups, strict=True):
        journal = home / "journal.bin"
        assert journal.stat().st_size < 5 * size * len(agents)
        assert len(list(Reader(journal).scan())) < 60
    collected, simulated = collect(homes, tmp_path / "out"), p2pfrl.run(scenario)
    assert collected.summary["journal"] == {"every": 5}
    assert_rows(collected, simulated, [4, 9, 14, 19, 23])


def test_validate_says_how_large_journals_become_and_of_which_rounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["validate", str(QUADRATIC), "--json"]

    def told(*more: str) -> dict[str, float]:
        assert main([*words, *more]) == 0
        found = json.loads(capsys.readouterr().out)
        return {key: value for key, value in found.items() if key.startswith("journal_")}

    short = told("--set", "stop.rounds=10")
    assert short["journal_every"] == 1
    assert short["journal_at_most"] == 10 * short["journal_per_round"]
    limited = told("--set", "stop.rounds=100000", "--set", "checkpoint.journal=1MB")
    assert limited["journal_every"] > 100
    assert limited["journal_at_most"] <= 1e6 * p2pfrl.load(QUADRATIC).agents
    scenario = tmp_path / "endless.toml"
    scenario.write_text(QUADRATIC.read_text().replace("rounds = 20", "virtual_time = '1d'"))
    words[1] = str(scenario)
    endless = told("--set", "checkpoint.journal=1MB")
    assert endless["journal_every"] is None
    assert endless["journal_at_most"] <= 1e6 * p2pfrl.load(QUADRATIC).agents
    with pytest.raises(ScenarioError, match=r"checkpoint\.journal"):
        p2pfrl.load(QUADRATIC, {"checkpoint.journal": "1kB"})


def test_how_many_entries_fit_follows_from_what_an_entry_has_at_most() -> None:
    small = Layout((Tensor("actor.w", (100,)), Tensor("critic.w", (28,))), "float32")
    assert entry_bytes(small) == 1200 + 3 * 128 * 4
    edge = Layout((Tensor("actor.w", (16_384,)),), "float64")
    assert entry_bytes(edge) == 1200 + 3 * 16_384 * 8
    large = Layout((Tensor("actor.w", (16_384,)), Tensor("critic.w", (1,))), "float32")
    assert entry_bytes(large) == 1200 + 8 * 1024 * 3, "projections of both parts and of the change"


@pytest.mark.parametrize("mode", ["gossip", "central", "hierarchical"])
@pytest.mark.parametrize("agents", [4, 1000])
def test_a_coordinator_s_notes_of_all_updates_fit_too(mode: str, agents: int) -> None:
    layout = outline(quadratic(4)).layout
    tables = {"mode": mode, "checkpoint.journal": "10MB", "stop.rounds": 100_000}
    rows = thinning_of(quadratic(agents, **tables), layout).rows
    notes = 0 if mode == "gossip" else 128 + 64 * agents
    assert rows == 10**7 // max(entry_bytes(layout), notes)
    whole = thinning_of(quadratic(agents, mode=mode), layout)
    assert whole.rows == 2**30 // max(entry_bytes(layout), notes)
    assert (whole.rounds, whole.every) == (20, 10)
