"""Benchmark of a deployment: agents that exchange parameters over TCP against no exchange.

Both run the same agents in the same number of processes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from typing import Any

from p2pfrl.bench.measure import Result
from p2pfrl.build.participants import share
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.net.fleet import Address
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.scenario import loads

WAIT = 240.0
_TIMING = Timing(heartbeat=2.0, timeout=30.0, start=WAIT)
_NEED = 1.3
_SCENARIO = """
name = "tcp_agents"
agents = {agents}
mode = "{mode}"

[stop]
rounds = {rounds}

[environment]
id = "CartPole-v1"
instances = 4

[learner]
kind = "ppo"

[topology]
kind = "ring"

[evaluation]
episodes = 0
"""


def bench(quick: bool) -> Iterator[Result]:
    """Yield the wall time of a gossiping ring of 16 in 4 processes over that without exchange."""
    agents, processes, rounds, turns = (4, 2, 2, 1) if quick else (16, 4, 60, 5)
    pairs = [
        (run("gossip", agents, processes, rounds), run("independent", agents, processes, rounds))
        for _ in range(turns)
    ]
    (wall, cpu), (wall_alone, cpu_alone) = (
        [median(one) for one in zip(*side, strict=True)] for side in zip(*pairs, strict=True)
    )
    against = f"no exchange, {wall_alone:.2f} s; at most {_NEED}"
    yield Result("tcp_16_agents_vs_alone", wall / wall_alone, "x", against)
    yield Result(
        "tcp_16_agents_cpu_vs_alone",
        cpu / cpu_alone,
        "x",
        f"no exchange, {cpu_alone:.2f} CPU seconds",
    )


def run(mode: str, agents: int, processes: int, rounds: int) -> tuple[float, float]:
    """Return the seconds from the first connection to the last end, and all CPU seconds."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "p2pfrl.deploy.process"])
    text = _SCENARIO.format(agents=agents, mode=mode, rounds=rounds)
    groups = share(loads(text), processes)
    started: list[BaseProcess] = []
    hears, says = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as root:

        def start(group: tuple[int, ...], where: Address, *, lead: bool) -> None:
            out = Path(root) / str(group[0])
            process = context.Process(
                target=_peer, args=(text, group, out, where, lead, says), daemon=True
            )
            process.start()
            started.append(process)

        try:
            start(groups[0], ("127.0.0.1", 0), lead=True)
            where: Address = _hear(hears)
            for group in groups[1:]:
                start(group, where, lead=False)
            spans: list[tuple[float, float, float]] = [_hear(hears) for _ in groups]
        finally:
            for process in started:
                process.kill()
                process.join()
            hears.close()
            says.close()
    return max(end for _, end, _ in spans) - min(begin for begin, _, _ in spans), sum(
        cpu for _, _, cpu in spans
    )


def _hear(connection: Connection) -> Any:
    assert connection.poll(WAIT), "a process said nothing in time"
    return connection.recv()


def _peer(
    text: str, agents: tuple[int, ...], out: Path, rendezvous: Address, lead: bool, says: Connection
) -> None:
    """Run one process and report its start and end."""
    scenario, before = loads(text), time.process_time()
    place = Place(agents, lead=lead, rendezvous=rendezvous)
    summary = deploy(
        scenario, place, out, security=Security(), timing=_TIMING, quiet=True, announce=says.send
    )
    end = time.monotonic()
    assert summary["rounds"] == scenario.stop.rounds, summary
    assert not summary["deadlines_expired"], summary
    assert not summary["refusals"], summary
    says.send((end - summary["run_seconds"], end, time.process_time() - before))
