"""How long messages took between peers, on a common clock, and which network of the simulator would take as long.

The peers' clocks are set against each other as NTP does it (Mills, Internet time synchronization: the network time
protocol, IEEE Transactions on Communications 39, 1991): what a pair of links takes in both directions is known from two
clocks that disagree, and is taken to be the same in each. Every message then has a delay from its sending to its
arrival. The simulator's own network model (interfaces that are first-in first-out, world/network.py) is run over the
messages as they were really sent, and the latencies of the links are moved until the delays agree: so what is written
reproduces the delays at the size and cadence of this scenario, with what TCP, the kernel and the codec add to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import RecordError
from p2pfrl.world.stopwatch import Timings

Edge = tuple[int, int]
SECOND = 1e9
FEW = 5
"""Messages of a link, or updates of an agent, below which a run says nothing."""
_STEPS, _DAMPING = 12, 0.7


@dataclass(frozen=True, slots=True)
class Message:
    """One message on one link, in seconds of the common clock."""

    sender: int
    receiver: int
    round: int
    nbytes: int
    sent: float
    arrived: float


def messages_of(peers: Sequence[Timings]) -> list[Message]:
    """Return all messages that left and arrived, ascending by the time they were sent, on a common clock.

    Raises:
        RecordError: too few messages on a link, or peers whose clocks cannot be set against each other.
    """
    home = _homes(peers)
    left = {
        (sent.sender, to, sent.sequence): (sent, position)
        for peer in peers
        for sent in peer.sent
        for position, to in enumerate(sent.to)
    }
    raw = [
        (home[got.sender], number, left[key][0], got, left[key][1])
        for number, peer in enumerate(peers)
        for got in peer.arrived
        if (key := (got.sender, got.receiver, got.sequence)) in left
    ]
    between: dict[Edge, list[float]] = {}
    for origin, target, sent, got, _ in raw:
        between.setdefault((origin, target), []).append((got.time - sent.time) / SECOND)
    if not between or min(map(len, between.values())) < FEW:
        raise RecordError(f"the run was too short: expected at least {FEW} messages on every link")
    offset = _offsets(between, len(peers))
    found = [
        (
            sent.time / SECOND - offset[origin],
            position,
            Message(
                got.sender, got.receiver, sent.round, sent.nbytes,
                sent.time / SECOND - offset[origin], got.time / SECOND - offset[target],
            ),
        )
        for origin, target, sent, got, position in raw
    ]  # fmt: skip
    return [message for *_, message in sorted(found, key=lambda row: row[:2])]


def _offsets(between: Mapping[Edge, Sequence[float]], number: int) -> list[float]:
    """Return what each peer's clock shows more than the first peer's, half of what the two directions differ by."""
    offset: dict[int, float] = {0: 0.0}
    queue = deque([0])
    while queue:
        here = queue.popleft()
        for there in range(number):
            if there not in offset and (here, there) in between and (there, here) in between:
                ahead = (float(np.median(between[here, there])) - float(np.median(between[there, here]))) / 2
                offset[there] = offset[here] + ahead
                queue.append(there)
    lost = [i for i in range(number) if i not in offset]
    if lost:
        raise RecordError(f"no messages in both directions connect directory number {lost[0] + 1} with the first")
    return [offset[i] for i in range(number)]


def bandwidth_of(messages: Sequence[Message], peers: Sequence[Timings]) -> float:
    """Return the median, over everything that was sent at once, of its bytes / (its last arrival - half a round trip).

    What was sent at once is one frame to all its receivers: it leaves through one interface.
    """
    home, least = _homes(peers), round_trips(peers)
    flight = {(home[i], home[j]): seconds / 2 for (i, j), seconds in least.items()}
    flight |= {(there, here): seconds for (here, there), seconds in flight.items()}
    rates = []
    for group in ([messages[i] for i in numbers] for numbers in _at_once(messages)):
        last = max(group, key=lambda m: m.arrived)
        took = last.arrived - last.sent - flight.get((home[last.sender], home[last.receiver]), 0.0)
        rates.append(sum(m.nbytes for m in group) / max(took, 1e-5))
    return float(np.median(rates))


def latencies(messages: Sequence[Message], bandwidth: float) -> tuple[dict[Edge, float], NDArray[np.float64]]:
    """Return the latency of every link; and, for everything sent at once, the one that gives its last arrival.

    Connections share an interface fairly, so all that is sent at once arrives together; the simulator serves one
    message after the other. They agree on when the last has arrived, so that is what the latencies are moved to.
    """
    groups = _at_once(messages)
    delays: dict[Edge, list[float]] = {}
    for group in groups:
        air = sum(messages[i].nbytes for i in group) / bandwidth
        for m in (messages[i] for i in group):
            delays.setdefault((m.sender, m.receiver), []).append(m.arrived - m.sent - air)
    latency = {edge: max(0.0, float(np.median(values))) for edge, values in sorted(delays.items())}
    last = [messages[max(group, key=lambda i: messages[i].arrived)] for group in groups]
    for step in range(_STEPS):
        done = np.array([m.sent for m in messages]) + _model(messages, bandwidth, latency)
        surplus = np.array([m.arrived - max(done[group]) for m, group in zip(last, groups, strict=True)])
        if step < _STEPS - 1:
            move = _DAMPING * float(np.median(surplus))
            latency = {edge: max(0.0, seconds + move) for edge, seconds in latency.items()}
    return latency, np.array([latency[m.sender, m.receiver] for m in last]) + surplus


def _at_once(messages: Sequence[Message]) -> list[list[int]]:
    """Return the numbers of the messages that were one sending: one frame to all its receivers."""
    groups: dict[tuple[int, float], list[int]] = {}
    for number, message in enumerate(messages):
        groups.setdefault((message.sender, message.sent), []).append(number)
    return list(groups.values())


def round_trips(peers: Sequence[Timings]) -> dict[Edge, float]:
    """Return (agent, agent) -> smallest round trip between their processes, by the lowest agents there."""
    home, found = _homes(peers), dict[Edge, float]()
    for peer in peers:
        for other, seconds in peer.round_trips.items():
            low, high = sorted((min(peer.agents), min(peers[home[other]].agents)))
            found[low, high] = min(seconds, found.get((low, high), seconds))
    return found


def _homes(peers: Sequence[Timings]) -> dict[int, int]:
    """Return agent -> number of its process."""
    return {agent: number for number, peer in enumerate(peers) for agent in peer.agents}


def _model(messages: Sequence[Message], bandwidth: float, latency: Mapping[Edge, float]) -> NDArray[np.float64]:
    """Return the delays of messages in the simulator's network, when they are sent as they were."""
    sending: dict[int, float] = {}
    receiving: dict[int, float] = {}
    arrivals = []
    for number in sorted(range(len(messages)), key=lambda i: messages[i].sent):
        m = messages[number]
        sending[m.sender] = max(m.sent, sending.get(m.sender, m.sent)) + m.nbytes / bandwidth
        arrivals.append((sending[m.sender] + latency[m.sender, m.receiver], number))
    delays = np.zeros(len(messages))
    for arrival, number in sorted(arrivals):
        m = messages[number]
        done = max(arrival, receiving.get(m.receiver, -np.inf) + m.nbytes / bandwidth)
        receiving[m.receiver] = done
        delays[number] = done - m.sent
    return delays
