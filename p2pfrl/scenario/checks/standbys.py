"""Checks of a coordinator's standbys."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.types import MOST_STANDBYS
from p2pfrl.exchange.compressors.base import Raw
from p2pfrl.exchange.gates.base import Always
from p2pfrl.scenario.checks.facts import Problem
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Edge, Scenario

_KEY = ("coordinator", "standbys")
_FALLBACK = ("coordinator", "fallback")


def standbys(scenario: Scenario) -> Iterator[Problem]:
    """Yield why nobody could take over, or what would not survive it."""
    section, hosts = scenario.coordinator, scenario.coordinator.hosts
    if not hosts:
        return
    if not MODES[scenario.mode].takes_standbys:
        yield (
            _KEY,
            f"mode {scenario.mode!r} has no coordinator that standbys could replace; leave it out",
        )
        return
    count = len(hosts)
    if count not in (2, MOST_STANDBYS):
        yield (
            _KEY,
            f"{count + 1} voters: expected 2 or 4 standbys, which with the coordinator are 3 or 5 voters: of these a "
            "majority outlives 1 or 2",
        )
    for position, host in enumerate(
        section.standbys if isinstance(section.standbys, tuple) else ()
    ):
        if host >= scenario.agents:
            yield (
                (*_KEY, position),
                f"there is no agent {host}: agents are 0 to {scenario.agents - 1}",
            )
        elif host in hosts[:position]:
            yield (*_KEY, position), f"agent {host} is named twice: both would die at once"
        elif any(host in fault.newcomers() for fault in scenario.faults):
            yield (*_KEY, position), f"agent {host} joins later: a standby votes from the beginning"
    if scenario.schedule.is_asynchronous:
        yield (
            ("schedule", "kind"),
            'standbys store the result of every round: expected "synchronous", which has rounds',
        )
    if isinstance(scenario.network.latency, Edge):
        reason = "the topology has no edges of standbys: give a duration or a distribution"
        yield ("network", "latency"), reason
    if scenario.checkpoint.on_error == "continue":
        reason = 'a vote that is not on disk could be given twice: expected "stop" with coordinator.standbys'
        yield ("checkpoint", "on_error"), reason
    if scenario.coordinator.participation.may_choose_nobody:
        reason = "a round in which nobody takes part has no result that voters could store"
        yield ("coordinator", "participation"), f"{reason}: use another rule with standbys"
    yield from _fallback(scenario)


def _fallback(scenario: Scenario) -> Iterator[Problem]:
    """Yield what keeps agents from training on without a coordinator."""
    fallback = scenario.coordinator.fallback
    if fallback == "wait":
        return
    payloads = ("parameters", "delta") if fallback == "train" else ("parameters",)
    fix = 'set fallback = "wait", or change it'
    if scenario.exchange.payload not in payloads:
        named = " or ".join(repr(name) for name in payloads)
        got = scenario.exchange.payload
        yield _FALLBACK, f"{fallback!r} needs payload {named}, got {got!r}: {fix}"
    remembers = (
        ("compressor", not isinstance(scenario.compressor, Raw)),
        ("gate", not isinstance(scenario.gate, Always)),
        ("privacy", scenario.privacy.is_accounted),
        ("work.assign", scenario.work.assign != "equal"),
    )
    for key, is_so in remembers:
        if is_so:
            yield (
                _FALLBACK,
                f"{fallback!r} sends more than one update of a round, which {key} does not allow: {fix}",
            )
    if fallback == "gossip":
        view = TopologyView(scenario.topology, scenario.agents, scenario.seed)
        try:
            Metropolis().check(view.union)
        except TopologyError as error:
            yield ("topology",), f"fallback = 'gossip' averages over it: {error}"
