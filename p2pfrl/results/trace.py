"""Trace of a run: one JSON object per line, and the same events for https://ui.perfetto.dev.

Perfetto reads the Chrome trace-event format: `X` is a slice on an agent's track, `s` and `f` are
the two ends of the arrow from a send to its delivery, and `i` is an instant, such as of a fault.
Its times are microseconds.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from p2pfrl.core.types import called


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


class Strike(Protocol):
    """A fault that happened."""

    @property
    def seconds(self) -> float:
        """Virtual time."""

    @property
    def kind(self) -> str:
        """Name of the fault."""

    @property
    def agents(self) -> Sequence[int]:
        """Agents that it affected; empty for faults of links."""


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


def encode_trace(
    events: Sequence[Event],
    timeline: Iterable[Slice],
    agents: int,
    faults: Iterable[Strike] = (),
    name: str = "p2pfrl",
) -> bytes:
    """Return a Chrome trace: the timeline's slices, all events, arrows to deliveries, and faults.

    Every agent and every coordinator has a track for what it does, one for its events, and further
    ones where it does several things at a time: the slices of a track must not overlap, except that
    one lies within another. Times are rounded to nanoseconds. A fault of agents is an instant on
    their tracks, one of links an instant across all.

    Args:
        events: in chronological order.
        timeline: what agents did.
        agents: their number.
        faults: that happened.
        name: of the run.
    """
    tracks, arrows = _Tracks(agents, name), _Arrows()
    for i in sorted(timeline, key=lambda i: (i.start, i.end)):
        start, end = round(i.start * 1e6, 3), round(max(i.end, i.start) * 1e6, 3)
        place = {"pid": _PROCESS, "tid": tracks.free(i.agent, "", start, end)}
        size = {"ts": start, "dur": round(end - start, 3)}
        tracks.rows.append({"ph": "X", "name": i.kind, "cat": "timeline", **place, **size})
    for event in sorted(events, key=lambda event: event.time_ns):
        who = event.receiver if event.kind in _AT_RECEIVER else event.sender
        start = event.time_ns / 1e3
        at = {
            "pid": _PROCESS,
            "tid": tracks.free(who, " events", start, start + _MARK),
            "ts": start,
        }
        detail = {
            "from": event.sender,
            "to": event.receiver,
            "sequence": event.sequence,
            "crc32": event.crc,
        }
        tracks.rows.append(
            {"ph": "X", "name": event.kind, "cat": "event", "dur": _MARK, "args": detail, **at}
        )
        id = arrows.id(event)
        if arrow := _ARROWS.get(event.kind):
            tracks.rows.append(
                {"ph": arrow, "name": "message", "cat": "message", "id": id, "bp": "e", **at}
            )
    for fault in faults:
        scope = "t" if fault.agents else "g"
        for track in map(tracks.first, fault.agents or (0,)):
            mark = {"ph": "i", "name": fault.kind, "cat": "fault", "s": scope}
            at = {"pid": _PROCESS, "tid": track, "ts": round(fault.seconds * 1e6, 3)}
            tracks.rows.append({**mark, **at, "args": {"agents": list(fault.agents)}})
    return json.dumps({"traceEvents": tracks.rows, "displayTimeUnit": "ms"}).encode()


class _Arrows:
    """Names of messages, one for each.

    The numbers of an agent that was started again begin anew: a message with the sender, receiver
    and number of an earlier one has another name. The first of them to arrive, or to be lost, is
    the first that was sent.
    """

    def __init__(self) -> None:
        self._count: Counter[tuple[int, int, int]] = Counter()
        self._flying: dict[tuple[int, int, int], deque[int]] = defaultdict(deque)

    def id(self, event: Event) -> str:
        """Return the name of the message of an event."""
        key = (event.sender, event.receiver, event.sequence)
        if event.kind == "send":
            place = self._count[key]
            self._count[key] += 1
            self._flying[key].append(place)
        elif event.kind in ("deliver", "drop") and self._flying[key]:
            place = self._flying[key].popleft()
        else:
            place = max(0, self._count[key] - 1)
        more = f".{place + 1}" if place else ""
        return "-".join(map(str, key)) + more


_PROCESS = 1
"""Number of the process; threads begin at 1, too: 0 is the system's idle process."""
_MARK = 0.5
"""Microseconds that an event lasts in the trace, for an arrow needs a slice at its ends."""


class _Tracks:
    """Tracks of a trace, made when they are first used.

    Attributes:
        rows: rows of the trace, which name the tracks.

    Args:
        agents: number of agents, each of which has a track in any case.
        name: of the process that has all tracks.
    """

    def __init__(self, agents: int, name: str) -> None:
        row = {"ph": "M", "pid": _PROCESS, "tid": 1, "name": "process_name"}
        self.rows: list[dict[str, Any]] = [{**row, "args": {"name": name}}]
        self._agents = agents
        self._ends: dict[tuple[int, str], list[tuple[int, float]]] = {}
        self._count = 0
        for who in range(agents):
            self.free(who, "", 0.0, 0.0)

    def first(self, who: int) -> int:
        """Return the first track of `who`."""
        if (who, "") not in self._ends:
            self.free(who, "", 0.0, 0.0)
        return self._ends[who, ""][0][0]

    def free(self, who: int, what: str, start: float, end: float) -> int:
        """Return a track of `who` on which nothing lasts beyond `start`, and use it until `end`."""
        lanes = self._ends.setdefault((who, what), [])
        for place, (track, last) in enumerate(lanes):
            if last <= start:
                lanes[place] = (track, end)
                return track
        more = f" ({len(lanes) + 1})" if lanes else ""
        self._count += 1
        lanes.append((self._count, end))
        # Agents come first, then coordinators, and the tracks of one below each other.
        order = 2 * (who if who >= 0 else self._agents - who) + bool(what)
        at = {"ph": "M", "pid": _PROCESS, "tid": self._count}
        self.rows += [
            {**at, "name": "thread_name", "args": {"name": f"{called(who)}{what}{more}"}},
            {**at, "name": "thread_sort_index", "args": {"sort_index": order}},
        ]
        return self._count
