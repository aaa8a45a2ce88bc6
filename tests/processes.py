"""Real processes of one deployment on loopback.

All are forked from one server that has imported what they need.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from p2pfrl.deploy.process import Place, deploy
from p2pfrl.net import certificates as pki
from p2pfrl.net.fleet import show_agents
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.net.options import Files
from p2pfrl.net.tls import agents_of, contexts
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.render import resolved

DEADLINE = 300.0
TIMING = Timing(heartbeat=2.0, timeout=20.0, start=90.0)


def run(
    scenario: Scenario,
    groups: Sequence[Sequence[int]],
    root: Path,
    *,
    tls: bool = False,
    failing: Sequence[int] = (),
    limits: Mapping[int, int] | None = None,
) -> list[Path]:
    """Run one process per group to its end; return their directories.

    The processes of the groups in `failing` end with 1, the others with 0. No file of a group in
    `limits` grows beyond so many bytes: its disk is full then.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "p2pfrl.deploy.process", "p2pfrl.net.certificates"])
    homes = [root / show_agents(agents) for agents in groups]
    certificates: list[pki.Paths | None] = [None] * len(groups)
    if tls:
        pki.init(root / "pki")
        certificates = [pki.issue(root / "pki", agents) for agents in groups]
    text, processes = resolved(scenario), list[BaseProcess]()
    hears, says = context.Pipe(duplex=False)

    def start(index: int, rendezvous: tuple[str, int], lead: bool) -> None:
        arguments = (
            text,
            tuple(groups[index]),
            homes[index],
            rendezvous,
            lead,
            certificates[index],
            says,
            (limits or {}).get(index),
        )
        process = context.Process(target=_peer, args=arguments, daemon=True)
        process.start()
        processes.append(process)

    try:
        start(0, ("127.0.0.1", 0), lead=True)
        assert hears.poll(DEADLINE), "the lead did not say where it listens"
        address = hears.recv()
        for index in range(1, len(groups)):
            start(index, address, lead=False)
        for index, (process, agents) in enumerate(zip(processes, groups, strict=True)):
            process.join(DEADLINE)
            assert process.exitcode == (index in failing), (
                f"the process of agents {agents} ended with {process.exitcode}"
            )
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join(DEADLINE)
        hears.close()
        says.close()
    return homes


def _peer(
    text: str,
    agents: tuple[int, ...],
    out: Path,
    rendezvous: tuple[str, int],
    lead: bool,
    paths: pki.Paths | None,
    says: Connection,
    limit: int | None,
) -> None:
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    security = Security()
    if paths is not None:
        server, client = contexts(paths.authority, paths.certificate, paths.key)
        files = Files(paths.authority, paths.certificate, paths.key)
        security = Security(b"", server, client, agents_of, files=files)
    place = Place(agents, lead=lead, rendezvous=rendezvous)
    deploy(
        loads(text), place, out, security=security, timing=TIMING, quiet=True, announce=says.send
    )
