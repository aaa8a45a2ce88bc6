"""Checkpoints survive a crash at every step, and refuse what is not theirs."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from p2pfrl.core.errors import RecordError
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.quadratic import Quadratic
from p2pfrl.learning.trainer import Trainer
from p2pfrl.net.checkpoint import Checkpoints, _digest
from p2pfrl.net.fleet import Fleet

STEPS = ("write", "file", "keep", "place", "place without links", "directory")


def trainer(dimension: int = 8) -> Trainer:
    return Trainer(Quadratic(dimension=dimension, noise=0.1).prepare(Task(3, 2)), 2)


def two_rounds(directory: Path) -> tuple[Checkpoints, list[np.ndarray], Trainer]:
    """Save agent 0 after rounds 0 and 1; return what it was then."""
    checkpoints, ours, seen = Checkpoints(directory, "scenario"), trainer(), []
    checkpoints.incarnation()
    for round in range(2):
        ours.update([0])
        checkpoints.save(0, round, ours)
        seen.append(ours.snapshot(0).parameters)
    return checkpoints, seen, ours


def restored(directory: Path) -> tuple[int, np.ndarray, list[str]]:
    checkpoints, fresh = Checkpoints(directory, "scenario"), trainer()
    first = checkpoints.restore(0, fresh)
    return first, fresh.snapshot(0).parameters, checkpoints.problems


def test_an_agent_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    checkpoints, _, ours = two_rounds(tmp_path)
    again = trainer()
    assert checkpoints.restore(0, again) == 2
    assert ours.update([0])[0].loss == again.update([0])[0].loss
    np.testing.assert_array_equal(ours.snapshot(0).parameters, again.snapshot(0).parameters)


@pytest.mark.parametrize("step", STEPS)
def test_an_error_at_any_step_leaves_a_good_checkpoint(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, seen, ours = two_rounds(tmp_path)
    ours.update([0])
    calls = {"fsync": 0, "link": 0, "replace": 0}
    fail_at = {
        "file": [("fsync", 1)],
        "directory": [("fsync", 2)],
        "keep": [("link", 1), ("replace", 1)],  # no hard links, and no renames either
        "place": [("replace", 1)],
        "place without links": [("link", 1), ("replace", 2)],
    }

    def failing(name: str, real: object) -> object:
        def call(*args: object) -> object:
            calls[name] += 1
            if (name, calls[name]) in fail_at.get(step, []):
                raise OSError(28, "No space left on device")
            return real(*args)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patch:
        if step == "write":
            (tmp_path / f".agent-0.safetensors.{os.getpid()}.tmp").mkdir()
        for name in calls:
            patch.setattr(os, name, failing(name, getattr(os, name)))
        with pytest.raises(RecordError, match=r"agent-0\.safetensors: cannot be written"):
            checkpoints.save(0, 2, ours)
    first, parameters, _ = restored(tmp_path)
    seen.append(ours.snapshot(0).parameters)
    assert first == (3 if step == "directory" else 2)
    np.testing.assert_array_equal(parameters, seen[first - 1])


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_checkpoint import two_rounds
checkpoints, _, ours = two_rounds(Path({directory!r}))
ours.update([0])
count = 0
def dying(real):
    def call(*args):
        global count
        count += 1
        if count == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    return call
for name in ("fsync", "link", "unlink", "replace", "open", "close"):
    setattr(os, name, dying(getattr(os, name)))
checkpoints.save(0, 2, ours)
"""


@pytest.mark.slow
@pytest.mark.parametrize("at", range(1, 12))
def test_a_process_killed_at_any_step_leaves_a_good_checkpoint(at: int, tmp_path: Path) -> None:
    code = KILLED.format(here=str(Path(__file__).parent), directory=str(tmp_path), at=at)
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert done.returncode == (-signal.SIGKILL if at < 11 else 0), (
        "there are ten such calls in a save"
    )
    first, parameters, _ = restored(tmp_path)
    assert first == (3 if at > 6 else 2)
    expected = trainer()
    for _ in range(first):
        expected.update([0])
    np.testing.assert_array_equal(parameters, expected.snapshot(0).parameters)


def newest(directory: Path) -> Path:
    return directory / "agent-0.safetensors"


@pytest.mark.parametrize("where", [0.0, 0.1, 0.3, 0.6, 0.8, 0.99])
def test_any_flipped_bit_is_found_and_the_checkpoint_before_it_used(
    where: float, tmp_path: Path
) -> None:
    _, seen, _ = two_rounds(tmp_path)
    raw = bytearray(newest(tmp_path).read_bytes())
    raw[int(where * len(raw))] ^= 4
    newest(tmp_path).write_bytes(raw)
    first, parameters, problems = restored(tmp_path)
    assert first == 1
    np.testing.assert_array_equal(parameters, seen[0])
    assert "agent-0.safetensors" in problems[0]
    assert "going on from round 0 as agent-0.previous has it" in problems[0]


def forged(kind: str, good: bytes) -> bytes:
    (length,) = struct.unpack("<Q", good[:8])
    header = json.loads(good[8 : 8 + length])
    metadata = header["__metadata__"]
    parameters = np.zeros(8)
    huge = json.dumps(
        {
            "__metadata__": metadata,
            "parameters": {"dtype": "F64", "shape": [2**37], "data_offsets": [0, 2**40]},
        }
    ).encode()
    return {
        "empty": b"",
        "truncated": good[:-5],
        "truncated header": good[:20],
        "pickle": pickle.dumps({"parameters": parameters}),
        "header of 1 TB": struct.pack("<Q", 2**40) + good[8:],
        "tensor of 1 TB": struct.pack("<Q", len(huge)) + huge,
        "not JSON": struct.pack("<Q", 4) + b"\xff\xfe\x00{",
        "other run": save({"parameters": parameters}, metadata | {"scenario": "another"}),
        "other agent": save({"parameters": parameters}, metadata | {"agent": "1"}),
        "other shape": save({"parameters": np.zeros(9)}, metadata),
        "other type": save({"parameters": parameters.astype(np.float32)}, metadata),
        "no parameters": save({"weights": parameters}, metadata),
        "no metadata": save({"parameters": parameters}),
        "other numbers": save({"parameters": parameters}, metadata),
        "no checksum": save(
            {"parameters": parameters}, {k: v for k, v in metadata.items() if k != "digest"}
        ),
    }[kind]


KINDS = (
    "empty",
    "truncated",
    "truncated header",
    "pickle",
    "header of 1 TB",
    "tensor of 1 TB",
    "not JSON",
    "other run",
    "other agent",
    "other shape",
    "other type",
    "no parameters",
    "no metadata",
    "other numbers",
    "no checksum",
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_a_checkpoint_of_this_run_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    _, seen, _ = two_rounds(tmp_path)
    bad = forged(kind, newest(tmp_path).read_bytes())
    newest(tmp_path).write_bytes(bad)
    first, parameters, problems = restored(tmp_path)
    assert first == 1
    np.testing.assert_array_equal(parameters, seen[0])
    assert str(newest(tmp_path)) in problems[0]
    newest(tmp_path).write_bytes(bad)
    (tmp_path / "agent-0.previous").write_bytes(bad)
    with pytest.raises(RecordError, match=r"agent-0\.safetensors.*\n.*agent-0\.previous"):
        restored(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"agent": "1"}, "expected agent 0 of scenario scenario, got agent 1 of scenario"),
        ({"scenario": "other"}, "expected agent 0 of scenario scenario, got agent 0 of other"),
        ({"size": 9}, r"parameters: expected (8,) float64, got (9,) F64"),
        ({"type": "float32"}, r"parameters: expected (8,) float64, got (8,) F32"),
        ({"name": "weights"}, r"parameters: expected (8,) float64, got None None"),
        ({"memory": "["}, "not a checkpoint: "),
        ({"memory": None}, "not a checkpoint: 'memory'"),
        ({"digest": "0"}, "damaged: its contents do not have the checksum 0"),
        ({"digest": None}, "damaged: its contents do not have the checksum (none)"),
    ],
)
def test_a_checkpoint_with_a_right_checksum_is_refused_for_what_is_not_ours(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    two_rounds(tmp_path)
    (tmp_path / "agent-0.previous").unlink()
    with safe_open(newest(tmp_path), framework="numpy") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["parameters"] = np.zeros(change.get("size", 8), change.get("type", "float64"))
    tensors[change.get("name", "parameters")] = tensors.pop("parameters")
    del metadata["digest"]
    facts = {k: v for k, v in {**metadata, **change}.items() if k in metadata and v is not None}
    digest = {"digest": change.get("digest", _digest(tensors, facts))}
    signature = {} if digest["digest"] is None else digest
    newest(tmp_path).write_bytes(save(tensors, facts | signature))
    with pytest.raises(RecordError, match=re.escape(f"agent-0.safetensors: {reason}")) as caught:
        restored(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_checkpoint_of_the_largest_size_is_read_and_a_larger_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_rounds(tmp_path)
    size = newest(tmp_path).stat().st_size
    monkeypatch.setattr("p2pfrl.net.checkpoint._LIMIT", size)
    assert restored(tmp_path)[0] == 2
    monkeypatch.setattr("p2pfrl.net.checkpoint._LIMIT", size - 1)
    with pytest.raises(RecordError, match=f"{size} bytes; at most {size - 1}"):
        restored(tmp_path)


def test_a_damaged_checkpoint_never_takes_the_place_of_the_good_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, seen, _ = two_rounds(tmp_path)
    newest(tmp_path).write_bytes(b"damaged")
    checkpoints, ours = Checkpoints(tmp_path, "scenario"), trainer()
    assert checkpoints.restore(0, ours) == 1
    ours.update([0])
    real, calls = os.replace, []

    def dies_when_it_takes_its_place(source: Path, target: Path) -> None:
        calls.append(target)
        if str(source).endswith(".tmp"):
            raise OSError(5, "Input/output error")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies_when_it_takes_its_place)
        with pytest.raises(RecordError):
            checkpoints.save(0, 1, ours)
    assert calls, "nothing was written"
    first, parameters, _ = restored(tmp_path)
    assert first == 1
    np.testing.assert_array_equal(parameters, seen[0])


def test_an_incarnation_never_comes_twice_and_another_scenario_is_refused(tmp_path: Path) -> None:
    assert [Checkpoints(tmp_path, "one").incarnation() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(
        RecordError, match="belongs to scenario one, this is two; choose another --out"
    ):
        Checkpoints(tmp_path, "two").incarnation()
    for text in ("", "{", "[]", '{"starts": "many", "scenario": "one"}', "[" * 100_000):
        (tmp_path / "process.json").write_text(text)
        with pytest.raises(RecordError, match=r"process\.json: not a process file"):
            Checkpoints(tmp_path, "one").incarnation()


def test_a_process_remembers_where_everyone_lives(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "one")
    checkpoints.incarnation()
    assert checkpoints.whereabouts() is None
    fleet = Fleet({("10.0.0.1", 7000): (0, 1), ("10.0.0.2", 7001): (2,)})
    checkpoints.keep_whereabouts(7000, (0, 1), fleet)
    assert Checkpoints(tmp_path, "one").whereabouts() == (7000, (0, 1), fleet)
    for text in ("", '{"port": 1}', '{"port": 1, "agents": [0], "fleet": 7}'):
        (tmp_path / "fleet.json").write_text(text)
        with pytest.raises(RecordError, match=r"fleet\.json: not a table of addresses"):
            Checkpoints(tmp_path, "one").whereabouts()


def test_a_coordinator_goes_on_from_its_newest_good_checkpoint(tmp_path: Path) -> None:
    ours = Checkpoints(tmp_path, "scenario")
    ours.incarnation()
    assert ours.restore_coordinator(-1) is None
    states = [{"round": r, "model": np.full(3, float(r)), "box": {2: b"x"}} for r in range(3)]
    for state in states:
        ours.save_coordinator(-1, state)
    ours.save_coordinator(-2, {"round": 7})
    again = Checkpoints(tmp_path, "scenario")
    found = again.restore_coordinator(-1)
    assert found is not None
    assert (found["round"], found["box"], list(found["model"])) == (2, {2: b"x"}, [2.0] * 3)
    assert again.restore_coordinator(-2) == {"round": 7}
    newest = tmp_path / "coordinator.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    found = again.restore_coordinator(-1)
    assert found is not None
    assert found["round"] == 1
    assert "going on from coordinator.previous" in again.problems[0]
    assert (tmp_path / "coordinator.damaged").exists()
    newest.write_bytes(b"")
    (tmp_path / "coordinator.previous").write_bytes(b"")
    with pytest.raises(RecordError, match=r"coordinator\.previous"):
        again.restore_coordinator(-1)


def test_a_voter_goes_on_from_nothing_older_than_its_newest_vote(tmp_path: Path) -> None:
    ours = Checkpoints(tmp_path, "scenario")
    ours.incarnation()
    assert ours.restore_coordinator(-1, votes=True) is None
    for epoch in range(3):
        ours.save_coordinator(-1, {"promised": epoch})
    assert ours.restore_coordinator(-1, votes=True) == {"promised": 2}
    newest = tmp_path / "coordinator.safetensors"
    whole = newest.read_bytes()
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    newest.write_bytes(damaged)
    with pytest.raises(RecordError, match=r"coordinator votes, and may have .* leave this process"):
        ours.restore_coordinator(-1, votes=True)
    assert newest.read_bytes() == damaged, "it is refused again at the next start"
    newest.unlink()  # as a kill between the renames of a write that nobody has relied on
    assert ours.restore_coordinator(-1, votes=True) == {"promised": 1}


def test_a_checkpoint_of_another_coordinator_or_scenario_is_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "scenario").save_coordinator(-1, {"round": 7})
    with pytest.raises(RecordError, match="scenario: expected other, got scenario"):
        Checkpoints(tmp_path, "other").restore_coordinator(-1)
    (tmp_path / "coordinator.safetensors").rename(tmp_path / "edge0.safetensors")
    with pytest.raises(RecordError, match="coordinator: expected edge0, got coordinator"):
        Checkpoints(tmp_path, "scenario").restore_coordinator(-2)


def test_arrays_of_a_memory_come_back_in_their_order_however_many_there_are(tmp_path: Path) -> None:
    checkpoints, ours = Checkpoints(tmp_path, "scenario"), trainer()
    checkpoints.incarnation()
    memory = {"inbox": [np.full(2, float(k)) for k in range(23)], "round": 4}
    checkpoints.save(0, 4, ours, memory)
    again = Checkpoints(tmp_path, "scenario")
    assert again.restore(0, trainer()) == 5
    found = again.memories[0]
    assert found["round"] == 4
    assert [list(array) for array in found["inbox"]] == [[float(k)] * 2 for k in range(23)]


def test_the_checksum_is_of_every_value_name_shape_type_and_fact() -> None:
    tensors, facts = {"a": np.zeros(4), "b": np.ones(4)}, {"round": "1", "agent": "0"}
    changes = [
        ({**tensors, "a": np.ones(4)}, facts),
        ({"a": tensors["b"], "b": tensors["a"]}, facts),
        ({"a": tensors["a"], "c": tensors["b"]}, facts),
        ({**tensors, "a": np.zeros((2, 2))}, facts),
        ({**tensors, "a": np.zeros(8, dtype=np.float32)}, facts),
        ({**tensors, "a": np.zeros(4, dtype=np.int64)}, facts),
        ({"a": tensors["a"]}, facts),
        (tensors, {**facts, "round": "2"}),
        (tensors, {"round": "0", "agent": "1"}),
        (tensors, {"round": "1"}),
        (tensors, {"rounds": "1", "agent": "0"}),
    ]
    found = [_digest(*change) for change in [(tensors, facts), *changes]]
    assert len(set(found)) == len(found)
    backwards = dict(reversed(tensors.items())), dict(reversed(facts.items()))
    assert _digest(*backwards) == found[0], "the order does not matter"
