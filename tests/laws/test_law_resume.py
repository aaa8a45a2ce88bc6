"""A simulated run that is stopped at any event and resumed ends as the run that was not stopped."""

from pathlib import Path

import numpy as np
import pytest

import p2pfrl
from p2pfrl.experiment import checkpoints
from p2pfrl.experiment.run import resume
from p2pfrl.laws.runs import Table, text
from p2pfrl.results.record import Record
from p2pfrl.scenario import Scenario, loads

LOSSY: Table = {
    "network": {
        "latency": "20ms",
        "jitter": "30ms",
        "loss": {"kind": "burst", "good_to_bad": 0.1, "bad_to_good": 0.4},
        "duplicate": 0.1,
    },
    "compute": {"seconds_per_env_step": "50ms", "speed": {"kind": "lognormal", "sigma": 0.5}},
    "learner": {"noise": 0.1, "initial_spread": 1.0},
}
FAULTS = [
    {"at": "150ms", "kind": "crash", "agents": [1]},
    {"at": "400ms", "kind": "restart", "agents": [1]},
    {"at": "300ms", "kind": "partition", "groups": [[0, 1], [2, 3]]},
    {"at": "600ms", "kind": "heal"},
    {"at": "500ms", "kind": "straggle", "agents": [0], "factor": 3.0},
    {"at": "700ms", "kind": "leave", "agents": [3]},
]
SHORT: Table = {"schedule": {"deadline": "300ms"}}
WORLDS: dict[str, Table] = {
    "synchronous": {},
    "synchronous, loss and faults": {**LOSSY, **SHORT, "faults": FAULTS},
    "combine while adapting": {**LOSSY, **SHORT, "exchange": {"order": "combine_while_adapting"}},
    "last known": {**LOSSY, **SHORT, "mixing": {"on_loss": "last_known"}},
    "asynchronous, loss and faults": {
        **LOSSY,
        "schedule": {"kind": "asynchronous"},
        "faults": FAULTS,
    },
    "pairwise": {**LOSSY, "schedule": {"kind": "asynchronous"}, "mixing": {"kind": "pairwise"}},
    "push-sum": {**LOSSY, **SHORT, "mixing": {"kind": "push_sum"}},
    "choco": {
        "mixing": {"kind": "choco"},
        "compressor": {"kind": "difference", "compressor": {"kind": "topk"}},
    },
    "gradient tracking": {"mixing": {"kind": "gradient_tracking"}},
    "extra": {"mixing": {"kind": "extra"}},
    "chebyshev": {"mixing": {"kind": "chebyshev"}},
    "gate": {"gate": {"kind": "norm", "threshold": 0.05, "max_silence": 3}, **LOSSY, **SHORT},
    "personal": {"personal": {"kind": "ditto"}},
    "central, loss": {**LOSSY, **SHORT, "mode": "central"},
    "scaffold": {"mode": "central", "correction": {"kind": "control_variate"}},
    "fedbuff": {
        **LOSSY,
        "mode": "central",
        "schedule": {"kind": "buffered", "size": 2},
        "exchange": {"payload": "delta"},
        "coordinator": {"server_optimizer": {"kind": "adam"}},
    },
    "error feedback": {
        "mode": "central",
        "exchange": {"payload": "delta"},
        "compressor": {"kind": "error_feedback"},
    },
    "hierarchical": {
        "mode": "hierarchical",
        "hierarchy": {"groups": [[0, 1], [2, 3]], "edge_rounds": 2},
        "coordinator": {"participation": {"kind": "uniform", "fraction": 0.5}},
    },
}


def world(tables: Table, rounds: int = 4) -> Scenario:
    return loads(text(4, rounds, seed=3, **tables))


def assert_equal(found: Record, expected: Record) -> None:
    assert found.summary["digest"] == expected.summary["digest"]
    for name, values in expected.metrics.items():
        np.testing.assert_array_equal(found.metrics[name], values, err_msg=name)
    for name, values in expected.agents.items():
        np.testing.assert_array_equal(found.agents[name], values, err_msg=name)
    np.testing.assert_array_equal(found.parameters, expected.parameters)
    np.testing.assert_array_equal(found.staleness, expected.staleness)
    assert found.timeline == expected.timeline
    ignored = ("wall_seconds", "files")
    assert {k: v for k, v in found.summary.items() if k not in ignored} == {
        k: v for k, v in expected.summary.items() if k not in ignored
    }


class KilledError(Exception):
    """Stands for kill -9: nothing is written after it."""


def stop_at(event: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs write a checkpoint before event number `event`, and be killed right after it."""
    began = checkpoints.Checkpoints.begin

    def begin(self: checkpoints.Checkpoints, world: object) -> None:
        began(self, world)  # type: ignore[arg-type]
        left = [event]

        def step() -> None:
            if left[0]:
                left[0] -= 1
                world.loop.when_idle(step)  # type: ignore[attr-defined]
                _one(world.loop)
                return
            self.save(world, {}, wall_seconds=0.0)  # type: ignore[arg-type]
            raise KilledError

        world.loop.when_idle(step)  # type: ignore[attr-defined]

    monkeypatch.setattr(checkpoints.Checkpoints, "begin", begin)


def _one(loop: object) -> None:
    """Handle one event, as the loop itself does."""
    from heapq import heappop

    if loop._heap:  # type: ignore[attr-defined]
        loop.now, _, callback, args = heappop(loop._heap)  # type: ignore[attr-defined]
        callback(*args)


def check(scenario: Scenario, event: int, folder: Path, expected: Record) -> bool:
    """Kill the run before event number `event` and resume it; return whether it got that far."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at(event, patch)
        try:
            p2pfrl.run(scenario, out=folder)
        except KilledError:
            pass
        else:
            return False
    assert not (folder / "summary.json").exists()
    assert_equal(resume(folder), expected)
    assert not (folder / checkpoints.FOLDER).exists()
    return True


@pytest.mark.parametrize("name", WORLDS)
def test_a_run_that_is_killed_at_any_event_ends_as_if_it_had_not_been(name, tmp_path):
    scenario = world(WORLDS[name])
    expected = p2pfrl.run(scenario, out=tmp_path / "whole")
    step = 17
    killed = 0
    while check(scenario, killed * step, tmp_path / str(killed), expected):
        killed += 1
    assert killed >= 3
