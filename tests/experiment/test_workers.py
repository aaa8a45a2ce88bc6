"""A run has one result, whoever computes its updates, in what chunks and when."""

import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from multiprocessing.heap import Arena
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_key import merged

import p2pfrl
from p2pfrl.build.training import trained
from p2pfrl.build.world import build
from p2pfrl.core.errors import P2PFRLError, ScenarioError, ScenarioWarning
from p2pfrl.experiment import workforce
from p2pfrl.learning.executors import LostChunkError
from p2pfrl.learning.growing import Growing
from p2pfrl.learning.learners.base import Batch, Outcome
from p2pfrl.learning.workers import Shapes, Workers, WorkersError
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.render import to_toml

Table = dict[str, Any]
PPO: Table = {
    "name": "workers",
    "agents": 6,
    "stop": {"rounds": 3},
    "environment": {"id": "cartpole", "instances": 2},
    "learner": {"kind": "ppo", "hidden": [4], "steps": 8},
    "compute": {"speed": {"kind": "cycle", "list": [1.0, 0.3, 0.6, 0.1]}},
    "evaluation": {"episodes": 0},
}
SLOW: Table = {
    "network": {"latency": {"kind": "lognormal", "median": "3ms", "sigma": 0.8}, "loss": 0.1},
    "schedule": {"deadline": "30ms"},
    "compute": {"seconds_per_env_step": "1ms"},
}
FAULTS: Table = {
    "faults": [
        {"at": "20ms", "kind": "crash", "agents": [1]},
        {"at": "40ms", "kind": "restart", "agents": [1]},
        {"at": "50ms", "kind": "leave", "agents": [3]},
        {"at": "60ms", "kind": "join", "agents": [2]},
    ]
}
ASYNCHRONOUS: Table = {"schedule": {"kind": "asynchronous"}}
PAIRS: Table = {
    "agents": 4,
    "environment": {"id": "spectrum", "members": 2, "instances": 1},
    "learner": {"kind": "a2c", "hidden": [2], "steps": 4},
}
WORLDS: dict[str, tuple[Table, ...]] = {
    "synchronous": (),
    "faults": (SLOW, FAULTS),
    "asynchronous, faults": (SLOW, {"schedule": {"deadline": None}}, ASYNCHRONOUS, FAULTS),
    "combining while adapting": (SLOW, {"exchange": {"order": "combine_while_adapting"}}),
    "moments averaged while adapting": (
        SLOW,
        {"exchange": {"order": "combine_while_adapting"}, "learner": {"moments": "average"}},
    ),
    "moments reset while adapting": (
        SLOW,
        {"exchange": {"order": "combine_while_adapting"}, "learner": {"moments": "reset"}},
    ),
    "torch": ({"compute": {"engine": "torch"}},),
    "dqn": (
        {
            "learner": {
                "kind": "dqn",
                "hidden": [4],
                "capacity": 64,
                "steps": 8,
                "learn_start": 8,
                "batch_size": 4,
            }
        },
        FAULTS,
    ),
    "sac": (
        {
            "environment": {"id": "pendulum"},
            "learner": {
                "kind": "sac",
                "hidden": [4],
                "capacity": 64,
                "learn_start": 8,
                "batch_size": 4,
                "steps": 8,
            },
        },
    ),
    "tabular": ({"environment": {"id": "gridworld"}, "learner": {"kind": "tabular_q"}},),
    "pooled": ({"mode": "pooled"},),
    "scaffold": (
        {"mode": "central", "correction": {"kind": "control_variate"}},
        {"environment": {"id": "garnet"}, "learner": {"kind": "td", "features": 3, "steps": 8}},
        SLOW,
    ),
    "ditto": ({"personal": {"kind": "ditto"}},),
    "two learners": ({"groups": [{"agents": [1, 2], "learner": {"lr": 1e-2}}]},),
    "a random Byzantine agent": (
        {"attacks": [{"kind": "random_action", "agents": [1], "until": 2}]},
    ),
    "shared worlds, faults": (PAIRS, SLOW, FAULTS),
    "self-play, faults": (
        PAIRS,
        SLOW,
        FAULTS,
        {"environment": {"opponents": "last_known"}, "topology": {"kind": "complete"}},
    ),
}


def scenario(*tables: Table) -> Scenario:
    whole = PPO
    for table in tables:
        if isinstance(table.get("learner"), dict) and "kind" in table["learner"]:
            whole = {**whole, "learner": {}}
        whole = merged(whole, table)
    return loads(to_toml(whole))


class Others:
    """Computes chunks with a learner of its own, each at another time; loses every fifth.

    Args:
        own: whose updates.
        eager: at once, or when the results are wanted, and then the youngest first.
    """

    most, workers, is_here = 2, 3, False

    def __init__(self, own: Scenario, *, eager: bool) -> None:
        self.stack, self.eager = trained(own), eager
        self.waiting: dict[int, Batch | Outcome] = {}
        self.count = self.early = 0

    def has_room(self) -> bool:
        self.early += 1
        return True

    def space(self, agents: int) -> None:
        """It has no arrays of its own."""

    def submit(self, batch: Batch) -> int:
        batch.parameters.flags.writeable = True
        self.count += 1
        self.waiting[self.count] = self.stack.update(batch) if self.eager else batch
        return self.count

    def result(self, handle: int) -> Outcome:
        for number in reversed(self.waiting):
            if isinstance(batch := self.waiting[number], Batch):
                self.waiting[number] = self.stack.update(batch)
        found = self.waiting.pop(handle)
        if handle % 5 == 0:
            raise LostChunkError("it is the fifth")
        assert isinstance(found, Outcome)
        return found


@pytest.mark.parametrize("world", WORLDS)
def test_a_run_is_the_same_whoever_computes_it_and_when(world, monkeypatch):
    own = scenario(*WORLDS[world])
    alone = p2pfrl.run(own)
    for eager in (True, False):
        others = Others(own, eager=eager)
        monkeypatch.setattr(workforce, "_now", lambda *of, others=others: others)
        found = p2pfrl.run(own, workers=2)
        assert found.summary["digest"] == alone.summary["digest"]
        assert found.summary["mean_batch"] == alone.summary["mean_batch"]
        assert others.count > 5
        assert others.early


@pytest.mark.parametrize(
    "world", ["faults", "shared worlds, faults", pytest.param("torch", marks=pytest.mark.slow)]
)
def test_processes_compute_what_one_process_computes(world):
    own = scenario(*WORLDS[world])
    alone = p2pfrl.run(own)
    assert "workers" not in alone.summary
    for count in (2, 3):
        found = p2pfrl.run(own, workers=count)
        assert found.summary["digest"] == alone.summary["digest"]
        assert found.summary["workers"] == count
        assert np.array_equal(found.parameters, alone.parameters)


def killing(own: Scenario, kills: int) -> p2pfrl.Record:
    """Run with two processes, one of which is killed at every row of the first `kills`."""
    seen: list[Workers] = []
    start = Workers.start

    def started(self: Workers) -> None:
        start(self)
        seen.append(self)

    def kill(row: Any) -> None:
        if row["round"] <= kills:
            os.kill(seen[0].pids[0], signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workers, "start", started)
        return p2pfrl.run(own, workers=2, progress=kill)


def test_what_a_killed_process_computed_is_computed_again():
    own = scenario({"stop": {"rounds": 4}})
    with pytest.warns(ScenarioWarning, match="was killed by SIGKILL.*takes its place"):
        found = killing(own, 3)
    assert found.summary["digest"] == p2pfrl.run(own).summary["digest"]


def test_without_processes_left_the_run_goes_on_alone(monkeypatch):
    monkeypatch.setattr("p2pfrl.learning.workers._MOST_DEATHS", 0)
    own = scenario({"stop": {"rounds": 4}})
    with pytest.warns(ScenarioWarning, match="no other takes its place"):
        found = killing(own, 2)
    assert found.summary["digest"] == p2pfrl.run(own).summary["digest"]
    assert found.summary["workers"] == 1


def test_an_update_that_fails_elsewhere_gives_the_error_that_it_gives_here():
    own = scenario({"learner": {"lr": 1e38, "clip_coef": 0.2}})
    errors = []
    for workers in (None, 2):
        with pytest.raises(P2PFRLError) as caught:
            p2pfrl.run(own, workers=workers)
        errors.append(str(caught.value))
    assert "training left parameters" in errors[0]
    assert errors[0] == errors[1]


def test_processes_that_cannot_start_are_said_once_and_the_run_goes_on(monkeypatch):
    own = scenario()
    monkeypatch.setattr(workforce, "trained", lambda own: None)  # cannot be sent
    with pytest.warns(ScenarioWarning, match="training goes on in this process alone") as said:
        found = p2pfrl.run(own, workers=2)
    assert len(said) == 1
    assert found.summary["workers"] == 1
    monkeypatch.setattr(workforce, "trained", int)  # is sent, and fails there
    with pytest.warns(ScenarioWarning, match="TypeError: int.*this process alone"):
        p2pfrl.run(own, workers=2)


def test_environments_that_keep_more_than_arrays_stay_in_one_process():
    own = scenario({"environment": {"id": "FrozenLake-v1"}, "stop": {"rounds": 2}, "agents": 3})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScenarioWarning)
        alone = p2pfrl.run(own)
    with pytest.warns(ScenarioWarning, match="keep what no array holds"):
        found = p2pfrl.run(own, workers=2)
    assert found.summary["digest"] == alone.summary["digest"]
    assert found.summary["workers"] == 1


@pytest.mark.parametrize("count", [0, -1, True, "many", 2.0])
def test_a_number_of_workers_is_checked(count):
    with pytest.raises(ScenarioError, match=r'workers: expected "auto" or a number from 1'):
        p2pfrl.run(scenario(), workers=count)


def test_auto_starts_processes_once_training_takes_long_enough(monkeypatch):
    own = scenario()
    quick = p2pfrl.run(own, workers="auto")
    assert quick.summary["workers"] == 1
    monkeypatch.setattr("p2pfrl.learning.growing.AFTER", 1e-5)
    monkeypatch.setattr("p2pfrl.learning.growing._LEAST", 1e-6)
    monkeypatch.setattr(workforce, "cores", lambda: 2)
    with pytest.warns(ScenarioWarning, match="training goes on in 2 processes"):
        found = p2pfrl.run(own, workers="auto")
    assert found.summary["workers"] == 2
    assert found.summary["digest"] == quick.summary["digest"]


def test_places_are_lent_until_nobody_reads_the_results():
    world = build(scenario({"agents": 12}), on_row=lambda row: False)
    trainer = world.trainer
    workers = workforce.workers_of(trainer, partial(trained, scenario({"agents": 12})), 2)
    alone = build(scenario({"agents": 12}), on_row=lambda row: False).trainer
    workers._free = workers._free[:5]  # four are kept, so that one is lent and others are copied
    try:
        workers.start()
        trainer.executor = workers
        for _ in range(4):
            for each in (trainer, alone):
                for agent in each.agents:
                    each.freeze(agent)
            kept = []
            for agent in trainer.agents:
                trainer.compute([agent])
                kept.append(trainer._pending[agent].outcome)
            assert len(workers._free) == 4
            del kept
            for each in (trainer, alone):
                for agent in each.agents:
                    each.commit(agent)
            assert len(workers._free) == 5
            assert np.array_equal(trainer.parameters, alone.parameters)
    finally:
        workers.close()


@pytest.mark.slow
def test_a_script_that_starts_itself_again_is_told_what_it_lacks(tmp_path):
    script = tmp_path / "script.py"
    text = to_toml({**PPO, "stop": {"rounds": 2}})
    script.write_text(
        f"import p2pfrl\nfound = p2pfrl.run(p2pfrl.loads({text!r}), workers=2)\n"
        "print(found.summary['workers'])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"
    assert 'needs `if __name__ == "__main__":` around what it runs' in done.stderr
    assert "this process alone" in done.stderr


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({}, 1000),
        ({"cpu.max": "max 100000"}, 1000),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 1000),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_a_container_has_as_many_cores_as_its_share(files, most, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(1000), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    assert workforce.cores(tmp_path) == most


def test_short_chunks_and_single_agents_stay_here():
    def grow() -> None:
        raise AssertionError("it does not pay")

    batch = Batch((0,), (0,), np.zeros((1, 16)), {})
    one = Growing(lambda batch: batch, lambda: None, grow, after=0.0)  # type: ignore[arg-type,return-value]
    for _ in range(3):
        one.submit(batch)
    quick = Growing(lambda batch: batch, lambda: None, grow, after=0.0)  # type: ignore[arg-type,return-value]
    for _ in range(3):
        quick.submit(replace(batch, agents=(0, 1, 2)))


def test_places_in_memory_are_aligned_and_bounded():
    world = build(scenario(PAIRS), on_row=lambda row: False)
    trainer = world.trainer
    shapes = Shapes.of(64, 2, trainer.parameters, trainer.state)
    memory = Arena(2 * shapes.size)
    parameters, state = shapes.views(memory, 1, 3)
    for values in (parameters, *state.values()):
        assert values.ctypes.data % 64 == 0
        values[...] = 1
    assert parameters.shape == (3, trainer.parameters.shape[1])
    assert {name: v.dtype for name, v in state.items()} == {
        name: v.dtype for name, v in trainer.state.items()
    }
    huge = np.zeros((1, 2**27), dtype=np.float32)
    assert Shapes.of(64, 2, huge, {}).rows == 2
    with pytest.raises(WorkersError, match="objects"):
        Shapes.of(64, 1, huge, {"bag": np.zeros(1, dtype=object)})


def test_workers_of_a_resumed_run_are_not_part_of_its_result(tmp_path: Path):
    own = scenario({"stop": {"rounds": 4}, "checkpoint": {"every": 1}})
    whole = p2pfrl.run(own)

    def interrupt(row: Any) -> None:
        if row["round"] == 2:
            raise KeyboardInterrupt

    first = p2pfrl.run(own, out=tmp_path, workers=2, progress=interrupt)
    assert first.summary["stopped_by"] == "interrupt"
    again = p2pfrl.resume(tmp_path, workers=3)
    assert again.summary["digest"] == whole.summary["digest"]
    assert p2pfrl.verify(tmp_path).is_equal
