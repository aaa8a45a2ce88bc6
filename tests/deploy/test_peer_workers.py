"""Processes that train the agents of one process of a deployment: its result, its log, its end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from process_groups import wait_until_gone

import p2pfrl
import p2pfrl.build.world
import p2pfrl.cli
from p2pfrl.deploy import workers as beside
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.experiment import workforce
from p2pfrl.learning.learners.base import Batch, Outcome
from p2pfrl.learning.trainer import Trainer
from p2pfrl.learning.workers import Workers
from p2pfrl.net.log import RunLog
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.results.record import load
from p2pfrl.scenario import loads

TEXT = """
name = "peer_workers"
agents = 6
stop = {rounds = 3}
environment = {id = "cartpole", instances = 2}
learner = {kind = "ppo", hidden = [4], steps = 8}
evaluation = {episodes = 0}
"""


def process(out: Path, count: workforce.Count, text: str = TEXT) -> Mapping[str, Any]:
    """Run all agents in one process, and return its summary."""
    own = loads(text)
    place = Place(tuple(range(own.agents)), lead=True, rendezvous=("127.0.0.1", 0))
    timing = Timing(start=30.0)
    return deploy(own, place, out, security=Security(), timing=timing, quiet=True, workers=count)


def noted(out: Path) -> list[str]:
    """Return what the log of a process says of workers."""
    log = out / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [line["detail"] for line in lines if line["what"] == "workers"]


def test_a_process_has_one_result_whoever_trains_its_agents(tmp_path, monkeypatch):
    pools: list[Workers] = []
    threads: set[str] = set()
    start, submit = Workers.start, Workers.submit

    def started(self: Workers) -> None:
        start(self)
        pools.append(self)

    def submitted(self: Workers, batch: Batch) -> Any:
        threads.add(threading.current_thread().name)
        return submit(self, batch)

    monkeypatch.setattr(Workers, "start", started)
    monkeypatch.setattr(Workers, "submit", submitted)
    simulated = p2pfrl.run(loads(TEXT)).summary["parameters_digest"]
    alone = process(tmp_path / "1", 1)
    assert "workers" not in alone
    assert not pools
    for count in (2, 3):
        found = process(tmp_path / str(count), count)
        assert found["parameters_digest"] == alone["parameters_digest"] == simulated
        assert found["workers"] == count
        assert noted(tmp_path / str(count)) == []
        assert not pools[-1].pids, "none is left"
    assert threads == {"trainer_0"}, "the loop never waits for them"


def test_what_a_killed_process_computed_is_computed_again_and_the_log_says_so(
    tmp_path, monkeypatch
):
    submit, chunks = Workers.submit, list[int]()

    def killing(self: Workers, batch: Batch) -> Any:
        handle = submit(self, batch)
        chunks.append(len(batch.agents))
        if len(chunks) == 3:
            os.kill(self.pids[0], signal.SIGKILL)
        return handle

    alone = process(tmp_path / "1", 1)
    monkeypatch.setattr(Workers, "submit", killing)
    found = process(tmp_path / "2", 2)
    assert found["parameters_digest"] == alone["parameters_digest"]
    assert found["rounds"] == 3
    (said,) = noted(tmp_path / "2")
    assert said.startswith("a worker process was killed by SIGKILL")
    assert said.endswith("another takes its place")


def test_auto_starts_processes_once_training_takes_long_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(workforce, "cores", lambda: 2)
    alone = process(tmp_path / "a", "auto")
    assert alone["workers"] == 1
    assert noted(tmp_path / "a") == []
    monkeypatch.setattr("p2pfrl.learning.growing.AFTER", 1e-3)
    monkeypatch.setattr("p2pfrl.learning.growing._LEAST", 1e-6)
    found = process(tmp_path / "b", "auto")
    assert found["workers"] == 2
    assert found["parameters_digest"] == alone["parameters_digest"]
    (said,) = noted(tmp_path / "b")
    assert said.startswith("training goes on in 2 processes besides this one")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("agents = 6", "agents = 1"), "an update of one agent, or of one shared world"),
        (('"cartpole", instances = 2', '"FrozenLake-v1"'), "keep what no array holds"),
    ],
)
def test_a_process_says_why_it_trains_alone(change, reason, tmp_path):
    text = TEXT.replace(*change)
    if "agents = 1" in text:
        text = text.replace('name = "peer_workers"', 'name = "one"\nmode = "independent"')
    assert process(tmp_path / "p", 2, text)["workers"] == 1
    (said,) = noted(tmp_path / "p")
    assert reason in said
    assert said.endswith("training goes on in this one alone")


def test_an_interrupt_while_workers_start_leaves_none(tmp_path, monkeypatch):
    events: list[str] = []

    @contextmanager
    def slowly(*of: object, say: object) -> Iterator[None]:
        events.append("starts")
        time.sleep(0.2)
        try:
            yield
        finally:
            events.append("ends")

    monkeypatch.setattr(workforce, "employed", slowly)
    log = RunLog(tmp_path / "log.jsonl", quiet=True)

    async def main() -> None:
        async with beside.employed_here(2, loads(TEXT), None, log):  # type: ignore[arg-type]
            raise AssertionError("it was interrupted before")

    async def interrupted() -> None:
        task = asyncio.create_task(main())
        while not events:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert events == ["starts", "ends"]


def test_a_trainer_whose_updates_another_thread_computes_submits_nothing_before():
    class Eager:
        workers, most, is_here = 2, None, False

        def __init__(self, trainer: Trainer) -> None:
            self.trainer, self.chunks = trainer, 0

        def has_room(self) -> bool:
            return True

        def space(self, agents: int) -> None:
            """It has no arrays of its own."""

        def submit(self, batch: Batch) -> Outcome:
            self.chunks += 1
            return self.trainer.update_batch(batch)

        def result(self, handle: Outcome) -> Outcome:
            return handle

    found = []
    for overlaps in (True, False):
        with p2pfrl.build.world.build(loads(TEXT), on_row=lambda row: False) as world:
            trainer = world.trainer
            trainer.executor, trainer.overlaps = (eager := Eager(trainer)), overlaps
            for agent in trainer.agents:
                trainer.freeze(agent)
            assert eager.chunks == (2 if overlaps else 0)
            trainer.compute()
            assert eager.chunks == 2
            for agent in trainer.agents:
                trainer.commit(agent)
            found.append(trainer.parameters.copy())
    assert np.array_equal(*found)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("to_all", [False, True])
def test_no_process_is_left_however_a_peer_ends(tmp_path, number, to_all):
    (tmp_path / "w.toml").write_text(TEXT)
    words = ["peer", "w.toml", "--agents", "0-5", "--lead", "--out", "run", "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "p2pfrl", *words, "--set", "stop.rounds=1000000"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stderr is not None
        is_there = any(" round " in line and "round 0/" not in line for line in run.stderr)
        (os.killpg if to_all else os.kill)(run.pid, number if is_there else signal.SIGKILL)
        said = run.stderr.read()
    assert is_there, said
    assert run.returncode == (-number if number == signal.SIGKILL else 130), said
    if number != signal.SIGKILL:
        assert json.loads((tmp_path / "run" / "peer.json").read_text())["stopped_by"] == "interrupt"
    wait_until_gone(run.pid)


@pytest.mark.slow
def test_processes_of_a_deployment_have_workers_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("w.toml").write_text(TEXT.replace("agents = 6", 'agents = 6\nmode = "central"'))
    words = ["scenario", "w.toml", "--transport", "tcp", "-j", "2", "--out", "run", "--quiet"]
    assert p2pfrl.cli.main([*words, "--workers", "2", "--no-report"]) == 0
    assert p2pfrl.verify("run").is_equal
    homes = sorted(Path("run/peers").iterdir())
    counts = [json.loads((home / "peer.json").read_text()).get("workers") for home in homes]
    assert sorted(counts, key=str) == [2, 2, None], "the coordinator trains nobody"
    assert load("run").summary["rounds"] == 3
