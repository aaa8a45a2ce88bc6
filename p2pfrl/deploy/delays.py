"""Message delays between peers on a common clock, and the simulated network that matches them.

The clocks of two processes differ, but the sum of the delays in both directions does not depend on
the difference. This sum minus the round trip of an empty packet is the transmission time, which
gives the bandwidth without a common clock. Then the offset of the clocks is estimated as in NTP
(Mills, Internet time synchronization: the network time protocol, IEEE Transactions on
Communications 39, 1991): without transmission times, which may differ by direction, the delays of
both directions are assumed equal. Every message then has a delay from its sending to its arrival.

Between neighbors, the simulator's own network model (first-in first-out interfaces,
simulator/network.py) is run on the messages with their real send times, and the latencies of the
links are adjusted until the delays agree. So the result reproduces the delays at this scenario's
message size and rate, including the effects of TCP, the kernel and the codec. Links with a
coordinator keep their latencies without transmission: in reality all messages that it sends at once
arrive together and are answered together, while the simulator sends one after the other, so they
never queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import RecordError
from p2pfrl.core.types import COORDINATOR
from p2pfrl.core.units import SECOND
from p2pfrl.net.timings import Timings

Edge = tuple[int, int]
FEW = 5
"""Minimum number of messages of a link, or updates of an agent, for a measurement."""
_STEPS, _DAMPING = 12, 0.7
_LEAST_TIME = 1e-5


@dataclass(frozen=True, slots=True)
class Message:
    """One message on one link, in seconds of the common clock.

    Attributes:
        sender, receiver, round, nbytes, sent, arrived: fields of the message and its times.
        together: bytes of all messages sent at the same time, to any receiver; they share an
            interface.
    """

    sender: int
    receiver: int
    round: int
    nbytes: int
    together: int
    sent: float
    arrived: float

    @property
    def delay(self) -> float:
        """Seconds from sending to arrival."""
        return self.arrived - self.sent


@dataclass(frozen=True, slots=True)
class Latencies:
    """The latencies of links.

    Attributes:
        median: seconds, by link.
        alone: links that differ from the others.
        last: of all messages sent at once, the link whose message arrived last.
        values: latency in seconds of that link that gives this arrival.
    """

    median: Mapping[Edge, float]
    alone: frozenset[Edge]
    last: Sequence[Edge]
    values: NDArray[np.float64]

    def of(self, link: Edge) -> NDArray[np.float64]:
        """Return the values of one link."""
        return self.values[[edge == link for edge in self.last]]

    @property
    def common(self) -> NDArray[np.float64]:
        """Values of all links that are alike, or of all links if none are."""
        alike = [edge not in self.alone for edge in self.last]
        return self.values[alike] if any(alike) else self.values


def messages_of(peers: Sequence[Timings]) -> tuple[list[Message], float]:
    """Return all messages on a common clock, in order of sending, and the bandwidth.

    The bandwidth is that of an interface in bytes per second, for messages of this size.

    Raises:
        RecordError: there are too few messages on a link, or the clocks of peers cannot be
            compared.
    """
    home, own = _homes(peers), _raw(peers)
    between: dict[Edge, list[float]] = {}
    for m in own:
        between.setdefault((home[m.sender], home[m.receiver]), []).append(m.delay)
    if not between or min(map(len, between.values())) < FEW:
        raise RecordError(f"the run was too short: expected at least {FEW} messages on every link")
    if all(m.sender < 0 for m in own):
        raise RecordError(
            "no agent sent another process anything: expected some that live apart from their coordinator"
        )
    rough = _set(own, home, _offsets(between, len(peers)))
    bandwidth = _bandwidth(rough, peers)
    between = {edge: [] for edge in between}
    for m in own:
        between[home[m.sender], home[m.receiver]].append(m.delay - m.together / bandwidth)
    return _set(own, home, _offsets(between, len(peers))), bandwidth


def _raw(peers: Sequence[Timings]) -> list[Message]:
    """Return all messages by the clocks of sender and receiver, in order of sending."""
    left = {
        (sent.sender, to, sent.sequence): (sent, position)
        for peer in peers
        for sent in peer.sent
        for position, to in enumerate(sent.to)
    }
    found = []
    for peer in peers:
        for got in peer.arrived:
            if (key := (got.sender, got.receiver, got.sequence)) in left:
                sent, position = left[key]
                found.append(
                    (
                        sent.time,
                        position,
                        Message(
                            got.sender,
                            got.receiver,
                            sent.round,
                            sent.nbytes,
                            sent.nbytes * len(sent.to),
                            sent.time / SECOND,
                            got.time / SECOND,
                        ),
                    )
                )
    return [message for *_, message in sorted(found, key=lambda row: row[:2])]


def _set(
    messages: Sequence[Message], home: Mapping[int, int], offset: Sequence[float]
) -> list[Message]:
    """Return the messages on a common clock, in order of sending."""
    moved = [
        replace(
            m, sent=m.sent - offset[home[m.sender]], arrived=m.arrived - offset[home[m.receiver]]
        )
        for m in messages
    ]
    return sorted(moved, key=lambda m: m.sent)


def _offsets(between: Mapping[Edge, Sequence[float]], number: int) -> list[float]:
    """Return each peer's clock offset from the first: half the difference of both directions."""
    offset: dict[int, float] = {0: 0.0}
    queue = deque([0])
    while queue:
        here = queue.popleft()
        for there in range(number):
            if there not in offset and (here, there) in between and (there, here) in between:
                ahead = (
                    float(np.median(between[here, there])) - float(np.median(between[there, here]))
                ) / 2
                offset[there] = offset[here] + ahead
                queue.append(there)
    lost = [i for i in range(number) if i not in offset]
    if lost:
        raise RecordError(
            f"no messages in both directions connect directory number {lost[0] + 1} with the first"
        )
    return [offset[i] for i in range(number)]


def _bandwidth(messages: Sequence[Message], peers: Sequence[Timings]) -> float:
    """Return the median over pairs of processes of bytes / (delays - round trip).

    Of the messages sent at once only the last arrival counts. The sum of the delays in both
    directions needs no common clock.
    """
    home = _homes(peers)
    flight = {(home[i], home[j]): seconds for (i, j), seconds in round_trips(peers).items()}
    took: dict[Edge, list[tuple[int, float]]] = {}
    for last in (max(group, key=lambda m: m.arrived) for group in _at_once(messages)):
        took.setdefault((home[last.sender], home[last.receiver]), []).append(
            (last.together, last.delay)
        )
    rates = []
    for here, there in took:
        if here < there and (there, here) in took:
            forth, back = np.median(took[here, there], axis=0), np.median(took[there, here], axis=0)
            empty = flight.get((here, there), flight.get((there, here), 0.0))
            rates.append((forth[0] + back[0]) / max(forth[1] + back[1] - empty, _LEAST_TIME))
    if not rates:
        raise RecordError("no two processes sent messages to each other")
    return float(np.median(rates))


def latencies(messages: Sequence[Message], bandwidth: float, differ: float) -> Latencies:
    """Return each link's latency such that the last arrival of each send is at its measured time.

    Connections share an interface fairly, so messages sent at once arrive together, while the
    simulator transmits one after the other. Both agree on the arrival of the last message, so
    latencies are fitted to it.

    Args:
        messages: messages on a common clock, in order of sending.
        bandwidth: bandwidth of an interface.
        differ: a link differs from the others if its latency is farther from the median of all than
            this, in seconds, and than a quarter of the median.
    """
    delays: dict[Edge, list[float]] = {}
    for m in messages:
        delays.setdefault((m.sender, m.receiver), []).append(m.delay - m.together / bandwidth)
    latency = {edge: max(0.0, float(np.median(values))) for edge, values in sorted(delays.items())}
    groups = _at_once(messages)
    last = [max(group, key=lambda m: m.arrived) for group in groups]
    edges = [(m.sender, m.receiver) for m in last]
    middle = float(np.median(list(latency.values())))
    alone = frozenset(
        e for e, seconds in latency.items() if abs(seconds - middle) > max(differ, middle / 4)
    )
    if any(COORDINATOR in edge for edge in latency):
        return Latencies(
            latency, alone, edges, np.array([m.delay - m.together / bandwidth for m in last])
        )
    of = {edge: [i for i, other in enumerate(edges) if other == edge] for edge in sorted(alone)}
    rest = [i for i, edge in enumerate(edges) if edge not in alone]
    number = {id(m): i for i, m in enumerate(messages)}
    members = [[number[id(m)] for m in group] for group in groups]
    for step in range(_STEPS):
        done = _model(messages, bandwidth, latency)
        surplus = np.array(
            [m.arrived - max(done[group]) for m, group in zip(last, members, strict=True)]
        )
        if step < _STEPS - 1:
            common = float(np.median(surplus[rest])) if rest else 0.0
            moves = {
                edge: float(np.median(surplus[own])) if len(own) >= FEW else common
                for edge, own in of.items()
            }
            latency = {
                e: max(0.0, seconds + _DAMPING * moves.get(e, common))
                for e, seconds in latency.items()
            }
    return Latencies(latency, alone, edges, np.array([latency[edge] for edge in edges]) + surplus)


def scatter(messages: Sequence[Message]) -> float:
    """Return the spread of a link's delays: half the interquartile range, median over links."""
    delays: dict[Edge, list[float]] = {}
    for m in messages:
        delays.setdefault((m.sender, m.receiver), []).append(m.delay)
    return float(
        np.median(
            [np.subtract(*np.quantile(values, (0.75, 0.25))) / 2 for values in delays.values()]
        )
    )


def _at_once(messages: Sequence[Message]) -> list[list[Message]]:
    """Return the messages grouped by send: one frame to all its receivers."""
    groups: dict[tuple[int, float], list[Message]] = {}
    for message in messages:
        groups.setdefault((message.sender, message.sent), []).append(message)
    return list(groups.values())


def round_trips(peers: Sequence[Timings]) -> dict[Edge, float]:
    """Return (agent, agent) -> smallest round trip between their processes.

    The lowest agent stands for its process.
    """
    home, found = _homes(peers), dict[Edge, float]()
    for peer in peers:
        for other, seconds in peer.round_trips.items():
            low, high = sorted((min(peer.agents), min(peers[home[other]].agents)))
            found[low, high] = min(seconds, found.get((low, high), seconds))
    return found


def _homes(peers: Sequence[Timings]) -> dict[int, int]:
    """Return agent -> number of its process."""
    return {agent: number for number, peer in enumerate(peers) for agent in peer.agents}


def _model(
    messages: Sequence[Message], bandwidth: float, latency: Mapping[Edge, float]
) -> NDArray[np.float64]:
    """Return the arrival times in the simulator's network for the measured send times."""
    sending: dict[int, float] = {}
    receiving: dict[int, float] = {}
    arrivals = []
    for number, m in enumerate(messages):
        sending[m.sender] = max(m.sent, sending.get(m.sender, m.sent)) + m.nbytes / bandwidth
        arrivals.append((sending[m.sender] + latency[m.sender, m.receiver], number))
    done = np.zeros(len(messages))
    for arrival, number in sorted(arrivals):
        m = messages[number]
        done[number] = receiving[m.receiver] = max(
            arrival, receiving.get(m.receiver, -np.inf) + m.nbytes / bandwidth
        )
    return done
