"""Links of live processes: a dead peer is noticed in time.

A peer that works again is heard at once.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from p2pfrl.core.types import UPDATE
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.net import dialing
from p2pfrl.net.listener import listen
from p2pfrl.net.mesh import Mesh, Security, Timing
from p2pfrl.net.records import Identity
from p2pfrl.net.session import Delivered

WAIT = 30.0
LOW, HIGH = 0, 1
"""The lower id dials."""


class Quiet:
    def note(self, what: str, **details: object) -> None:
        pass


class Peer:
    """One end of a link that sends frames for ever.

    It sends several a second, or as many as the link takes.
    """

    def __init__(self, me: int, there: tuple[str, int], size: int, timing: Timing) -> None:
        self.me, self.other, self.there, self.size = me, 1 - me, there, size
        self.heard: list[float] = []
        self.reports: list[tuple[float, bool]] = []
        self.news = asyncio.Event()
        own = Identity("run", "hash", "layout", (me,), 0, bytes(16), ("127.0.0.1", 1))
        self.mesh = Mesh(
            own,
            {there: (self.other,)},
            decoder=Decoder("run", agents=2, parts=("p",), size=size, dtype="float32"),
            security=Security(),
            timing=timing,
            receive=self.receive,
            report=self.report,
            log=Quiet(),
        )

    def receive(self, event: Delivered) -> None:
        self.heard.append(time.monotonic())
        self.news.set()

    def report(self, agents: tuple[int, ...], up: bool) -> None:
        self.reports.append((time.monotonic(), up))
        self.news.set()

    async def talk(self, pause: float) -> None:
        encoder, vector = Encoder("run", self.me), np.ones(self.size, "<f4")
        for round in range(10**9):
            frame = encoder.encode(vector, kind=UPDATE, round=round, parts=("p",))
            self.mesh.send(self.there, [self.other], frame, self.me)
            await asyncio.sleep(pause)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(WAIT):
            while not condition():
                self.news.clear()
                await self.news.wait()


async def child(me: int, mine: int, other: int, size: int, pause: float) -> None:
    listener, _ = await listen(("127.0.0.1", mine), None)
    peer = Peer(me, ("127.0.0.1", other), size, Timing())
    listener.accept = peer.mesh.accept
    await peer.mesh.open()
    await asyncio.wait_for(peer.talk(pause), 60)


def free_ports() -> list[int]:
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


@pytest.mark.slow
@pytest.mark.parametrize("me", [LOW, HIGH], ids=["we dial", "we accept"])
@pytest.mark.parametrize(("size", "pause"), [(100, 0.2), (750_000, 0.005)], ids=["idle", "busy"])
def test_a_stopped_peer_is_noticed_within_3_5_s_and_heard_within_a_second_of_going_on(
    me: int, size: int, pause: float
) -> None:
    mine, other = free_ports()
    command = [sys.executable, __file__, str(1 - me), str(other), str(mine), str(size), str(pause)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})

    async def main() -> None:
        listener, _ = await listen(("127.0.0.1", mine), None)
        peer = Peer(me, ("127.0.0.1", other), size, Timing())
        listener.accept = peer.mesh.accept
        await peer.mesh.open()
        talking = asyncio.create_task(peer.talk(pause))
        try:
            await peer.until(lambda: len(peer.heard) >= 5)
            process.send_signal(signal.SIGSTOP)
            stopped = time.monotonic()
            await peer.until(lambda: peer.reports)
            noticed = peer.reports[0][0] - stopped
            assert not peer.reports[0][1]
            print(f"noticed after {noticed:.2f} s")
            assert noticed <= 3.5
            before = len(peer.heard)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(peer.until(lambda: len(peer.heard) > before), 5.0)
            process.send_signal(signal.SIGCONT)
            went_on = time.monotonic()
            await peer.until(lambda: len(peer.heard) > before)
            print(f"heard after {peer.heard[before] - went_on:.2f} s")
            assert peer.heard[before] - went_on <= 1.0
        finally:
            talking.cancel()
            listener.server.close()
            await peer.mesh.close()

    try:
        asyncio.run(asyncio.wait_for(main(), 60))
    finally:
        process.kill()
        process.wait()


def test_between_two_attempts_to_connect_less_than_a_second_passes() -> None:
    assert dialing.CONNECT + dialing.BACKOFF[1] < 1.0


def test_a_killed_peer_is_noticed_at_once_and_its_successor_is_heard_though_it_comes_later() -> (
    None
):
    """Both ends in one process.

    The first successor's port opens only after several attempts have failed.
    """

    async def main() -> None:
        (mine, other), timing = free_ports(), Timing()
        dialer = Peer(LOW, ("127.0.0.1", other), 10, timing)
        listener, _ = await listen(("127.0.0.1", other), None)
        first = Peer(HIGH, ("127.0.0.1", mine), 10, timing)
        listener.accept = first.mesh.accept
        opening = asyncio.create_task(first.mesh.open())
        await asyncio.wait_for(dialer.mesh.open(), WAIT)
        talking = asyncio.create_task(dialer.talk(0.01))
        try:
            await first.until(lambda: first.heard)
            listener.server.close()
            for link in list(first.mesh._connections):
                link.abort()
            await dialer.until(lambda: dialer.reports)
            await asyncio.wait_for(opening, WAIT)
            await first.mesh.close()
            failed = lambda: dialer.mesh._throttle.counts.get(("unreachable", (HIGH,)), 0)  # noqa: E731
            async with asyncio.timeout(WAIT):
                while failed() < 3:
                    await asyncio.sleep(0.01)
            listener, _ = await listen(("127.0.0.1", other), None)
            began = time.monotonic()
            second = Peer(HIGH, ("127.0.0.1", mine), 10, timing)
            listener.accept = second.mesh.accept
            await second.mesh.open()
            await second.until(lambda: second.heard)
            assert [up for _, up in dialer.reports] == [False, True]
            assert second.heard[0] - began < WAIT
            await second.mesh.close()
        finally:
            talking.cancel()
            listener.server.close()
            await dialer.mesh.close()

    asyncio.run(asyncio.wait_for(main(), 60))


if __name__ == "__main__":
    asyncio.run(child(*map(int, sys.argv[1:5]), float(sys.argv[5])))
