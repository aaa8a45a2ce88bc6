"""Benchmark of ten thousand complete agents without a learner: their memory and their speed.

Agents, schedules, rules, ports, network, codec and event loop are those of every run. Training is a
timer and changes nothing, and there is no record.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import getfile

import numpy as np

from p2pfrl.agent import Agent, Rules
from p2pfrl.bench.events import (
    DEGREE,
    MILLISECOND,
    NUMBERS,
    edge_latency,
    neighbors,
    on_heap,
    work_of,
)
from p2pfrl.bench.measure import Result, Work, paired, rates
from p2pfrl.consensus.mixing.base import Mixing, Weights
from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.consensus.schedules.base import always
from p2pfrl.consensus.schedules.synchronous import Synchronous
from p2pfrl.core.actor import Actor
from p2pfrl.core.graph import undirected
from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.parameters import Vector
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.turn import NoMemory
from p2pfrl.core.types import Frame, Trained, Update
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.exchange.compressors.base import Raw
from p2pfrl.exchange.gates.base import Always
from p2pfrl.exchange.payloads.base import Parameters
from p2pfrl.exchange.privacy.base import Plain
from p2pfrl.learning.corrections.base import Uncorrected
from p2pfrl.simulator.digest import Log
from p2pfrl.simulator.driver import drive
from p2pfrl.simulator.loop import VirtualTimeLoop, virtual_time
from p2pfrl.simulator.losses import Independent, LinkLosses
from p2pfrl.simulator.network import Network

_MOST = 3072
_WHOLE = 0.08
_NOT_COUNTED = [
    tracemalloc.Filter(False, getfile(what)) for what in (Mixing, Network, Traffic, tracemalloc)
]


class Silent:
    """Observer that writes nothing."""

    def trained(self, agent: int, update: Update) -> None:
        """Ignore the end of a local update."""

    def mixed(
        self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector
    ) -> None:
        """Ignore the end of a round."""

    def sending(self, agent: int, round: int) -> None:
        """Messages that must not be lost are about to leave."""

    def answered(self, agent: int, before: Vector, after: Vector) -> None:
        """Ignore an answer to a neighbor."""

    def judged(self, round: int, scores: Mapping[int, tuple[float, float]]) -> None:
        """Do nothing."""

    def sat_out(self, agent: int, round: int) -> None:
        """Ignore a round without participation."""


RULES = Rules(
    seed=1,
    payload=Parameters(),
    gate=Always(),
    privacy=Plain(),
    compressor=Raw(),
    mixing=Metropolis(),
    correction=Uncorrected(),
    order="adapt_then_combine",
    max_staleness=None,
)


class Population:
    """n agents on the circulant graph C_n(1, 2), in virtual time.

    Attributes:
        loop: the clock.
        network: the network with its counters.

    Args:
        parameters: `(n, d)`; each agent has a row, which changes by mixing alone.
        rounds: number of rounds of every agent.
        work: nanoseconds of a local update, per agent.
    """

    def __init__(self, parameters: Vector, *, rounds: int, work: Sequence[int]) -> None:
        self.loop = virtual_time()
        self._options = Synchronous()
        self._rounds = rounds
        n, d = parameters.shape
        near = neighbors(n)
        matrix = RULES.mixing.weights(
            undirected(n, ((i, j) for i, heard in enumerate(near) for j in heard))
        )
        self.network = Network(
            self.loop,
            n,
            decoder=Decoder("bench", agents=n, parts=("x",), size=d, dtype=parameters.dtype.name),
            log=Log(trace=False),
            latency=edge_latency(n),
            loss=LinkLosses(0, Independent()),
            bandwidth=1.25e8,
            edge_bandwidth={},
            duplicate=0.0,
            seed=1,
        )
        self._seats = [
            _Seat(i, self.loop, self.network, parameters[i], near[i], matrix[i], work[i])
            for i in range(n)
        ]

    def start(self) -> list[asyncio.Future[str]]:
        """Make the agents and start them."""
        return [self._begin(seat) for seat in self._seats]

    def run(self, tasks: Sequence[asyncio.Future[str]]) -> None:
        """Run until all tasks are done."""

        async def everyone() -> None:
            for task in tasks:
                await task

        self.loop.run_until_complete(everyone())

    def _begin(self, seat: _Seat) -> asyncio.Future[str]:
        port = seat.port = MailboxPort(self.loop, seat.train, seat.send)
        self.network.connect(seat.agent, port.deliver)
        schedule = self._options.gossip(
            seat.agent, seat, rounds=self._rounds, order=RULES.order, available=always
        )
        body = Agent(
            seat.agent,
            model=seat,
            rules=RULES,
            weights=seat.weights,
            encoder=Encoder("bench", seat.agent),
            port=port,
            observer=_NOBODY,
        )
        return drive(self.loop, Actor(schedule, body, port), port)


@dataclass(slots=True)
class _Seat(NoMemory):
    """Stand-in for trainer, model and topology of one agent. Its update takes `work`."""

    agent: int
    loop: VirtualTimeLoop
    network: Network
    parameters: Vector
    near: tuple[int, ...]
    row: Weights
    work: int
    parts: tuple[str, ...] = ("x",)
    port: MailboxPort | None = None

    def train(self) -> None:
        """Post the end of training."""
        assert self.port is not None
        self.loop.post(self.loop.now + self.work, self.port.deliver, _TRAINED)

    def send(self, to: Sequence[int], frame: Frame) -> None:
        """Give a frame to the network."""
        self.network.send(self.agent, to, frame)

    def weights(self, round: int) -> Weights:
        """Return the row of the mixing matrix."""
        return self.row

    def shared(self) -> Vector:
        """Return a copy of the parameters."""
        return self.parameters.copy()

    def replace(self, vector: Vector) -> None:
        """Write the parameters."""
        self.parameters[:] = vector

    def successors(self, round: int) -> tuple[int, ...]:
        """Return the neighbors."""
        return self.near

    def predecessors(self, round: int) -> tuple[int, ...]:
        """Return the neighbors."""
        return self.near


_TRAINED = Trained(Update(0, 1, 0.0))
_NOBODY = Silent()


def memory(quick: bool) -> Iterator[Result]:
    """Yield the bytes of one agent: timers, mailbox, driver, schedule, encoder, `Agent`.

    They are traced on 10,000 agents in their third round, while all train. Not counted are objects
    that exist before (graph, mixing matrix, stand-in of the learner), the vector from mixing, the
    network's counters and the log.
    """
    n = 1000 if quick else 10_000
    used: list[int] = []
    _traced(50, [])
    _traced(n, used)
    against = f"n = {n:,}, traced while everyone trains; at most {_MOST}"
    yield Result("bytes_per_agent", used[0] / n, "bytes", against)


def _traced(n: int, used: list[int]) -> None:
    """Append the bytes of n agents in their third round to `used`."""
    parameters = np.arange(n * 8, dtype=np.float64).reshape(n, 8)
    population = Population(parameters, rounds=3, work=[10 * MILLISECOND] * n)
    gc.collect()
    tracemalloc.start()
    try:
        tasks = population.start()

        def measure() -> None:
            gc.collect()
            snapshot = tracemalloc.take_snapshot().filter_traces(_NOT_COUNTED)
            used.append(sum(trace.size for trace in snapshot.traces))

        population.loop.post(27 * MILLISECOND, measure)
        population.run(tasks)
    finally:
        tracemalloc.stop()


def whole(quick: bool) -> Iterator[Result]:
    """Yield messages per CPU second of whole agents, with schedule and mixing, against a bare heap.

    The bare heap handles the same events as callbacks, and does nothing with the numbers.
    """
    n, rounds = 256, (2 if quick else 50)

    def agents() -> Work:
        parameters = np.arange(n * NUMBERS, dtype=np.float64).reshape(n, NUMBERS)
        population = Population(parameters, rounds=rounds, work=[work_of(i) for i in range(n)])
        tasks = population.start()

        def work() -> float:
            population.run(tasks)
            return float(population.network.traffic.messages_delivered)

        return work

    found = paired(agents, lambda: on_heap(n, rounds), turns=1 if quick else 7)
    against = (
        f"bare callbacks on a heap, {found.other:,.0f} messages/s; {found.span}; at least {_WHOLE}"
    )
    yield Result("agents_vs_heap_n256", found.ratio, "x", against)


def gossip(quick: bool) -> Iterator[Result]:
    """Yield bytes per CPU second of synchronous rounds, d = 4675, against plain copies.

    The memory that copies are written to is there before: the system makes no pages meanwhile.
    """
    n, rounds = (100 if quick else 10_000), 2
    parameters = np.ones((n, 4675), dtype=np.float32)
    nbytes = float(n * DEGREE * parameters[0].nbytes * rounds)

    def agents() -> Work:
        population = Population(parameters, rounds=rounds, work=[work_of(i) for i in range(n)])
        tasks = population.start()

        def work() -> float:
            population.run(tasks)
            return nbytes

        return work

    def copies() -> Work:
        near, into = neighbors(n), np.ones_like(parameters)

        def work() -> float:
            for _ in range(rounds):
                for i, row in enumerate(into):
                    for j in near[i]:
                        row[:] = parameters[j]
            return nbytes

        return work

    ours, bare = rates(agents, copies, turns=1 if quick else 3)
    against = f"warm copies of what is received, {bare / 1e9:.2f} GB/s"
    yield Result("gossip_round_vs_copy_n10000", ours / bare, "x", against)
    yield Result(
        "gossip_round_seconds_n10000",
        nbytes / rounds / ours,
        "s",
        "CPU time of one core, for one round",
    )
