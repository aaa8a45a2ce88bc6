"""A record survives its files exactly; whatever is not a record is refused by name."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import record

from p2pfrl.core.errors import RecordError
from p2pfrl.core.graph import Graph
from p2pfrl.results.faults import Happened
from p2pfrl.results.files import decode_csv
from p2pfrl.results.record import Event, Interval, Record, contents, load, save
from p2pfrl.results.trace import encode_trace


def equal(a: Record, b: Record) -> None:
    assert a.scenario == b.scenario
    assert a.graph == b.graph
    assert (a.lambda_2, a.layout, a.timeline, a.heterogeneity, a.events) == (
        b.lambda_2,
        b.layout,
        b.timeline,
        b.heterogeneity,
        b.events,
    )
    for x, y in ((a.metrics, b.metrics), (a.agents, b.agents), (a.problem, b.problem)):
        assert list(x) == list(y)
        for name in x:
            assert x[name].dtype == y[name].dtype, name
            np.testing.assert_array_equal(x[name], y[name], err_msg=name)
    assert a.parameters.dtype == b.parameters.dtype
    np.testing.assert_array_equal(a.parameters, b.parameters)
    np.testing.assert_array_equal(a.staleness, b.staleness)


@pytest.mark.parametrize("n", [1, 2, 16])
@pytest.mark.parametrize("quadratic", [False, True])
def test_a_record_survives_its_files_bit_for_bit(tmp_path: Path, n: int, quadratic: bool) -> None:
    original = record(n, rounds=5, quadratic=quadratic, vary=n > 2, trace=True)
    saved = save(original, tmp_path / "run")
    again = load(tmp_path / "run")
    equal(original, again)
    assert saved.directory == again.directory == tmp_path / "run"
    for key, value in original.summary.items():
        if not isinstance(value, dict) and value is not None:
            assert again.summary[key] == value, key


def test_floats_of_every_size_survive(tmp_path: Path) -> None:
    hard = np.array(
        [
            0.1,
            1 / 3,
            5e-324,
            1.7976931348623157e308,
            -0.0,
            math.inf,
            -math.inf,
            math.nan,
            1e22,
            123456789.0,
        ]
    )
    original = record(2, rounds=len(hard))
    save(replace(original, metrics=original.metrics | {"objective": hard, "round": hard}), tmp_path)
    again = load(tmp_path)
    assert again.metrics["objective"].tobytes() == hard.tobytes()
    assert again.metrics["round"].tobytes() == hard.tobytes() or again.metrics["round"][4] == 0.0


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    original = record(3, rounds=3, quadratic=True, trace=True)
    for copy in range(8):
        save(original, tmp_path / str(copy))
    for path in (tmp_path / "0").iterdir():
        assert len({(tmp_path / str(copy) / path.name).read_bytes() for copy in range(8)}) == 1, (
            path.name
        )


def test_graph_with_links_places_and_names_survives(tmp_path: Path) -> None:
    graph = Graph(
        ((1,), (0, 2), ()),
        {(0, 1): 0.1},
        {(1, 2): 1.25e7},
        ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0)),
        ("a", "b", "ç"),
    )
    save(replace(record(3, rounds=2), graph=graph), tmp_path)
    assert load(tmp_path).graph == graph


def test_nan_in_the_summary_becomes_null(tmp_path: Path) -> None:
    original = record(2, rounds=2)
    save(replace(original, summary=original.summary | {"mean_drift": math.nan}), tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["mean_drift"] is None


def test_a_record_without_rows_survives(tmp_path: Path) -> None:
    original = record(2, rounds=2)
    empty = {name: values[:0] for name, values in original.metrics.items()}
    save(replace(original, metrics=empty, timeline=(), staleness=original.staleness[:0]), tmp_path)
    again = load(tmp_path)
    assert all(len(values) == 0 for values in again.metrics.values())
    assert again.timeline == ()


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_every_damaged_file_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    save(record(3, rounds=3, quadratic=True, trace=True), tmp_path / "good")
    names = sorted(path.name for path in (tmp_path / "good").iterdir())
    assert len(names) == 11
    for name in names:
        bad = tmp_path / f"{damage}-{name}"
        shutil.copytree(tmp_path / "good", bad)
        content = (bad / name).read_bytes()
        middle = len(content) // 2
        match damage:
            case "flip":
                (bad / name).write_bytes(
                    content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :]
                )
            case "truncate":
                (bad / name).write_bytes(content[: middle - 1])
            case "empty":
                (bad / name).write_bytes(b"")
            case _:
                (bad / name).unlink()
        with pytest.raises(RecordError, match=name.replace(".", r"\.")):
            load(bad)


@pytest.mark.parametrize(
    "foreign", [b"{}", b"[]", b"3", b'{"format": "other"}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_foreign_summary_is_refused(tmp_path: Path, foreign: bytes) -> None:
    (tmp_path / "summary.json").write_bytes(foreign)
    with pytest.raises(RecordError, match=r"summary\.json"):
        load(tmp_path)


def test_files_outside_the_run_directory_are_never_opened(tmp_path: Path) -> None:
    save(record(2, rounds=2), tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text())
    summary["files"] |= {"../secret": "00"}
    path.write_text(json.dumps(summary))
    with pytest.raises(RecordError, match="not a file of a run directory"):
        load(tmp_path / "run")


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="missing"):
        load(tmp_path / "nothing")


def test_an_interrupted_save_leaves_no_complete_record(tmp_path: Path) -> None:
    save(record(2, rounds=2), tmp_path)
    broken = replace(
        record(2, rounds=2), metrics={"round": np.arange(2.0), "short": np.arange(1.0)}
    )
    with pytest.raises(ValueError, match="shorter"):
        save(broken, tmp_path)
    with pytest.raises(RecordError, match=r"summary\.json"):
        load(tmp_path)


_NUMBERS = (int, float)
_KEYS = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "X": {"name": str, "cat": str, "pid": int, "tid": int, "ts": _NUMBERS, "dur": _NUMBERS},
    "s": {"name": str, "cat": str, "pid": int, "tid": int, "ts": _NUMBERS, "id": str, "bp": str},
    "f": {"name": str, "cat": str, "pid": int, "tid": int, "ts": _NUMBERS, "id": str, "bp": str},
    "i": {"name": str, "cat": str, "pid": int, "tid": int, "ts": _NUMBERS, "s": str},
}
"""What Google's Trace Event Format asks of the phases that are used: keys and their types."""


def check_trace(content: bytes) -> list[dict[str, Any]]:
    """Return the rows of a trace that keeps to the Trace Event Format."""
    trace = json.loads(content)
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    rows: list[dict[str, Any]] = trace["traceEvents"]
    for row in rows:
        for key, kind in _KEYS[row["ph"]].items():
            assert isinstance(row[key], kind), row
        assert min(row["pid"], row["tid"]) > 0, "0 is the idle process of the system"
        assert row.get("ts", 0) >= 0
        assert row.get("dur", 0) >= 0
        if row["ph"] in "sf":
            assert row["bp"] == "e"
        if row["ph"] == "i":
            assert row["s"] in "tpg"
    named = {r["tid"] for r in rows if r["ph"] == "M" and r["name"] == "thread_name"}
    assert {r["tid"] for r in rows} == named
    for track in named:
        slices = [
            (r["ts"], r["ts"] + r["dur"]) for r in rows if r["ph"] == "X" and r["tid"] == track
        ]
        open_: list[float] = []
        for start, end in sorted(slices, key=lambda one: (one[0], -one[1])):
            while open_ and open_[-1] <= start + 1e-6:
                open_.pop()
            assert not open_ or end <= open_[-1] + 1e-6, "slices of a track overlap"
            open_.append(end)
    return rows


def test_the_trace_is_one_that_perfetto_opens(tmp_path: Path) -> None:
    original = record(4, rounds=3, trace=True)
    save(original, tmp_path)
    rows = check_trace((tmp_path / "trace.json").read_bytes())
    starts = {r["id"] for r in rows if r["ph"] == "s"}
    ends = {r["id"] for r in rows if r["ph"] == "f"}
    assert starts == ends
    assert len(starts) == 8
    names = {r["args"]["name"] for r in rows if r["name"] == "thread_name"}
    assert names == {f"agent {i}{what}" for i in range(4) for what in ("", " events")}
    assert sum(r["ph"] == "X" and r["cat"] == "timeline" for r in rows) == len(original.timeline)


def test_faults_are_instants_of_the_trace_and_messages_of_a_second_start_have_names_of_their_own() -> (
    None
):
    sent, arrived = ("send", 0, 1, 0, 7), ("deliver", 0, 1, 0, 7)
    lost = ("drop", 0, 1, 0, 7)
    kinds = (sent, arrived, sent, lost, sent, sent, arrived, arrived, arrived)
    events = [Event(1_000 * at, *kind) for at, kind in enumerate(kinds)]
    faults = [Happened(2e-6, "crash", (0, -1)), Happened(3e-6, "partition", ())]
    rows = check_trace(encode_trace(events, (), 2, faults, "ring, seed 1"))
    arrows = [(r["ph"], r["id"]) for r in rows if r["ph"] in "sf"]
    names = ["0-1-0", "0-1-0", "0-1-0.2", "0-1-0.3", "0-1-0.4", "0-1-0.3", "0-1-0.4", "0-1-0.4"]
    assert arrows == list(zip("sfsssfff", names, strict=True))
    tracks = {r["tid"]: r["args"]["name"] for r in rows if r["name"] == "thread_name"}
    found = [(r["name"], r["s"], tracks[r["tid"]], r["ts"]) for r in rows if r["ph"] == "i"]
    assert found == [
        ("crash", "t", "agent 0", 2.0),
        ("crash", "t", "coordinator", 2.0),
        ("partition", "g", "agent 0", 3.0),
    ]
    assert [r["args"]["name"] for r in rows if r["name"] == "process_name"] == ["ring, seed 1"]


def test_the_trace_of_a_record_has_the_faults_of_its_scenario(tmp_path: Path) -> None:
    faults = '[[faults]]\nat = "0s"\nkind = "crash"\nagents = [2]\n'
    original = replace(record(4, rounds=3, trace=True), scenario=faults)
    rows = check_trace(contents(original)["trace.json"])
    assert [(r["name"], r["args"]) for r in rows if r["ph"] == "i"] == [("crash", {"agents": [2]})]


def test_what_happens_at_a_time_has_tracks_of_its_own() -> None:
    timeline = [
        Interval(0, "train", 0.0, 3e-6),
        Interval(0, "send", 2e-6, 4e-6),
        Interval(0, "train", 3e-6, 6e-6),
        Interval(-1, "wait", 0.0, 1e-6),
        Interval(-2, "wait", 0.0, 1e-6),
    ]
    events = [Event(1_000 + k, "send", -1, k, 3, 9) for k in (0, 0, 499, 500)]
    rows = check_trace(encode_trace([*events, Event(2_000, "deliver", -1, 0, 3, 9)], timeline, 2))
    names = {r["tid"]: r["args"]["name"] for r in rows if r["name"] == "thread_name"}
    found = [(names[r["tid"]], r["name"]) for r in rows if r["ph"] == "X"]
    assert found == [
        ("coordinator", "wait"),
        ("edge0", "wait"),
        ("agent 0", "train"),
        ("agent 0 (2)", "send"),
        ("agent 0", "train"),
        ("coordinator events", "send"),
        ("coordinator events (2)", "send"),
        ("coordinator events (3)", "send"),
        ("coordinator events", "send"),
        ("agent 0 events", "deliver"),
    ]
    order = {r["tid"]: r["args"]["sort_index"] for r in rows if r["name"] == "thread_sort_index"}
    by_order = [names[track] for track in sorted(order, key=lambda t: (order[t], t))]
    assert by_order.index("agent 0 events") < by_order.index("agent 1")


def test_reading_a_record_imports_neither_torch_nor_matplotlib() -> None:
    heavy = {"torch", "matplotlib", "pandas", "scipy"}
    code = f"import sys, p2pfrl.results.record; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_record_in_the_place_of_another_leaves_nothing_of_it(tmp_path: Path) -> None:
    save(record(), tmp_path)
    for old in ("figures/return.svg", "figures/return.png", "report.html", "trace.json"):
        (tmp_path / old).parent.mkdir(exist_ok=True)
        (tmp_path / old).write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    save(record(), tmp_path)
    assert not list((tmp_path / "figures").iterdir())
    assert not (tmp_path / "report.html").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_repr_is_one_line_that_says_which_run_it_is(tmp_path: Path) -> None:
    made = record(4, rounds=300, seed=7)
    assert "array" not in repr(made)
    assert repr(made).startswith(f"<Record {made.name!r}: mode=gossip, seed=7, rounds=")
    assert repr(made).endswith(f"agents=4, digest={made.summary['digest']}, not saved>")
    assert repr(save(made, tmp_path / "run")).endswith(f"directory={str(tmp_path / 'run')!r}>")


def test_a_table_of_many_blocks_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"a,b,c\n1,2,x\n3,-4,yy\n5,6.5,z\n7,nan,\n9,1,w\n"
    whole = decode_csv(content, words=("c",))
    monkeypatch.setattr("p2pfrl.results.files._BLOCK", 2)
    found = decode_csv(content, words=("c",))
    assert found["a"].dtype == np.int64
    assert found["a"].tolist() == [1, 3, 5, 7, 9]
    assert found["b"].dtype == np.float64
    assert np.array_equal(found["b"], [2.0, -4.0, 6.5, np.nan, 1.0], equal_nan=True)
    assert found["c"].tolist() == ["x", "yy", "z", "", "w"]
    assert {name: values.dtype for name, values in found.items()} == {
        name: values.dtype for name, values in whole.items()
    }
    with pytest.raises(ValueError, match="line 5 has 1 cells, expected 2"):
        decode_csv(b"a,b\n1,2\n3,4\n5,6\n7\n")
    assert decode_csv(b"a,b\n")["a"].dtype == np.float64
