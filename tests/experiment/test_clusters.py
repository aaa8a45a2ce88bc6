"""Workers of a cluster compute what this machine computes, whichever of them die."""

import importlib.util
import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.training import trained
from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError, ScenarioWarning
from p2pfrl.experiment import rays, workforce
from p2pfrl.experiment.parcel import packed, unpacked, write_all
from p2pfrl.experiment.sweep import sweep
from p2pfrl.learning.learners.base import Batch
from p2pfrl.learning.remote import GoneError, OnCluster
from p2pfrl.learning.trainer import Trainer
from p2pfrl.learning.workers import Greeting
from p2pfrl.scenario import Scenario, load, loads

HAS_RAY = importlib.util.find_spec("ray") is not None
TEXT = """
name = "w"
agents = 6
stop = {rounds = 4}
environment = {id = "cartpole", instances = 1}
learner = {kind = "ppo", hidden = [4], steps = 8}
compute = {speed = {kind = "cycle", list = [1.0, 0.3, 0.6]}}
evaluation = {episodes = 0}
"""


class Machines:
    """A cluster in this process: a worker dies at some of its answers, or does not start.

    Args:
        own: the scenario.
        dies: how likely a worker dies with a chunk.
        says: in place of a greeting.
    """

    def __init__(self, own: Scenario, *, dies: float = 0.0, says: object = None) -> None:
        self.own, self.dies, self.says = own, dies, says
        self.rng = random.Random(1)
        self.stacks: dict[int, Any] = {}
        self.waiting: dict[int, tuple[int, Batch | None]] = {}
        self.count = self.deaths = 0

    def hire(self) -> int:
        self.count += 1
        self.stacks[self.count] = trained(self.own)
        return self.count

    def dismiss(self, worker: int) -> None:
        self.stacks.pop(worker, None)

    def _asked(self, worker: int, batch: Batch | None) -> int:
        self.count += 1
        self.waiting[self.count] = (worker, batch)
        return self.count

    def greet(self, worker: int) -> int:
        return self._asked(worker, None)

    def update(self, worker: int, batch: Batch) -> int:
        return self._asked(worker, batch)

    def wait(self, references: Any, seconds: float) -> list[int]:
        return [self.rng.choice(list(references))]

    def get(self, reference: int) -> object:
        worker, batch = self.waiting.pop(reference)
        if worker not in self.stacks:
            raise GoneError("it is gone")
        stack = self.stacks[worker]
        if batch is None:
            return self.says or Greeting.of(stack)
        if self.rng.random() < self.dies:
            self.deaths += 1
            raise GoneError("power failed")
        copies = {name: values.copy() for name, values in batch.state.items()}
        return stack.update(Batch(batch.agents, batch.index, batch.parameters.copy(), copies))


def run_on(machines: Machines, count: int = 3) -> p2pfrl.Record:
    """Run with workers of these machines."""
    found: list[OnCluster] = []

    def now(force: Any, scenario: Scenario, trainer: Trainer, most: int) -> OnCluster:
        greeting = Greeting.of(trainer.stack)
        found.append(OnCluster(machines, greeting, count, force.say))
        found[0].start()
        force.workers = found[0]
        return found[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workforce, "_now", now)
        return p2pfrl.run(machines.own, workers=2)


@pytest.mark.parametrize("dies", [0.0, 0.2, 0.8])
def test_workers_that_die_change_nothing(dies):
    own = loads(TEXT)
    machines = Machines(own, dies=dies)
    if dies:
        with pytest.warns(ScenarioWarning, match="power failed.*computed again"):
            found = run_on(machines)
    else:
        found = run_on(machines)
    assert bool(machines.deaths) == bool(dies)
    assert found.summary["digest"] == p2pfrl.run(own).summary["digest"]
    assert found.summary["workers"] == 3
    assert not machines.stacks, "all workers are dismissed"


def test_a_worker_with_another_learner_is_refused():
    own = loads(TEXT)
    other = Greeting("other", "native")
    for says, why in (("no numpy there", "no numpy there"), (other, "another learner")):
        machines = Machines(own, says=says)
        workers = OnCluster(machines, Greeting.of(trained(own)), 2)
        with pytest.raises(Exception, match=why):
            workers.start()
        assert not machines.stacks


def test_workers_that_do_not_start_are_not_waited_for_endlessly(monkeypatch):
    monkeypatch.setattr("p2pfrl.learning.remote._PATIENCE", 0.01)
    monkeypatch.setattr("p2pfrl.learning.remote._LOOK", 0.001)
    machines = Machines(loads(TEXT))
    monkeypatch.setattr(machines, "wait", lambda references, seconds: [])
    with pytest.raises(Exception, match="0 of 2 workers of the cluster were there"):
        OnCluster(machines, Greeting("", ""), 2).start()


@pytest.mark.parametrize("name", ["ring_16", "abilene", "coordinator_dies", "drift_difficulty"])
def test_a_scenario_travels_as_files(name, tmp_path):
    own = load(name)
    assert unpacked(packed(own), tmp_path) == own


def test_files_that_a_scenario_names_travel_with_it(tmp_path):
    (tmp_path / "there.csv").write_text("0,0s,1s\n1,0s,1s\n")
    file = tmp_path / "own.toml"
    file.write_text(TEXT + 'availability = {trace = "there.csv"}\n')
    files = packed(load(file))
    assert sorted(files) == ["inputs/there.csv", "scenario.toml"]
    there = unpacked(files, tmp_path / "other")
    assert there.availability.path == tmp_path / "other" / "inputs" / "there.csv"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_no_file_is_written_outside_its_folder(name, tmp_path):
    with pytest.raises(P2PFRLError, match="expected a file in it"):
        write_all({name: b""}, tmp_path / "in")


def test_without_ray_the_extra_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(rays, "find_spec", lambda name: None)
    file = tmp_path / "w.toml"
    file.write_text(TEXT)
    for words in (["scenario"], ["sweep", "--seeds", "1"]):
        command, *more = words
        out = str(tmp_path / command)
        assert main([command, str(file), *more, "--executor", "ray", "--out", out]) == 1
        said = capsys.readouterr().err
        assert "--executor ray: ray is not installed: " in said
        assert "[ray]" in said


def test_an_address_belongs_to_a_cluster(tmp_path, capsys):
    file = tmp_path / "w.toml"
    file.write_text(TEXT)
    assert main(["scenario", str(file), "--address", "local"]) == 2
    assert "give --executor ray" in capsys.readouterr().err
    assert main(["scenario", str(file), "--executor", "ray", "--transport", "tcp"]) == 2
    assert "--transport tcp has processes of its own" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "[::1]:{}", "nowhere.invalid:{}"])
def test_a_cluster_at_whose_address_nobody_listens_is_refused_at_once(address, monkeypatch):
    monkeypatch.setattr(rays, "require_ray", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = address.format(server.getsockname()[1])
    with pytest.raises(P2PFRLError, match=r"no cluster at .*; start one"), rays.connected(place):
        pass


@pytest.mark.parametrize("address", ["here", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_of_a_cluster_has_a_port(address, monkeypatch):
    monkeypatch.setattr(rays, "require_ray", lambda: None)
    expected = f"no cluster at {address}: expected HOST:PORT"
    with pytest.raises(P2PFRLError, match=expected), rays.connected(address):
        pass


def test_shards_of_a_sweep_are_the_sweep(tmp_path):
    file = tmp_path / "q.toml"
    file.write_text(
        'name = "q"\nagents = 2\nstop = {rounds = 1}\nlearner = {kind = "quadratic", dimension = 2}\n'
    )
    settings = {"learner.lr": [0.1, 0.2]}
    whole = sweep(file, settings, range(3), tmp_path / "whole")
    parts = [sweep(file, settings, range(3), tmp_path / "parts", shard=(i, 4)) for i in range(1, 5)]
    assert sorted(len(part.rows) for part in parts) == [1, 1, 2, 2]
    assert not (tmp_path / "parts" / "sweep.csv").exists()
    found = sweep(file, settings, range(3), tmp_path / "parts", resume=True)
    assert [row["state"] for row in found.rows] == ["kept"] * 6
    assert [row["digest"] for row in found.rows] == [row["digest"] for row in whole.rows]
    with pytest.raises(P2PFRLError, match="--shard: expected i/n with i from 1 to n, got 0/4"):
        sweep(file, settings, range(3), tmp_path / "parts", shard=(0, 4))


@pytest.mark.parametrize("value", ["0/3", "4/3", "1", "1/3/5", "a/b"])
def test_a_shard_that_is_none_is_refused(value, tmp_path, capsys):
    file = tmp_path / "w.toml"
    file.write_text(TEXT)
    assert main(["sweep", str(file), "--shard", value, "--out", str(tmp_path / "x")]) == 2
    assert f"--shard: expected i/n with i from 1 to n, such as 1/8, got '{value}'" in (
        capsys.readouterr().err
    )


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One local cluster for all tests here; a run connects to it and leaves it."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
        patch.setattr(ray, "init", lambda **options: None)
        patch.setattr(ray, "shutdown", lambda: None)
        yield
    ray.shutdown()


needs_ray = pytest.mark.skipif(not HAS_RAY, reason="needs ray")


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_ray_cluster_computes_what_this_machine_computes(ray_cluster, monkeypatch):
    own = loads(TEXT.replace("rounds = 4", "rounds = 30"))
    alone = p2pfrl.run(own)
    found = p2pfrl.run(own, cluster="local")
    assert found.summary["workers"] == 2
    assert found.summary["digest"] == alone.summary["digest"]

    monkeypatch.setattr(rays.Remote, "pid", lambda self: os.getpid(), raising=False)
    rng, pool = random.Random(2), []
    hire = rays.RayCluster.hire

    def hired(self: Any) -> Any:
        pool.append(hire(self))
        return pool[-1]

    kills = 0

    def kill(row: Any) -> None:
        nonlocal kills
        import ray

        if row["round"] % 5 == 0 and kills < 3:
            kills += 1
            try:
                os.kill(ray.get(rng.choice(pool[-2:]).pid.remote(), timeout=20), signal.SIGKILL)
            except ray.exceptions.RayError:
                kills -= 1  # it had just died

    monkeypatch.setattr(rays.RayCluster, "hire", hired)
    with pytest.warns(ScenarioWarning, match="worker of the cluster died"):
        again = p2pfrl.run(own, cluster="local", progress=kill)
    assert kills == 3
    assert len(pool) == 2 + kills
    assert again.summary["digest"] == alone.summary["digest"]
    assert np.array_equal(again.parameters, alone.parameters)


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_ray_cluster_runs_members(ray_cluster, tmp_path):
    file = tmp_path / "w.toml"
    file.write_text(TEXT)
    there = sweep(file, {"learner.lr": [1e-3, 1e38]}, [1, 2], tmp_path / "there", cluster="local")
    here = sweep(file, {"learner.lr": [1e-3, 1e38]}, [1, 2], tmp_path / "here")
    assert there.failed == here.failed == 2
    for ours, theirs in zip(here.rows, there.rows, strict=True):
        assert ours["state"] == theirs["state"]
        assert ours.get("digest") == theirs.get("digest")
    run = Path(there.rows[0]["directory"])
    assert json.loads((run / "summary.json").read_text())["name"] == "w"
    assert p2pfrl.verify(run).is_equal


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_ray_cluster_compares_and_does_the_rest_of_what_was_interrupted(ray_cluster, tmp_path):
    file = tmp_path / "w.toml"
    file.write_text(TEXT)
    there, here = tmp_path / "there", tmp_path / "here"
    own = ["compare", str(file), "--modes", "gossip,independent", "--seeds", "1,2", "--quiet"]
    on_ray = ["--executor", "ray", "--address", "local"]
    assert main([*own, "--out", str(here)]) == 0
    assert main([*own, "--out", str(there), *on_ray]) == 0
    found = digests(there)
    assert len(found) == 4
    assert found == digests(here)
    assert (there / "comparison.csv").read_bytes() == (here / "comparison.csv").read_bytes()

    missing, *kept = sorted(found)
    shutil.rmtree(there / missing)
    before = {name: (there / name / "summary.json").stat().st_mtime_ns for name in kept}
    assert main([*own, "--out", str(there), *on_ray, "--resume"]) == 0
    assert digests(there) == found
    for name in kept:  # what was there is not run again
        assert (there / name / "summary.json").stat().st_mtime_ns == before[name]


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_interrupted_run_goes_on_with_the_workers_of_a_ray_cluster(ray_cluster, tmp_path):
    file, alone = tmp_path / "w.toml", tmp_path / "alone"
    file.write_text(TEXT.replace("rounds = 4", "rounds = 12") + "checkpoint = {every = 2}\n")
    assert main(["scenario", str(file), "--out", str(alone), "--quiet", "--no-report"]) == 0

    def stop(row: Any) -> None:
        if row["round"] == 5:
            raise KeyboardInterrupt

    broken = tmp_path / "broken"
    first = p2pfrl.run(load(file), out=broken, progress=stop)
    assert first.summary["stopped_by"] == "interrupt"
    options = ["--executor", "ray", "--address", "local", "--quiet", "--no-report"]
    assert main(["scenario", "--resume", str(broken), *options]) == 0
    summary = json.loads((broken / "summary.json").read_text())
    assert summary["workers"] == 2
    assert summary["digest"] == json.loads((alone / "summary.json").read_text())["digest"]


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each run in a folder, by its place there."""
    return {
        str(file.parent.relative_to(folder)): json.loads(file.read_text())["digest"]
        for file in folder.rglob("summary.json")
    }
