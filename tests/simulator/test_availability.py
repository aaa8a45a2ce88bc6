from pathlib import Path

import pytest

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.laws.runs import play
from p2pfrl.simulator.availability import Presence


def read(tmp_path, text, agents=4):
    file = tmp_path / "trace.csv"
    file.write_text(text, encoding="utf-8")
    return Presence.read(file, agents)


def test_a_trace_says_when_whom_is_there_and_others_always_are(tmp_path):
    presence = read(
        tmp_path, "agent, from, until\n# nights\n3, 10s, 20s  # first\n\n3,1min,90\n0,0,500ms\n"
    )
    assert presence.has(3)
    assert not presence.has(1)
    times = (9.99, 10.0, 19.99, 20.0, 59.0, 60.0, 89.0, 90.0)
    assert [presence.is_there(3, t) for t in times] == [
        False,
        True,
        True,
        False,
        False,
        True,
        True,
        False,
    ]
    assert [presence.is_there(0, t) for t in (0.0, 0.49, 0.5)] == [True, True, False]


@pytest.mark.parametrize(
    "line",
    [
        "4,0,1",
        "-1,0,1",
        "1,2,2",
        "1,3,2",
        "1,0",
        "1,0,1,2",
        "x,0,1",
        "1.5,0,1",
        "1,-1,1",
        "1,nan,2",
        "1,0,inf",
        "1,0,1kB",
    ],
)
def test_a_line_that_means_nothing_is_named(tmp_path, line):
    with pytest.raises(
        P2PFRLError, match=r"trace.csv:2: expected `agent,from,until` with an agent below 4"
    ):
        read(tmp_path, f"1,0,1\n{line}\n")


def test_files_that_are_missing_huge_or_no_text_are_refused(tmp_path):
    with pytest.raises(P2PFRLError, match="cannot read"):
        Presence.read(tmp_path / "none.csv", 4)
    with pytest.raises(P2PFRLError, match="at most 1048576 bytes"):
        read(tmp_path, "#" * (2**20 + 1))
    (tmp_path / "binary.csv").write_bytes(b"1,0,1\n\xff\xfe\x00")
    with pytest.raises(P2PFRLError, match=r"binary.csv:2:1: not UTF-8 text"):
        Presence.read(tmp_path / "binary.csv", 4)


def test_a_trace_of_another_editor_is_read_or_named(tmp_path):
    file = tmp_path / "trace.csv"
    file.write_bytes(b"\xef\xbb\xbfagent,from,until\r\n1,0s,1s\r\n")
    assert Presence.read(file, 4).is_there(1, 0.5)
    file.write_bytes("1,0s,1s\n".encode("utf-16"))
    with pytest.raises(P2PFRLError, match=r"trace.csv:1:1: expected UTF-8 text, got UTF-16"):
        Presence.read(file, 4)


def test_a_trace_says_when_an_agent_and_when_the_first_one_is_there_next(tmp_path):
    presence = read(tmp_path, "0,1s,2s\n0,5s,6s\n1,0.3000000004s,4s\n", agents=2)
    s = 10**9
    assert [presence.next(0, t) for t in (0, s, 2 * s, 6 * s)] == [s, s, 5 * s, None]
    assert presence.next(1, 0) == 300_000_001, "not before its time"
    assert [presence.first(2, t) for t in (0, s, 4 * s, 6 * s)] == [300_000_001, s, 5 * s, None]
    assert presence.first(3, 0) == 0, "an agent that the trace does not name is always there"


PPO = {"learner": {"kind": "ppo", "steps": 16}, "environment": {"id": "pendulum", "instances": 1}}
MODES: dict[str, dict[str, object]] = {
    "gossip": {},
    "independent": {},
    "central": {},
    "hierarchical": {"hierarchy": {"edges": 2}},
    "pooled": {**PPO, "evaluation": {"episodes": 0}},
}


def traced(tmp_path: Path, mode: str, lines: str, rounds: int = 6, **tables: object):
    file = tmp_path / "trace.csv"
    file.write_text(lines, encoding="utf-8")
    common = {"availability": {"trace": str(file)}, "compute": {"seconds_per_env_step": "1s"}}
    return play(2, rounds, mode=mode, **{**MODES[mode], **common, **tables})


@pytest.mark.parametrize("mode", MODES)
def test_a_round_waits_until_somebody_is_there(tmp_path, mode):
    record = traced(tmp_path, mode, "0,10s,1h\n1,10s,1h\n")
    assert record.summary["stopped_by"] == "rounds"
    assert record.metrics["virtual_seconds"][0] > 10
    assert record.summary["env_steps"] == 6 * 2 * (16 if mode == "pooled" else 1)


@pytest.mark.parametrize("mode", MODES)
def test_whoever_is_away_does_not_run_ahead_of_the_others(tmp_path, mode):
    record = traced(tmp_path, mode, "0,0s,1h\n1,3s,1h\n")
    steps = 16 if mode == "pooled" else 1
    away = {"independent": 0, "pooled": 1}.get(mode, 3)
    assert record.summary["env_steps"] == steps * (12 - away)


ALONE = {"push": {}, "pairwise": {"mixing": {"kind": "pairwise"}}}


@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ("0,10s,1h\n1,10s,1h\n", 16),
        ("0,0s,1h\n1,0s,2500ms\n1,8s,1h\n", 9),
        ("0,0s,1h\n1,0s,2500ms\n", 9),
    ],
)
def test_who_waits_for_nobody_trains_while_it_is_there(tmp_path, kind, lines, seconds):
    asynchronous = {"schedule": {"kind": "asynchronous"}, **ALONE[kind]}
    record = traced(tmp_path, "gossip", lines, **asynchronous)
    assert record.summary["stopped_by"] == "rounds"
    assert 12 <= record.summary["env_steps"] <= 13  # two updates may end at one time
    assert seconds <= record.summary["virtual_seconds"] < seconds + 1
    trained = [(at.start, at.end) for at in record.timeline if (at.kind, at.agent) == ("train", 1)]
    assert all(start >= 8 or end <= 3 for start, end in trained)
    assert trained


def test_whoever_is_away_and_cut_off_waits_for_its_own_time(tmp_path):
    crash = {"kind": "crash", "at": 0.5, "agents": [0]}
    record = traced(tmp_path, "gossip", "1,100s,1h\n", faults=(crash,))
    assert record.summary["env_steps"] >= 5


@pytest.mark.parametrize("mode", MODES)
def test_a_run_ends_where_nobody_will_be_there_again_and_says_so(tmp_path, mode):
    record = traced(tmp_path, mode, "0,0s,3s\n1,0s,3s\n", rounds=60, stop={"virtual_time": "1h"})
    assert record.summary["stopped_by"] == "agents_gone"
    assert record.summary["rounds"] < 60
