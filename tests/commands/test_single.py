"""The line about single agents on a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import p2pfrl
from p2pfrl.commands import progress, single
from p2pfrl.commands.single import Agents, Single
from p2pfrl.deploy.status import Status

FAULTS = [
    {"at": "500ms", "kind": "crash", "agents": [2]},
    {"at": "900s", "kind": "restart", "agents": [2]},
]
VIEW = {
    "rounds": [9, 4, 9],
    "best": [[0, 200.0], [2, 150.0]],
    "worst": [[1, 7.25]],
    "down": [-1, 2],
    "virtual_seconds": 1.0,
}


def test_the_line_names_best_and_worst_who_is_behind_and_down_and_faults(tmp_path: Path) -> None:
    (tmp_path / "live.json").write_text(json.dumps(VIEW))
    scenario = p2pfrl.load("ring_16", {"faults": FAULTS, "schedule.deadline": "1s"})
    assert Single(tmp_path, scenario)() == (
        "best 0 (200), 2 (150)  worst 1 (7.25)  behind 1 (5 rounds)  down coordinator, 2  "
        "fault: crash of 2 at 0.5 s, 1 to come"
    )


def test_before_anything_is_known_there_is_no_line(tmp_path: Path) -> None:
    assert Single(tmp_path, p2pfrl.load("ring_16"))() == ""


def test_of_processes_the_line_is_from_their_status(tmp_path: Path) -> None:
    for agent, rounds in ((0, 5), (1, 3)):
        folder = tmp_path / "peers" / str(agent)
        folder.mkdir(parents=True)
        own = {str(agent): [rounds, 10.0 * agent, None, 7]}
        Status((agent,), rounds, 9, None, 1.0, 7, 0, 1, {}, 5.0, progress=own).write(folder)
    assert Agents.of(tmp_path).line() == (
        "best 1 (10), 0 (0)  worst 0 (0), 1 (10)  behind 1 (2 rounds)"
    )


def test_the_files_are_read_once_a_second_at_most(tmp_path: Path) -> None:
    line = Single(tmp_path, p2pfrl.load("ring_16"))
    assert line() == ""
    (tmp_path / "live.json").write_text(json.dumps(VIEW))
    assert line() == ""
    line._due -= single.PERIOD
    assert line().startswith("best 0")


def test_the_live_display_shows_the_line(tmp_path: Path, capsys) -> None:
    scenario = p2pfrl.load("ring_16")
    shown = progress._live(scenario, lambda: "best 0 (200)")
    watcher = next(shown)
    watcher.working("agent 3, update 0, step 7")
    next(shown, None)
    assert "best 0 (200)" in capsys.readouterr().err
