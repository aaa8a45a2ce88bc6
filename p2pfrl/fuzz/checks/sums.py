"""Invariants of secure sums: exact in the ring, and of vectors that nobody sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from p2pfrl.agent import Agent
from p2pfrl.build.world import World
from p2pfrl.catalog import kind_of
from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.core.actor import Body
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import UPDATE, Action, Frame, Mix, Send
from p2pfrl.exchange.secure.ring import BYTES, FixedPoint, Ring, ring_sum
from p2pfrl.fuzz.checks.facts import learns_quadratics
from p2pfrl.fuzz.watch import Check

_NEAR = 1e-12


class _OfVectors(Check):
    """What agents are about to send, by agent and round."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._plain: dict[tuple[int, int], Vector] = {}

    @override
    def applies(self) -> bool:
        scenario = self.scenario
        is_whole = kind_of("compressors", scenario.compressor) == "none"
        return learns_quadratics(self.world) and scenario.secure.is_on and is_whole

    @property
    def ring(self) -> FixedPoint:
        """How numbers become ring elements."""
        ring = self.scenario.secure.ring
        assert ring is not None, "checked by applies"
        return ring

    @override
    def before(self, body: Body, action: Action) -> None:
        if isinstance(action, Send) and action.kind == UPDATE and isinstance(body, Agent):
            # A round is answered once, with the vector that it is answered with first.
            self._plain.setdefault((body.id, action.round), body.outgoing().copy())


class Summed(_OfVectors):
    """A secure sum is that of exactly the vectors that arrived, bit for bit."""

    says = "a secure sum is exact in its ring"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._made = 0
        self._before: Vector | None = None

    @override
    def applies(self) -> bool:
        scenario = self.scenario
        server = scenario.coordinator
        return (
            super().applies()
            and bool(scenario.secure.phases)
            and scenario.mode == "central"
            and kind_of("server_optimizers", server.server_optimizer) == "replace"
            and not server.aggregator.reads_samples
            and not self.world.assembly.privacy.is_accounted
            and scenario.exchange.payload in ("parameters", "delta")
            and not any(fault.returning() for fault in scenario.faults)
        )

    @override
    def before(self, body: Body, action: Action) -> None:
        super().before(body, action)
        if isinstance(action, Mix) and isinstance(body, Coordinator):
            self._before = body.model.copy()

    @override
    def after(self, body: Body, action: Action) -> None:
        if not isinstance(action, Mix) or not isinstance(body, Coordinator):
            return
        sums, before = self.world.assembly.sums, self._before
        assert sums is not None and before is not None  # noqa: PT018  # of a coordinator with sums
        if sums.made == self._made:
            if not np.array_equal(body.model, before):
                self.fail("the model moved in a round whose sum was given up")
            return
        self._made = sums.made
        senders = [message.sender for message in action.received]
        if len(senders) < 3:
            self.fail(f"a sum of {len(senders)} vectors was made")
        total = ring_sum([self._element(sender, action.round) for sender in senders])
        mean = self.ring.decode(total) / len(senders)
        expected = before + mean if self.scenario.exchange.payload == "delta" else mean
        scale = 1.0 + float(np.abs(expected).max())
        if not np.allclose(body.model, expected, rtol=0.0, atol=_NEAR * scale):
            far = float(np.abs(body.model - expected).max())
            self.fail(f"the model is {far:.3g} from the mean of {senders}")

    def _element(self, agent: int, round: int) -> Ring:
        return self.ring.encode(self._plain[agent, round])


class Hidden(_OfVectors):
    """No message of an agent holds its vector."""

    says = "what leaves an agent is masked"

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        if sender < 0 or frame.kind != UPDATE:
            return
        vector = self._plain.get((sender, frame.round))
        if vector is None:
            self.fail(f"{sender} sent a vector in {frame.kind!r} that it did not have")
            return
        plain = self.ring.packed(self.ring.encode(vector))
        sent = np.frombuffer(frame.payload, plain.dtype)[: plain.size]
        equal = sent == plain.ravel() if sent.size == plain.size else np.ones(1, dtype=bool)
        # Single bytes may be equal by chance, and elements of 64 bits are not.
        if np.any(equal) if self.ring.width == BYTES else np.all(equal):
            self.fail(f"{sender} sent its vector to {list(to)}")
