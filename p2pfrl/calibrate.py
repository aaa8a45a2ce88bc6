"""From what peers measured to the `[network]` and `[compute]` with which the simulator predicts them.

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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.distributions import LogNormal, Values
from p2pfrl.core.errors import RecordError
from p2pfrl.core.types import COORDINATOR
from p2pfrl.deploy import TIMINGS
from p2pfrl.scenario import Scenario, hash8, load
from p2pfrl.scenario.render import resolved, to_toml
from p2pfrl.simulate import simulate
from p2pfrl.world.stopwatch import Timings, read_timings

Edge = tuple[int, int]
_SECOND = 1e9
_STEPS, _DAMPING = 12, 0.7
_FEW = 5
_WINDOW = 10
_LEAST_LATENCY = 1e-6


@dataclass(frozen=True, slots=True)
class Message:
    """One message on one link, in seconds of the common clock."""

    sender: int
    receiver: int
    round: int
    nbytes: int
    sent: float
    arrived: float


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        links: (sender, receiver) -> median latency in seconds, apart from transmission.
        round_trips: (agent, agent) -> the smallest round trip of their processes that a kernel measured, in seconds.
        latency: seconds, median over everything that was sent at once, of the link that took longest.
        sigma: standard deviation of its logarithm, by its quartiles.
        bandwidth: of an interface, bytes per second, as fast as messages of this size get through it.
        seconds_per_env_step: of the agent in the middle.
        speed: of every agent, against that one.
        rounds: agent -> seconds of each of its rounds.
        messages: number of messages that were measured.
        nbytes: size of one, the median.
    """

    links: Mapping[Edge, float]
    round_trips: Mapping[Edge, float]
    latency: float
    sigma: float
    bandwidth: float
    seconds_per_env_step: float
    speed: tuple[float, ...]
    rounds: Mapping[int, NDArray[np.float64]]
    messages: int
    nbytes: int

    @property
    def round_time(self) -> float:
        """Seconds of a round: median over agents and windows of ten rounds."""
        return typical(list(self.rounds.values()))

    def sections(self) -> dict[str, object]:
        """Return the sections of a scenario file."""
        return {
            "network": {
                "latency": {"kind": "lognormal", "median": self.latency, "sigma": self.sigma},
                "bandwidth": self.bandwidth,
            },
            "compute": {"seconds_per_env_step": self.seconds_per_env_step, "speed": list(self.speed)},
        }

    def toml(self) -> str:
        """Return the sections as TOML, and every link as a comment."""
        return self._said() + to_toml(self.sections())

    def scenario(self, scenario: Scenario) -> str:
        """Return a scenario file, which others can extend: `scenario` with what was measured."""
        return self._said() + resolved(self.applied(scenario))

    def _said(self) -> str:
        links = (
            f"# smallest round trip {i} - {j}: {seconds * 1e3:.3f} ms"
            for (i, j), seconds in sorted(self.round_trips.items())
        )
        head = f"# Measured between running peers: {self.messages} messages of {self.nbytes} bytes"
        return "\n".join([f"{head}, {self.round_time * 1e3:.4g} ms per round.", *links]) + "\n"

    def applied(self, scenario: Scenario) -> Scenario:
        """Return the scenario with what was measured."""
        network = replace(
            scenario.network, latency=LogNormal(median=self.latency, sigma=self.sigma), bandwidth=self.bandwidth
        )
        compute = replace(
            scenario.compute, seconds_per_env_step=self.seconds_per_env_step, speed=Values(list=self.speed)
        )
        return replace(scenario, network=network, compute=compute)


def typical(rounds: Sequence[NDArray[np.float64]]) -> float:
    """Return the median, over agents and windows of ten rounds, of the mean seconds of a round.

    Neighbors take turns at being early, so single rounds alternate between short and long ones; windows do not.
    """
    widths = [min(_WINDOW, len(values)) for values in rounds]
    means = [np.convolve(v, np.full(w, 1 / w), "valid") for v, w in zip(rounds, widths, strict=True) if w]
    return float(np.median(np.concatenate(means)))


def calibrate(directories: Sequence[Path]) -> tuple[Scenario, Calibration]:
    """Return the scenario that peers ran, and what they measured.

    Args:
        directories: the run directories of all peers.

    Raises:
        RecordError: they are not the peers of one run, or it was too short to measure anything.
    """
    peers = [read_timings(directory / TIMINGS) for directory in directories]
    if not peers:
        raise RecordError("expected the run directories of all peers")
    scenario = load(directories[0] / "scenario.toml")
    for directory, peer in zip(directories, peers, strict=True):
        if peer.scenario != hash8(scenario):
            raise RecordError(f"{directory}: expected scenario {hash8(scenario)}, got {peer.scenario}")
    missing = sorted(set(range(scenario.agents)) - {agent for peer in peers for agent in peer.agents})
    if missing:
        raise RecordError(f"no directory holds agents {missing}: give those of all peers")
    messages = _messages(peers)
    bandwidth = _bandwidth(messages, peers)
    links, spread = _latencies(messages, bandwidth)
    steps = _seconds_per_step(scenario, peers)
    middle = float(np.median(steps))
    pooled = np.maximum(spread, _LEAST_LATENCY)
    low, median, high = np.quantile(np.log(pooled), (0.25, 0.5, 0.75))
    return scenario, Calibration(
        links=links, round_trips=_round_trips(peers), latency=float(np.exp(median)),
        sigma=round(float(high - low) / 1.349, 4), bandwidth=bandwidth,
        seconds_per_env_step=middle, speed=tuple(round(middle / s, 4) for s in steps),
        rounds=_rounds(scenario, peers), messages=len(messages), nbytes=int(np.median([m.nbytes for m in messages])),
    )  # fmt: skip


def predicted_rounds(scenario: Scenario, calibration: Calibration) -> NDArray[np.float64]:
    """Return the seconds of every round as the simulator predicts them."""
    calm = replace(
        calibration.applied(scenario),
        evaluation=replace(scenario.evaluation, episodes=0),
        stop=replace(scenario.stop, virtual_time=None),
    )
    return np.diff(simulate(calm).metrics["virtual_seconds"])


def write(directories: Sequence[Path], out: Path) -> dict[str, object]:
    """Write network.toml (the sections), calibrated.toml (a scenario) and the figure prediction; return a summary.

    Args:
        directories: the run directories of all peers.
        out: where the files go.

    Raises:
        RecordError: see `calibrate`.
    """
    from p2pfrl.results.files import write_bytes
    from p2pfrl.results.plots.prediction import prediction
    from p2pfrl.results.plots.style import render, style

    scenario, measured = calibrate(directories)
    predicted = predicted_rounds(scenario, measured)
    said = typical([predicted])
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / "network.toml", measured.toml().encode())
    write_bytes(out / "calibrated.toml", measured.scenario(scenario).encode())
    with style():
        drawing = prediction(measured.rounds, predicted, was=measured.round_time, said=said)
        for kind in ("svg", "png"):
            write_bytes(out / f"prediction.{kind}", render(drawing.figure, kind))
    return {
        "messages": measured.messages,
        "message_bytes": measured.nbytes,
        "latency_median": measured.latency,
        "latency_sigma": measured.sigma,
        "bandwidth": measured.bandwidth,
        "seconds_per_env_step": measured.seconds_per_env_step,
        "round_seconds_real": measured.round_time,
        "round_seconds_predicted": said,
        "error": said / measured.round_time - 1,
        "directory": str(out),
    }


def _messages(peers: Sequence[Timings]) -> list[Message]:
    """Return all messages that left and arrived, ascending by the time they were sent, on a common clock."""
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
        between.setdefault((origin, target), []).append((got.time - sent.time) / _SECOND)
    if not between or min(map(len, between.values())) < _FEW:
        raise RecordError(f"the run was too short: expected at least {_FEW} messages on every link")
    offset = _offsets(between, len(peers))
    found = [
        (
            sent.time / _SECOND - offset[origin],
            position,
            Message(
                got.sender, got.receiver, sent.round, sent.nbytes,
                sent.time / _SECOND - offset[origin], got.time / _SECOND - offset[target],
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


def _bandwidth(messages: Sequence[Message], peers: Sequence[Timings]) -> float:
    """Return the median, over everything that was sent at once, of its bytes / (its last arrival - half a round trip).

    What was sent at once is one frame to all its receivers: it leaves through one interface.
    """
    home, least = _homes(peers), _round_trips(peers)
    flight = {(home[i], home[j]): seconds / 2 for (i, j), seconds in least.items()}
    flight |= {(there, here): seconds for (here, there), seconds in flight.items()}
    rates = []
    for group in ([messages[i] for i in numbers] for numbers in _at_once(messages)):
        last = max(group, key=lambda m: m.arrived)
        took = last.arrived - last.sent - flight.get((home[last.sender], home[last.receiver]), 0.0)
        rates.append(sum(m.nbytes for m in group) / max(took, 1e-5))
    return float(np.median(rates))


def _latencies(messages: Sequence[Message], bandwidth: float) -> tuple[dict[Edge, float], NDArray[np.float64]]:
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


def _round_trips(peers: Sequence[Timings]) -> dict[Edge, float]:
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


def _seconds_per_step(scenario: Scenario, peers: Sequence[Timings]) -> list[float]:
    """Return for every agent what one environment step takes, with its share of everything that is done in a round.

    Where a round is train, send, wait, mix, that is the time from the last message that was waited for to the next
    sending: training, mixing, and writing down. Otherwise it is the time of training.
    """
    serial = not scenario.schedule.is_asynchronous and scenario.exchange.order == "adapt_then_combine"
    has_coordinator = scenario.mode in ("central", "pooled")
    found = []
    for agent in range(scenario.agents):
        peer = next(p for p in peers if agent in p.agents)
        work = [w for w in peer.worked if w.agent == agent]
        if len(work) < _FEW:
            raise RecordError(f"the run was too short: expected at least {_FEW} updates of agent {agent}")
        took = float(np.median([(w.end - w.start) / _SECOND for w in work]))
        if serial:
            cause: dict[int, int] = {}
            for got in peer.arrived:
                if got.receiver == agent:
                    answers = got.round if has_coordinator else got.round + 1
                    cause[answers] = max(cause.get(answers, 0), got.time)
            busy = [
                (s.time - cause[s.round]) / _SECOND
                for s in peer.sent
                if s.sender == agent and s.round in cause and s.time > cause[s.round]
            ]
            took = float(np.median(busy)) if len(busy) >= _FEW else took
        steps = float(np.mean([w.env_steps for w in work])) * (scenario.schedule.every if serial else 1)
        found.append(took / steps)
    return found


def _rounds(scenario: Scenario, peers: Sequence[Timings]) -> dict[int, NDArray[np.float64]]:
    """Return the seconds between one sending and the next, by agent."""
    rounds: dict[int, list[int]] = {}
    for peer in peers:
        for sent in peer.sent:
            if sent.sender != COORDINATOR:
                rounds.setdefault(sent.sender, []).append(sent.time)
    return {agent: np.diff(np.array(times)) / _SECOND for agent, times in sorted(rounds.items()) if len(times) > 1}
