"""Invariants of a whole run: its digest, and what its record says."""

from __future__ import annotations

import struct
from hashlib import blake2b

import numpy as np
from typing_extensions import override

from p2pfrl.fuzz.watch import Check
from p2pfrl.results.record import Record

_KINDS = {"send": 1, "deliver": 2, "drop": 3, "train": 4, "mix": 5, "fault": 6}
_MAY_BE_INFINITE: tuple[str, ...] = ()


class Digest(Check):
    """The digest is the hash of all events in order, and of the final parameters."""

    says = "the digest covers every event and every parameter"

    @override
    def ended(self, record: Record) -> None:
        total = blake2b(digest_size=16)
        assert record.events is not None
        last = 0
        for event in record.events:
            if event.time_ns < last:
                self.fail(f"the trace goes back to {event.time_ns} ns")
            last = event.time_ns
            fields = event.sender, event.receiver, event.sequence, event.crc
            total.update(struct.pack("<qBiiqI", event.time_ns, _KINDS[event.kind], *fields))
        total.update(np.ascontiguousarray(record.parameters).tobytes())
        if total.hexdigest() != record.summary["digest"]:
            self.fail("the digest is not the hash of the events and parameters")


class Recorded(Check):
    """The record has the final parameters, rows in order, and no infinite number."""

    says = "the record says what happened"

    @override
    def ended(self, record: Record) -> None:
        for name in ("round", "virtual_seconds", "env_steps", "bytes_sent", "messages_dropped"):
            column = record.metrics[name]
            if len(column) and (np.diff(column) < 0).any():
                self.fail(f"{name} goes back in metrics")
        for name, column in record.metrics.items():
            if np.isinf(column).any():
                self.fail(f"{name} is infinite in metrics")
        if not self.world.recorder.stopped_at_row:
            rows = self.world.trainer.parameters
            own = self.world.assembly.learning.stack.layout.pack(rows)
            if not np.array_equal(own, record.parameters, equal_nan=True):
                self.fail("the record has other parameters than the agents")
