"""Invariants of compressors: what is left out of one message is in the next ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from p2pfrl.agent import Agent
from p2pfrl.build.world import World
from p2pfrl.catalog import kind_of
from p2pfrl.core.actor import Body
from p2pfrl.core.errors import WireError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import UPDATE, Action, Frame, Send
from p2pfrl.fuzz.checks.facts import is_honest, is_plain
from p2pfrl.fuzz.watch import Check


class Compressed(Check):
    """Error feedback loses nothing; top-k sends the largest numbers as they are."""

    says = "x + e = Q(x + e) + the next e; top-k keeps the largest numbers"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._sender: Agent | None = None
        self._input: Vector | None = None
        self._error: Vector | None = None

    @override
    def applies(self) -> bool:
        scenario = self.scenario
        return (
            is_plain(self.world)
            and scenario.mode == "central"
            and scenario.exchange.payload == "delta"
            and kind_of("compressors", scenario.compressor) in ("error_feedback", "topk")
            and not scenario.correction.extras
            and not self.world.assembly.privacy.is_accounted
        )

    @override
    def before(self, body: Body, action: Action) -> None:
        self._sender = None
        if isinstance(action, Send) and isinstance(body, Agent) and is_honest(self.world, body.id):
            self._sender = body
            self._input = body.outgoing().astype(np.float64)
            self._error = self._memory(body)

    def _memory(self, body: Agent) -> Vector:
        state = body.save()["outbox"]["_compressor_state"]
        return np.array(state[0] if state else np.zeros_like(self._input), dtype=np.float64)

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        body = self._sender
        if body is None or body.id != sender or frame.kind != UPDATE or not len(frame.payload):
            return
        try:
            decoded = self.world.assembly.decoder.decode(frame).payload
        except WireError as error:
            self.fail(f"agent {sender} sent what nobody can read: {error}")
        assert self._input is not None
        assert self._error is not None
        kept, wanted = self._memory(body), self._input + self._error
        if np.array_equal(kept, self._error) and kept.any():
            return  # it was sent before, and is sent again
        if kind_of("compressors", self.scenario.compressor) == "error_feedback":
            if not np.allclose(
                decoded + kept, wanted, rtol=0.0, atol=1e-9 * (1 + np.abs(wanted).max())
            ):
                self.fail(f"agent {sender} lost {float(np.abs(decoded + kept - wanted).max()):.3g}")
            return
        chosen = decoded != 0.0
        if not np.allclose(decoded[chosen], wanted[chosen], rtol=1e-6, atol=0.0):
            self.fail(f"agent {sender} sent other numbers than the largest")
        left, sent = np.abs(wanted[~chosen]), np.abs(wanted[chosen])
        if len(left) and len(sent) and left.max() > sent.min() * (1 + 1e-9):
            self.fail(f"agent {sender} left out a larger number than it sent")
