"""Benchmark of events: messages in the simulated world against bare callbacks on a heap.

The pattern has n agents on a circulant graph (4 neighbors). In every round an agent works for a
while (a timer), sends 8 float64 numbers to each neighbor, and waits for the numbers of all four.
Work and latency differ by agent and by edge, so the heap is not a queue.

In the simulated world every agent is here an asyncio task that reads its mailbox. Every message is
encoded and decoded and passes interfaces and links, and every send and delivery goes into the
digest. The bare version has one heap and one callback per event.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np

from p2pfrl.bench.measure import Result, Work, rates
from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import UPDATE, Frame, Received
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.simulator.digest import TRAIN, Log
from p2pfrl.simulator.links import Latency, PerEdge
from p2pfrl.simulator.loop import virtual_time
from p2pfrl.simulator.losses import Independent, LinkLosses
from p2pfrl.simulator.network import Network

MILLISECOND = 1_000_000
DEGREE = 4
NUMBERS = 8
_NEED = 0.15


def small(quick: bool) -> Iterator[Result]:
    """Yield the figures of 256 agents."""
    return _compare(256, rounds=2 if quick else 100, turns=1 if quick else 7)


def large(quick: bool) -> Iterator[Result]:
    """Yield the figures of 10,000 agents."""
    return _compare(10_000, rounds=1 if quick else 8, turns=1 if quick else 5)


def _compare(n: int, *, rounds: int, turns: int) -> Iterator[Result]:
    """Yield messages per second in the simulated world: ratio to the bare heap, and rate."""
    ours, bare = rates(lambda: simulated(n, rounds), lambda: on_heap(n, rounds), turns=turns)
    against = f"bare callbacks on a heap, {bare:,.0f} messages/s; at least {_NEED}"
    yield Result(f"events_vs_heap_n{n}", ours / bare, "x", against)
    yield Result(f"events_per_second_n{n}", ours, "messages/s", "CPU time of one core")


def neighbors(n: int) -> list[tuple[int, ...]]:
    """Return the circulant graph C_n(1, 2)."""
    return [tuple(sorted({(i + step) % n for step in (-2, -1, 1, 2)})) for i in range(n)]


def work_of(agent: int) -> int:
    """Return the nanoseconds of an agent's work: 5 to 10 ms, spread evenly (golden ratio)."""
    return 5 * MILLISECOND + agent * 3_090_169 % (5 * MILLISECOND)


def latency_of(sender: int, receiver: int) -> int:
    """Return the latency of an edge in nanoseconds: 1 to 2 ms."""
    return MILLISECOND + (sender * 618_034 + receiver * 414_214) % MILLISECOND


def edge_latency(n: int) -> Latency:
    """Return the latency model of the pattern."""
    return PerEdge({(i, j): latency_of(i, j) for i, near in enumerate(neighbors(n)) for j in near})


def simulated(n: int, rounds: int) -> Work:
    """Return the pattern in the simulated world; it returns the number of delivered messages."""
    loop, log = virtual_time(), Log(trace=False)
    network = Network(
        loop,
        n,
        decoder=Decoder("bench", agents=n, parts=("x",), size=NUMBERS, dtype="float64"),
        log=log,
        latency=edge_latency(n),
        loss=LinkLosses(0, Independent()),
        bandwidth=1e9,
        edge_bandwidth={},
        duplicate=0.0,
        seed=1,
    )
    numbers = np.arange(NUMBERS, dtype=np.float64)

    def life(agent: int, near: tuple[int, ...]) -> Coroutine[None, None, None]:
        def send(to: Sequence[int], frame: Frame) -> None:
            network.send(agent, to, frame)

        def note() -> None:
            log.add(loop.now, TRAIN, agent, agent, 1, 0)

        port = MailboxPort(loop, lambda: None, send)
        network.connect(agent, port.put)
        return _live(port, Encoder("bench", agent), near, numbers, rounds, work_of(agent), note)

    lives = [life(agent, near) for agent, near in enumerate(neighbors(n))]

    async def everyone() -> None:
        for task in [loop.create_task(life) for life in lives]:
            await task

    def work() -> float:
        loop.run_until_complete(everyone())
        log.digest(numbers)
        assert network.traffic.messages_delivered == n * DEGREE * rounds
        return network.traffic.messages_delivered

    return work


async def _live(
    port: MailboxPort,
    encoder: Encoder,
    to: tuple[int, ...],
    numbers: Vector,
    rounds: int,
    work: int,
    note: Callable[[], None],
) -> None:
    """Work, send, and wait for the messages of all neighbors.

    A neighbor is at most one round ahead.
    """
    boxes: dict[int, dict[int, Vector]] = {0: {}}
    for round in range(rounds):
        box, boxes[round + 1] = boxes[round], {}
        port.wait_until(port.now() + work)
        while type(event := await port.receive()) is Received:
            message = event.message
            boxes[message.round][message.sender] = message.payload
        note()
        port.send(to, encoder.encode(numbers.copy(), kind=UPDATE, round=round, parts=("x",)))
        while len(box) < DEGREE:
            event = await port.receive()
            assert type(event) is Received
            message = event.message
            boxes[message.round][message.sender] = message.payload
        del boxes[round]


def on_heap(n: int, rounds: int) -> Work:
    """Return the pattern as bare callbacks; it returns the number of delivered messages."""
    circle = neighbors(n)
    flight = {(i, j): latency_of(i, j) for i, near in enumerate(circle) for j in near}
    work = [work_of(i) for i in range(n)]
    numbers = np.arange(NUMBERS, dtype=np.float64)
    boxes: list[dict[int, dict[int, Vector]]] = [{0: {}} for _ in range(n)]
    current = [0] * n
    is_waiting = [False] * n
    heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
    now = sequence = delivered = 0

    def begin(agent: int) -> None:
        nonlocal sequence
        is_waiting[agent] = False
        boxes[agent][current[agent] + 1] = {}
        sequence += 1
        heappush(heap, (now + work[agent], sequence, worked, (agent,)))

    def worked(agent: int) -> None:
        nonlocal sequence
        round, sent = current[agent], numbers.copy()
        for receiver in circle[agent]:
            sequence += 1
            heappush(
                heap,
                (now + flight[agent, receiver], sequence, arrive, (agent, receiver, round, sent)),
            )
        is_waiting[agent] = True
        advance(agent)

    def arrive(sender: int, agent: int, round: int, sent: Vector) -> None:
        nonlocal delivered
        delivered += 1
        boxes[agent][round][sender] = sent
        if is_waiting[agent]:
            advance(agent)

    def advance(agent: int) -> None:
        if len(boxes[agent][current[agent]]) == DEGREE:
            del boxes[agent][current[agent]]
            current[agent] += 1
            if current[agent] < rounds:
                begin(agent)
            else:
                is_waiting[agent] = False

    def run() -> float:
        nonlocal now
        for agent in range(n):
            begin(agent)
        while heap:
            now, _, callback, arguments = heappop(heap)
            callback(*arguments)
        assert delivered == n * DEGREE * rounds
        return delivered

    return run
