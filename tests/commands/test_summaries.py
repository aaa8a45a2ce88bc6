"""The summary that commands print, in words."""

import pytest
from factory import record

from p2pfrl.commands.summaries import describe
from p2pfrl.laws.runs import play
from p2pfrl.scenario.modes import MODES


def test_a_run_with_attacks_says_who_lied() -> None:
    known = {**record(4, rounds=2).summary, "stopped_by": "rounds"}
    found = {"agents": [1, 2], "refused": {"1": 3, "2": 1000}, "final_return": None}
    assert describe({**known, "byzantine": found})["byzantine"] == (
        "agents 1-2, 1,003 of their messages refused; returns are those of the others"
    )
    assert "byzantine" not in describe(known)


def test_a_run_of_which_a_process_died_says_which() -> None:
    peers = [
        {"agents": [0, 1], "stopped_by": "rounds"},
        {"agents": [2, 3], "stopped_by": "died"},
        {"agents": [-1], "stopped_by": "died"},
    ]
    known = record(4, rounds=2).summary
    assert describe({**known, "stopped_by": "died", "peers": peers})["stopped by"] == (
        "the death of a process (coordinator+2-3)"
    )
    assert describe({**known, "stopped_by": "target_return"})["stopped by"] == "target return"


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_has_a_summary_and_a_drift_where_agents_mix(mode: str) -> None:
    lines = describe(play(4, 1, mode=mode).summary)
    assert lines["rounds"] == "1"
    assert ("drift of the mean" in lines) == (mode != "pooled")
