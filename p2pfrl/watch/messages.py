"""The last messages and activities of processes, from what their statuses say of them.

Times of a status are seconds of the clock of its process. They are moved to one scale by the clocks
of the machines: a process that wrote its status at `time` had then run for `seconds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2pfrl.deploy.status import RUNNING
from p2pfrl.net.timings import LATEST

MOST = 240
"""Number of messages above which only some are shown."""
_AGENTS, _INTERVALS = 32, 384
_FLYING = 10.0
"""Seconds without an arrival after which a message counts as lost."""


@dataclass(frozen=True)
class Traffic:
    """What the last seconds of some processes were.

    Attributes:
        messages: [sent, arrived, from, to, outcome], as of `build.sight`. Where only one end is
            known, a message arrives when it is sent.
        counted: number of messages, of which some are in `messages`.
        flying: number of messages on their way; None if no message has both ends here.
        window: from the first of them to the last status.
        intervals: [agent, "train" or "send", start, end], by start.
    """

    messages: list[list[Any]]
    counted: int
    flying: int | None
    window: tuple[float, float] | None
    intervals: list[list[Any]]


class _Known:
    """What statuses say, on one scale of time.

    Attributes:
        sent, arrived: (from, to, number) -> time.
        worked: [agent, "train", start, end].
        until: agent -> when its process wrote its status.
        since: agent -> from when on its process knows all arrivals.
        begin: from when on all processes know the messages that they have sent.
    """

    def __init__(self) -> None:
        self.sent: dict[tuple[int, int, int], float] = {}
        self.arrived: dict[tuple[int, int, int], float] = {}
        self.worked: list[list[Any]] = []
        self.until: dict[int, float] = {}
        self.since: dict[int, float] = {}
        self.begin = 0.0

    def add(self, process: Mapping[str, Any], late: float) -> None:
        """Add a process whose clock began `late` seconds after the scale."""
        latest = process["latest"]
        for receiver, sender, number, at in latest["arrived"]:
            self.arrived[int(sender), int(receiver), int(number)] = float(at) + late
        for sender, receivers, number, at in latest["sent"]:
            for to in receivers:
                self.sent[int(sender), int(to), int(number)] = float(at) + late
        self.worked += [
            [int(agent), "train", float(start) + late, float(end) + late]
            for agent, start, end in latest["worked"]
        ]
        own = tuple(map(int, process["agents"]))
        self.until |= dict.fromkeys(own, float(process["seconds"]) + late)
        first = float(latest["arrived"][0][3]) if latest["arrived"] else 0.0
        self.since |= dict.fromkeys(own, first + late)
        if len(latest["sent"]) >= LATEST:
            self.begin = max(self.begin, float(latest["sent"][0][3]) + late)

    @property
    def has_both(self) -> bool:
        """Whether a message has both of its ends here."""
        return any(to in self.until for _, to, _ in self.sent)

    def message(self, key: tuple[int, int, int]) -> list[Any] | None:
        """Return a message; None where its receiver has said nothing since it was sent."""
        sender, to, _ = key
        start, end = self.sent.get(key), self.arrived.get(key)
        if start is not None and end is not None:
            return [start, max(start, end), sender, to, "delivered"]
        if start is None or to not in self.until or start < self.since[to]:
            at = end if start is None else start
            return [at, at, sender, to, "delivered"]
        until = self.until[to]
        if until < start:
            return None
        return [start, until, sender, to, "lost" if until - start > _FLYING else "flying"]

    def sending(self) -> list[list[Any]]:
        """Return [agent, "send", start, end] of messages: until the last receiver has it."""
        ends: dict[tuple[int, float], float] = {}
        for key, start in self.sent.items():
            if (end := self.arrived.get(key, start)) > start:
                ends[key[0], start] = max(end, ends.get((key[0], start), end))
        return [[agent, "send", start, end] for (agent, start), end in ends.items()]


def traffic(processes: Sequence[Mapping[str, Any]]) -> Traffic:
    """Return the last messages and activities of the processes that run.

    If none runs, there are no messages, and the activities of those that were there to the end.
    A message without a known arrival is on its way if its receiver has written a status since; it
    is lost if that was long after.
    """
    told = [p for p in processes if p.get("latest") and p.get("time") and p.get("agents")]
    running = [p for p in told if p.get("state") == RUNNING]
    end = max((float(p["time"]) for p in told), default=0.0)
    told = running or [p for p in told if end - float(p["time"]) < _FLYING]
    begins = [float(p["time"]) - float(p["seconds"]) for p in told]
    known = _Known()
    for process, begin in zip(told, begins, strict=True):
        known.add(process, begin - min(begins))
    messages = [known.message(key) for key in sorted(known.sent.keys() | known.arrived.keys())]
    found = sorted(m for m in messages if m is not None and m[0] >= known.begin and running)
    step = max(1.0, len(found) / MOST)
    return Traffic(
        [found[int(place * step)] for place in range(min(len(found), MOST))],
        len(found),
        sum(m[4] == "flying" for m in found) if known.has_both else None,
        (found[0][0], max(message[1] for message in found)) if found else None,
        _drawn([*known.worked, *known.sending()]),
    )


def _drawn(intervals: list[list[Any]]) -> list[list[Any]]:
    """Return the last intervals, of the first agents."""
    first = sorted({agent for agent, *_ in intervals})[:_AGENTS]
    return sorted((i for i in intervals if i[0] in first), key=lambda i: i[3])[-_INTERVALS:]
