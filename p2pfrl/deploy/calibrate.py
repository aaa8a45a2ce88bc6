"""Calibration: the `[network]` and `[compute]` sections with which the simulator predicts a run.

delays.py measures the delays of messages. This module measures the time of updates and writes both
as a scenario.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.distributions.assigned import Values
from p2pfrl.core.distributions.base import Constant
from p2pfrl.core.distributions.normal import LogNormal
from p2pfrl.core.errors import IdleWarning, RecordError
from p2pfrl.core.types import COORDINATOR
from p2pfrl.core.units import SECOND
from p2pfrl.deploy.delays import FEW, Edge, Message, latencies, messages_of, round_trips, scatter
from p2pfrl.deploy.process import TIMINGS
from p2pfrl.experiment.run import simulate
from p2pfrl.net.fleet import show_agents
from p2pfrl.net.timings import Timings, read_timings
from p2pfrl.scenario import Scenario, hash8
from p2pfrl.scenario.loader import load_recorded
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.render import resolved, to_toml
from p2pfrl.scenario.sections import Link

_WINDOW = 10
_LEAST_LATENCY = 1e-6
_NO_NETWORK = 5e-5
"""Seconds of a round trip that is too short for two hosts; one kernel takes 5 to 20 us."""
_NOISE = 3.0
_ROUND_SHARE = 0.02


@dataclass(frozen=True)
class Links:
    """The measured network.

    Attributes:
        latency: latency of a message without transmission: of all messages sent at once, that of
            the slowest link.
        own: (sender, receiver) -> latency of a link that differs from the others.
        bandwidth: bandwidth of an interface in bytes per second, for messages of this size.
    """

    latency: LogNormal
    own: Mapping[Edge, LogNormal]
    bandwidth: float

    def section(self) -> dict[str, object]:
        """Return the section of a scenario file."""
        own = [
            {"from": i, "to": j, "latency": _table(latency)} for (i, j), latency in self.own.items()
        ]
        found: dict[str, object] = {"latency": _table(self.latency), "bandwidth": self.bandwidth}
        return {**found, "links": own} if own else found


@dataclass(frozen=True)
class Calibration:
    """All measured quantities.

    Attributes:
        links: the network; None if it could not be measured.
        unmeasured: reason why it could not be measured.
        round_trips: (agent, agent) -> smallest round trip between their processes, in seconds, that
            a kernel measured.
        processes: number of processes.
        seconds_per_env_step: seconds of the median agent.
        speed: speed of every agent relative to the median agent.
        rounds: agent -> seconds of each of its rounds.
        messages: number of measured messages.
        nbytes: median size of a message.
    """

    links: Links | None
    unmeasured: str
    round_trips: Mapping[Edge, float]
    processes: int
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
        """Return the sections of a scenario file, without `[network]` if it is not measured."""
        compute = {"seconds_per_env_step": self.seconds_per_env_step, "speed": list(self.speed)}
        return {**({"network": self.links.section()} if self.links else {}), "compute": compute}

    def toml(self) -> str:
        """Return the sections as TOML, with every link as a comment."""
        return self._said() + to_toml(self.sections())

    def scenario(self, scenario: Scenario) -> str:
        """Return a scenario file that adds the measured sections to `scenario`."""
        return self._said() + resolved(self.applied(scenario))

    def _said(self) -> str:
        links = (
            f"# smallest round trip {i} - {j}: {seconds * 1e3:.3f} ms"
            for (i, j), seconds in sorted(self.round_trips.items())
        )
        head = f"# Measured by p2pfrl between running peers: {self.messages} messages of {self.nbytes} bytes"
        lines = [f"{head}, {self.round_time * 1e3:.4g} ms per round.", *links]
        if self.unmeasured:
            lines += [
                f"# [network] was not measured. {self.unmeasured}.",
                f"# [compute] was, while {self.processes} processes shared the cores that they had.",
            ]
        return "\n".join(lines) + "\n"

    def applied(self, scenario: Scenario) -> Scenario:
        """Return the scenario with the measured sections."""
        network = scenario.network
        if self.links is not None:
            own = tuple(
                Link(from_=i, to=j, latency=latency) for (i, j), latency in self.links.own.items()
            )
            network = replace(
                network,
                latency=self.links.latency,
                bandwidth=Constant(value=self.links.bandwidth),
                links=own,
            )
        compute = replace(
            scenario.compute,
            seconds_per_env_step=self.seconds_per_env_step,
            speed=Values(list=self.speed),
        )
        return replace(scenario, network=network, compute=compute)


def typical(rounds: Sequence[NDArray[np.float64]]) -> float:
    """Return the median, over agents and windows of ten rounds, of the mean seconds of a round.

    Neighbors alternate in being early, so single rounds are short and long in turn; windows of
    rounds are not.
    """
    widths = [min(_WINDOW, len(values)) for values in rounds]
    means = [
        np.convolve(v, np.full(w, 1 / w), "valid") for v, w in zip(rounds, widths, strict=True) if w
    ]
    return float(np.median(np.concatenate(means)))


def calibrate(directories: Sequence[Path]) -> tuple[Scenario, Calibration]:
    """Return the scenario of a run, and the quantities measured from its peers.

    Args:
        directories: the run directories of all peers.

    Raises:
        RecordError: they are not the peers of one run, or it was too short to measure anything.
    """
    if not directories:
        raise RecordError("expected the run directories of all peers")
    peers = [read_timings(directory / TIMINGS) for directory in directories]
    scenario = load_recorded(directories[0] / "scenario.toml")
    for directory, peer in zip(directories, peers, strict=True):
        if peer.scenario != hash8(scenario):
            raise RecordError(
                f"{directory}: expected scenario {hash8(scenario)}, got {peer.scenario}"
            )
    if missing := set(range(scenario.agents)) - {agent for peer in peers for agent in peer.agents}:
        raise RecordError(
            f"no directory holds agents {show_agents(missing)}: give those of all peers"
        )
    messages, bandwidth = messages_of(peers)
    rounds, trips = _rounds(scenario, peers), round_trips(peers)
    reason = _nothing_to_measure(messages, trips)
    links = None if reason else _links(messages, bandwidth, typical(list(rounds.values())))
    steps = _seconds_per_step(scenario, directories, peers)
    middle = float(np.median(steps))
    return scenario, Calibration(
        links=links,
        unmeasured=reason,
        round_trips=trips,
        processes=len(peers),
        seconds_per_env_step=middle,
        speed=tuple(round(middle / s, 4) for s in steps),
        rounds=rounds,
        messages=len(messages),
        nbytes=int(np.median([m.nbytes for m in messages])),
    )


def _nothing_to_measure(messages: Sequence[Message], trips: Mapping[Edge, float]) -> str:
    """Return why these delays say nothing about a network; empty if they do."""
    if any(min(m.sender, m.receiver) < COORDINATOR for m in messages):
        return "Edge coordinators took part, and a scenario describes links between agents and with one coordinator"
    longest = max(trips.values(), default=1.0)
    if longest < _NO_NETWORK:
        return (
            f"Even the slowest link has a round trip of {longest * 1e3:.3f} ms: the processes are on one machine, and "
            "what messages wait for is a core"
        )
    delay, noise = float(np.median([m.delay for m in messages])), scatter(messages)
    if delay < _NOISE * noise:
        return (
            f"Messages took {delay * 1e3:.3g} ms, give or take {noise * 1e3:.3g} ms from one to the next on the same "
            "link: that is the processes and not the network"
        )
    return ""


def _links(messages: Sequence[Message], bandwidth: float, round_time: float) -> Links:
    """Return the network, with separate links only if they change the round time."""
    found = latencies(messages, bandwidth, max(2 * scatter(messages), _ROUND_SHARE * round_time))
    own = {
        edge: _lognormal(
            values if len(values := found.of(edge)) >= FEW else np.array([found.median[edge]])
        )
        for edge in sorted(found.alone)
    }
    return Links(_lognormal(found.common), own, bandwidth)


def _lognormal(values: NDArray[np.float64]) -> LogNormal:
    """Return the lognormal distribution with these quartiles. Noise below the median is limited."""
    low, median, high = np.log(np.maximum(np.quantile(values, (0.25, 0.5, 0.75)), _LEAST_LATENCY))
    width = high - max(low, 2 * median - high)
    return LogNormal(median=float(np.exp(median)), sigma=round(float(width) / 1.349, 4))


def _table(latency: LogNormal) -> dict[str, object]:
    return {"kind": "lognormal", "median": latency.median, "sigma": latency.sigma}


def predicted_rounds(scenario: Scenario, calibration: Calibration) -> NDArray[np.float64]:
    """Return the seconds of every round as the simulator predicts them."""
    calm = replace(
        calibration.applied(scenario),
        evaluation=replace(scenario.evaluation, episodes=0),
        stop=replace(scenario.stop, virtual_time=None),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdleWarning)  # it is no scenario of the user's
        return np.diff(simulate(calm).metrics["virtual_seconds"])


def write(directories: Sequence[Path], out: Path) -> dict[str, object]:
    """Write network.toml, calibrated.toml and the prediction figure; return a summary.

    If the network could not be measured, both files say so and add the compute speed alone to the
    scenario. There is no prediction, and the summary has the reason under `not_measured`.

    Args:
        directories: the run directories of all peers.
        out: folder of the files.

    Raises:
        RecordError: see `calibrate`.
        ScenarioError: `out` has a file of this name that is not of a calibration.
    """
    from p2pfrl.results.directory import refuse_replacing
    from p2pfrl.results.files import write_bytes
    from p2pfrl.results.plots.prediction import prediction
    from p2pfrl.results.plots.style import render, style

    figures = {kind: out / f"prediction.{kind}" for kind in ("svg", "png")}
    refuse_replacing(out, [out / "network.toml", out / "calibrated.toml", *figures.values()])
    scenario, measured = calibrate(directories)
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / "network.toml", measured.toml().encode())
    write_bytes(out / "calibrated.toml", measured.scenario(scenario).encode())
    links, said = measured.links, None
    for path in figures.values():
        path.unlink(missing_ok=True)
    if links is not None:
        predicted = predicted_rounds(scenario, measured)
        said = typical([predicted])
        with style():
            drawing = prediction(measured.rounds, predicted, was=measured.round_time, said=said)
            for kind, path in figures.items():
                write_bytes(path, render(drawing.figure, kind))
    return {
        "messages": measured.messages,
        "message_bytes": measured.nbytes,
        "latency_median": links and links.latency.median,
        "latency_sigma": links and links.latency.sigma,
        "links_apart": links
        and {f"{i} to {j}": latency.median for (i, j), latency in links.own.items()},
        "bandwidth": links and links.bandwidth,
        "seconds_per_env_step": measured.seconds_per_env_step,
        "round_seconds_real": measured.round_time,
        "round_seconds_predicted": said,
        "error": said and said / measured.round_time - 1,
        "not_measured": measured.unmeasured or None,
        "directory": str(out),
    }


def _seconds_per_step(
    scenario: Scenario, directories: Sequence[Path], peers: Sequence[Timings]
) -> list[float]:
    """Return each agent's seconds per environment step, including the overhead of a round.

    If a round is train, send, wait, mix, this is the time from the last message that was waited for
    to the next send: training, mixing and writing. Otherwise it is the time of training.
    """
    serial = (
        not scenario.schedule.is_asynchronous and scenario.exchange.order == "adapt_then_combine"
    )
    has_coordinator = MODES[scenario.mode].has_coordinator
    found = []
    for agent in range(scenario.agents):
        place = next(i for i, peer in enumerate(peers) if agent in peer.agents)
        directory, peer = directories[place], peers[place]
        work = [w for w in peer.worked if w.agent == agent]
        if len(work) < FEW:
            raise RecordError(
                f"{directory}: the run was too short: expected at least {FEW} updates of agent "
                f"{agent}"
            )
        took = float(np.median([(w.end - w.start) / SECOND for w in work]))
        if serial:
            cause: dict[int, int] = {}
            for got in peer.arrived:
                if got.receiver == agent:
                    answers = got.round if has_coordinator else got.round + 1
                    cause[answers] = max(cause.get(answers, 0), got.time)
            busy = [
                (s.time - cause[s.round]) / SECOND
                for s in peer.sent
                if s.sender == agent and s.round in cause and s.time > cause[s.round]
            ]
            took = float(np.median(busy)) if len(busy) >= FEW else took
        steps = float(np.mean([w.env_steps for w in work])) * (
            scenario.schedule.every if serial else 1
        )
        found.append(took / steps)
    return found


def _rounds(scenario: Scenario, peers: Sequence[Timings]) -> dict[int, NDArray[np.float64]]:
    """Return the seconds between consecutive sends, by agent."""
    rounds: dict[int, list[int]] = {}
    for sent in (sent for peer in peers for sent in peer.sent if sent.sender > COORDINATOR):
        rounds.setdefault(sent.sender, []).append(sent.time)
    return {
        agent: np.diff(np.array(times)) / SECOND
        for agent, times in sorted(rounds.items())
        if len(times) > 1
    }
