"""A connection that has fallen silent is replaced by a second one.

No process that talks over it notices.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import numpy as np
import pytest

from p2pfrl.core.types import UPDATE
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.net.fleet import Address
from p2pfrl.net.listener import Listener, listen
from p2pfrl.net.mesh import Mesh, Security, Timing
from p2pfrl.net.records import ENGINE, Identity
from p2pfrl.net.session import Delivered

SIZE = 1000
TIMING = Timing(heartbeat=0.3, timeout=5.0, start=20.0)
WAIT = 20.0


class Cable:
    """Carries what two sides say, until `cut`.

    A cut lets all connections fall silent that exist then, and none of the later ones. Their ends
    are carried on unless a cut is `whole`; `delay` is in seconds, for what the dialer says.
    """

    delay = 0.0

    def __init__(self, to: Address) -> None:
        self.address: Address
        self._to = to
        self._cuts = 0
        self._flows: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server

    async def __aenter__(self) -> "Cable":
        self._server = await asyncio.start_server(self._plug, "127.0.0.1", 0)
        self.address = ("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.cut()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._flows, return_exceptions=True)

    async def _plug(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection(*self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, other_writer]
        flows = ((reader, other_writer, self.delay), (other_reader, writer, 0.0))
        for source, sink, delay in flows:
            self._flows.append(asyncio.create_task(self._flow(source, sink, delay, self._cuts)))

    async def _flow(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: float, cuts: int
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                if cuts == self._cuts:
                    await asyncio.sleep(delay)
                    sink.write(data)
                    await sink.drain()
        sink.transport.abort()

    def cut(self, *, whole: bool = True) -> None:
        self._cuts += 1
        for flow in self._flows if whole else ():
            flow.cancel()

    def hang_up(self, side: int) -> None:
        """Reset the connections of one side, 0 for the dialer's, while the other hears nothing."""
        self.cut()
        for writer in self._writers[side::2]:
            writer.transport.abort()


class Log:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.details: list[str] = []

    def note(self, what: str, **details: Any) -> None:
        self.said.append(what)
        self.details.append(details.get("detail", ""))


class Side:
    """A process that answers every round with the next one."""

    def __init__(self, agent: int, own: Address, other: Address, engine: str = "torch") -> None:
        self.rounds: list[int] = []
        self.reports: list[bool] = []
        self.log = Log()
        self._agent, self._other = agent, other
        self._encoder = Encoder("run", agent)
        settings = {ENGINE: engine}
        identity = Identity("run", "hash", "layout", (agent,), 0, bytes(16), own, settings)
        decoder = Decoder("run", agents=2, parts=("p",), size=SIZE, dtype="float32")
        self.mesh = Mesh(
            identity,
            {other: (1 - agent,)},
            decoder=decoder,
            security=Security(),
            timing=TIMING,
            log=self.log,
            receive=self.hear,
            report=lambda agents, up: self.reports.append(up),
        )
        self.changed = asyncio.Event()

    def hear(self, event: Delivered) -> None:
        round = event.message.round
        self.changed.set()
        if round in self.rounds:
            return
        self.rounds.append(round)
        self.say(round + 1)

    def say(self, round: int) -> None:
        frame = self._encoder.encode(np.ones(SIZE, "<f4"), kind=UPDATE, round=round, parts=("p",))
        assert self.mesh.send(self._other, [1 - self._agent], frame, self._agent)

    async def until_round(self, round: int) -> None:
        async with asyncio.timeout(WAIT):
            while not self.rounds or self.rounds[-1] < round:
                self.changed.clear()
                await self.changed.wait()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


@contextlib.asynccontextmanager
async def two_sides() -> AsyncIterator[tuple[Cable, Side, Side]]:
    """Yield a cable, who dials over it, and who accepts; the first rounds are behind them."""
    listeners: list[Listener] = []
    places: list[Address] = []
    for _ in range(2):
        listener, where = await listen(("127.0.0.1", 0), None)
        listeners.append(listener)
        places.append(where)
    async with Cable(places[1]) as cable:
        left, right = Side(0, places[0], cable.address), Side(1, places[1], places[0])
        for listener, side in zip(listeners, (left, right), strict=True):
            listener.accept = side.mesh.accept
        try:
            await asyncio.gather(left.mesh.open(), right.mesh.open())
            left.say(0)
            await left.until_round(21)
            yield cable, left, right
        finally:
            for listener in listeners:
                listener.server.close()
            await asyncio.gather(left.mesh.close(), right.mesh.close())


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_rounds_go_on_over_a_second_connection_and_none_is_lost_or_reported(times: int) -> None:
    async def main() -> None:
        async with two_sides() as (cable, left, right):
            for _ in range(times):
                cable.cut()
                await left.until_round(left.rounds[-1] + 20)
            assert right.rounds == list(range(0, 2 * len(right.rounds), 2))
            assert left.rounds == list(range(1, 2 * len(left.rounds), 2))
            for side in (left, right):
                assert side.reports == []
                assert side.log.said == ["joined"] + ["reconnected"] * times
                assert side.mesh.refusals == {}

    run(main())


def test_the_end_of_the_old_connection_may_come_before_the_new_one_is_open() -> None:
    """The dialer is the first to see the new connection open, and frames are still under way."""

    async def main() -> None:
        async with two_sides() as (cable, left, right):
            cable.delay = 0.1
            cable.cut(whole=False)
            await left.until_round(left.rounds[-1] + 4)
            for side in (left, right):
                assert side.reports == []
                assert side.log.said == ["joined", "reconnected"]

    run(main())


@pytest.mark.parametrize("side", [0, 1], ids=["the dialer", "the acceptor"])
def test_both_report_it_where_one_had_lost_a_connection_that_the_other_replaces(side: int) -> None:
    """What one side sent meanwhile is lost, so both must start anew."""

    async def main() -> None:
        async with two_sides() as (cable, *sides):
            loser, other = sides[side], sides[1 - side]
            cable.hang_up(side)
            async with asyncio.timeout(WAIT):
                while len(loser.reports) < 2 or not other.reports:
                    await asyncio.sleep(0.02)
            assert loser.reports == [False, True]
            assert other.reports == [True]
            assert other.log.said == ["joined", "reconnected", "up"]

    run(main())


def test_a_loss_that_is_told_again_is_reported_once() -> None:
    async def main() -> None:
        async with two_sides() as (cable, left, right):
            cable.hang_up(1)
            async with asyncio.timeout(WAIT):
                while not left.reports:
                    await asyncio.sleep(0.02)
            right.say(2 * len(right.rounds) + 1)
            await right.until_round(right.rounds[-1] + 20)
            cable.cut()
            await right.until_round(right.rounds[-1] + 20)
            assert left.reports == [True]
            assert right.reports == [False, True]

    run(main())
