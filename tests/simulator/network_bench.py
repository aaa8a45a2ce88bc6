"""A network on a loop of its own, and what arrives where and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from p2pfrl.core.types import COORDINATOR, MODEL, UPDATE, Event, Frame, Missing, Received
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.simulator.digest import Log
from p2pfrl.simulator.links import Fixed, Latency
from p2pfrl.simulator.loop import virtual_time
from p2pfrl.simulator.losses import Independent, LinkLosses
from p2pfrl.simulator.network import Network

MS = 1_000_000


@dataclass
class Wired:
    """A network of n nodes that write down what they get."""

    n: int = 4
    latency: Latency = field(default_factory=lambda: Fixed(0))
    loss: LinkLosses = field(default_factory=lambda: LinkLosses(0, Independent()))
    bandwidth: float = 1e6
    edge_bandwidth: Mapping[tuple[int, int], float] = field(default_factory=dict)
    slower: Mapping[int, float] = field(default_factory=dict)
    duplicate: float = 0.0
    seed: int = 1
    size: int = 0

    def __post_init__(self) -> None:
        self.loop = virtual_time()
        self.log = Log(trace=True)
        decoder = Decoder("run", agents=self.n, parts=("p",), size=None, dtype="float32")
        options: dict[str, Any] = {
            "decoder": decoder,
            "log": self.log,
            "latency": self.latency,
            "loss": self.loss,
            "bandwidth": self.bandwidth,
            "edge_bandwidth": self.edge_bandwidth,
            "slower": self.slower,
            "duplicate": self.duplicate,
            "seed": self.seed,
        }
        self.network = Network(self.loop, self.n, **options)
        self.got: list[tuple[int, int, Event]] = []
        self.encoders = {i: Encoder("run", i) for i in range(COORDINATOR, self.n)}
        for node in range(COORDINATOR, self.n):
            self.network.connect(
                node, lambda event, node=node: self.got.append((self.loop.now, node, event))
            )  # type: ignore[misc]

    def frame(self, sender: int, round: int = 0, size: int = 100) -> Frame:
        kind = MODEL if sender == COORDINATOR else UPDATE
        return self.encoders[sender].encode(
            np.zeros(size, dtype="<f4"), kind=kind, round=round, parts=("p",)
        )

    def send(
        self, at: int, sender: int, to: Sequence[int], round: int = 0, size: int = 100
    ) -> Frame:
        frame = self.frame(sender, round, size)
        self.loop.post(at, self.network.send, sender, to, frame)
        return frame

    def run(self, until: int = 10**15) -> list[tuple[int, int, Event]]:
        self.loop.post(until, self.loop.stop)
        self.loop.run_forever()
        return self.got

    def arrivals(self, receiver: int) -> list[tuple[int, int]]:
        """Return (time, sender) of what arrived at a node, in order."""
        return [
            (t, e.message.sender)
            for t, node, e in self.got
            if node == receiver and isinstance(e, Received)
        ]

    def missing(self) -> list[tuple[int, int, int, int]]:
        """Return (time, receiver, sender, round) of every gap that was noticed."""
        return [(t, node, e.peer, e.round) for t, node, e in self.got if isinstance(e, Missing)]

    def books(self) -> tuple[int, int, int]:
        network = self.network
        counted = network.traffic
        return counted.messages_sent, counted.messages_delivered, counted.messages_dropped
