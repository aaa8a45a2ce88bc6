"""Trace of a run: one JSON object per line, and the same events for https://ui.perfetto.dev.

Perfetto reads the Chrome trace-event format: `X` is a slice on an agent's track, and `s` and `f`
are the two ends of the arrow from a send to its delivery. Its times are microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol


class Event(NamedTuple):
    """One event of the world, in chronological order. The digest is computed over these events.

    Attributes:
        time_ns: virtual time, nanoseconds.
        kind: send, deliver, drop, train, mix, or another name that the world uses.
        sender: the agent that acted or sent.
        receiver: the agent that receives; the sender itself if the event has no second agent.
        sequence: number of the message or update of `sender`.
        crc: crc32 of the payload, 0 without one.
    """

    time_ns: int
    kind: str
    sender: int
    receiver: int
    sequence: int
    crc: int


class Slice(Protocol):
    """An interval of the timeline."""

    @property
    def agent(self) -> int:
        """Agent of the interval."""

    @property
    def kind(self) -> str:
        """Activity of the agent."""

    @property
    def start(self) -> float:
        """Start of the interval in virtual seconds."""

    @property
    def end(self) -> float:
        """End of the interval in virtual seconds."""


_FIELDS = ("time_ns", "kind", "from", "to", "sequence", "crc32")
_ARROWS = {"send": "s", "deliver": "f"}
_AT_RECEIVER = frozenset({"deliver"})


def encode_events(events: Iterable[Event]) -> bytes:
    """Return `events` as JSON lines with the keys time_ns, kind, from, to, sequence, crc32."""
    return "".join(
        json.dumps(dict(zip(_FIELDS, event, strict=True))) + "\n" for event in events
    ).encode()


def decode_events(content: bytes) -> tuple[Event, ...]:
    """Return the events that `encode_events` encoded."""
    rows = (json.loads(line) for line in content.decode().splitlines())
    return tuple(
        Event(
            int(r["time_ns"]),
            str(r["kind"]),
            int(r["from"]),
            int(r["to"]),
            int(r["sequence"]),
            int(r["crc32"]),
        )
        for r in rows
    )


def encode_trace(events: Sequence[Event], timeline: Iterable[Slice], agents: int) -> bytes:
    """Return a Chrome trace with the timeline's slices, all events, and arrows to deliveries."""
    names = {agent: f"agent {agent}" for agent in range(agents)} | {agents: "coordinator"}
    rows: list[dict[str, Any]] = [
        {
            "ph": "M",
            "name": "thread_name",
            "pid": 0,
            "tid": track,
            "args": {"name": name},
        }
        for track, name in names.items()
    ]
    rows.extend(
        {
            "ph": "X",
            "name": i.kind,
            "cat": "timeline",
            "pid": 0,
            "tid": i.agent if i.agent >= 0 else agents,
            "ts": i.start * 1e6,
            "dur": max(i.end - i.start, 0.0) * 1e6,
        }
        for i in timeline
    )
    for event in events:
        who = event.receiver if event.kind in _AT_RECEIVER else event.sender
        place = {"pid": 0, "tid": who if who >= 0 else agents, "ts": event.time_ns / 1e3}
        detail = {
            "from": event.sender,
            "to": event.receiver,
            "sequence": event.sequence,
            "crc32": event.crc,
        }
        rows.append(
            {"ph": "X", "name": event.kind, "cat": "event", "dur": 0.5, "args": detail, **place}
        )
        if arrow := _ARROWS.get(event.kind):
            name = f"{event.sender}-{event.receiver}-{event.sequence}"
            rows.append(
                {"ph": arrow, "name": "message", "cat": "message", "id": name, "bp": "e", **place}
            )
    return json.dumps({"traceEvents": rows, "displayTimeUnit": "ms"}).encode()
