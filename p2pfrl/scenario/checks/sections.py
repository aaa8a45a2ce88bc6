"""What sections must not be together, with the reason. Each check looks at the whole scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.topologies import TopologyView
from p2pfrl.core.distributions import Distribution
from p2pfrl.core.errors import P2PFRLError, ScenarioError, TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.options import did_you_mean
from p2pfrl.core.types import COORDINATOR
from p2pfrl.core.wire import MAX_PAYLOAD
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.scenario.bind import needs_environment, outline
from p2pfrl.scenario.checks.faults import rehearse
from p2pfrl.scenario.checks.needs import unmet
from p2pfrl.scenario.sections import COORDINATED, Edge, Scenario
from p2pfrl.simulator.availability import Presence

Path = tuple[str | int, ...]
Problem = tuple[Path, str]

_MOST_ROUNDS = 64


def check(scenario: Scenario) -> list[Problem]:
    """Return every combination that means nothing, as (path of the key, reason)."""
    return [problem for look in CHECKS for problem in look(scenario)]


def _stop(scenario: Scenario) -> Iterator[Problem]:
    stop = scenario.stop
    if stop.rounds is None and stop.virtual_time is None and stop.env_steps is None:
        yield ("stop",), "the run might never end: set rounds, virtual_time or env_steps"
    if stop.target_return is not None and scenario.environment is None:
        yield ("stop", "target_return"), "there are no returns without an [environment]"
    never_moves = scenario.mode == "independent" and scenario.compute.seconds_per_env_step == 0
    if never_moves and stop.rounds is None and stop.env_steps is None:
        yield (
            ("stop",),
            "virtual time stands still while compute.seconds_per_env_step is 0: set rounds or env_steps",
        )


def _environment(scenario: Scenario) -> Iterator[Problem]:
    section, learner = scenario.environment, kind_of("learners", scenario.learner)
    if needs_environment(scenario):
        if section is None:
            yield (
                ("environment",),
                f"learner {learner!r} needs one: add an [environment] with an id",
            )
            return
    elif section is not None:
        yield ("environment",), f"learner {learner!r} has a problem of its own: remove this section"
        return
    problems = [*_vary(scenario)]
    yield from problems or _learner(scenario)


def _vary(scenario: Scenario) -> Iterator[Problem]:
    if scenario.environment is None:
        return
    try:
        known = scenario.environment.rule.spec.physics
    except P2PFRLError as error:
        yield ("environment", "id"), str(error).removeprefix("environment.id: ")
        return
    for name, distribution in scenario.environment.vary.items():
        path = ("environment", "vary", name)
        if name not in known:
            yield (
                path,
                f"{scenario.environment.id} has nothing of this name{did_you_mean(name, known)}",
            )
        yield from _per_agent(distribution, scenario, path)


def _speed(scenario: Scenario) -> Iterator[Problem]:
    yield from _per_agent(scenario.compute.speed, scenario, ("compute", "speed"))


def _per_agent(distribution: Distribution, scenario: Scenario, path: Path) -> Iterator[Problem]:
    try:
        distribution.values(scenario.seed, [0], scenario.agents, "values")
    except P2PFRLError as error:
        yield path, str(error).partition(": ")[2]


def _learner(scenario: Scenario) -> Iterator[Problem]:
    try:
        stack = outline(scenario)
    except ScenarioError as error:
        yield from (_placed(line, "learner") for line in error.problems)
        return
    except P2PFRLError as error:
        yield _placed(str(error), "learner")
        return
    size = stack.layout.size * np.dtype(stack.layout.dtype).itemsize
    if size > MAX_PAYLOAD:
        yield (
            ("learner",),
            f"{stack.layout.size:,} parameters are {size:,} bytes; a message holds {MAX_PAYLOAD:,}",
        )
    if scenario.learner.moments != "keep" and not stack.moments:
        kind = kind_of("learners", scenario.learner)
        yield (
            ("learner", "moments"),
            f"learner {kind!r} has no optimizer moments to {scenario.learner.moments}",
        )
    yield from unmet(scenario, stack)
    for position, part in enumerate(scenario.exchange.shared or ()):
        if part not in stack.layout.parts:
            reason = f"the parameters have no part {part!r}{did_you_mean(part, stack.layout.parts)}"
            yield ("exchange", "shared", position), reason
    if scenario.exchange.shared == ():
        yield ("exchange", "shared"), 'nothing would travel; mode = "independent" does that'


def _placed(message: str, section: str) -> Problem:
    """Return the problem of a message that may begin with its key: "mixing.alpha: ..."."""
    key, _, reason = message.partition(": ")
    if key == section or key.startswith(f"{section}."):
        return tuple(key.split(".")), reason
    return (section,), message


def _topology(scenario: Scenario) -> Iterator[Problem]:
    is_edge = isinstance(scenario.network.latency, Edge)
    view = TopologyView(scenario.topology, scenario.agents, scenario.seed)
    try:
        graphs = [view.at(round) for round in range(min(view.period or 1, _MOST_ROUNDS))]
    except TopologyError as error:
        yield _placed(str(error), "topology")
        return
    except OSError as error:
        yield ("topology",), f"its file cannot be read: {error.strerror}"
        return
    if scenario.mode == "gossip":
        yield from _mixing(scenario, graphs)
    if is_edge:
        lacking = [edge for graph in graphs for edge in graph.edges if edge not in graph.latency]
        if lacking:
            i, j = lacking[0]
            reason = f"the topology gives no latency from agent {graphs[0].name(i)} to {graphs[0].name(j)}"
            yield ("network", "latency"), f"{reason}; give a duration or a distribution"
    if is_edge and scenario.coordinator.at >= scenario.agents:
        yield (
            ("coordinator", "at"),
            f"expected a node below {scenario.agents}, got {scenario.coordinator.at}",
        )


def _mixing(scenario: Scenario, graphs: list[Graph]) -> Iterator[Problem]:
    for graph in graphs:
        try:
            scenario.mixing.check(graph)
        except TopologyError as error:
            yield _placed(str(error), "mixing")
            return


def _exchange(scenario: Scenario) -> Iterator[Problem]:
    payload = scenario.exchange.payload
    if payload not in PAYLOADS:
        reason = f"no {payload!r} among payloads{did_you_mean(payload, PAYLOADS)}"
        yield ("exchange", "payload"), reason


def _coordinator(scenario: Scenario) -> Iterator[Problem]:
    """Refuse an asynchronous coordinator that hears nobody and has no end."""
    if scenario.mode != "central" or not scenario.schedule.is_asynchronous:
        return
    is_deaf = getattr(scenario.network.loss, "probability", 0.0) == 1.0
    if is_deaf and scenario.stop.virtual_time is None:
        reason = (
            "every model would be sent again for ever: give a loss below 1, or stop.virtual_time"
        )
        yield ("network", "loss"), reason


def _hierarchy(scenario: Scenario) -> Iterator[Problem]:
    if scenario.mode != "hierarchical":
        return
    for path, reason in scenario.hierarchy.problems(scenario.agents):
        yield ("hierarchy", *path), reason
    if isinstance(scenario.network.latency, Edge):
        reason = "the topology has no edges of a tree: give a duration or a distribution"
        yield ("network", "latency"), reason


def _links(scenario: Scenario) -> Iterator[Problem]:
    nodes, seen = range(COORDINATOR, scenario.agents), set[tuple[int, int]]()
    for position, link in enumerate(scenario.network.links):
        path, pair = ("network", "links", position), (link.from_, link.to)
        for name, node in (("from", link.from_), ("to", link.to)):
            if node not in nodes:
                yield (
                    (*path, name),
                    f"expected an agent below {scenario.agents}, or -1 for the coordinator, got {node}",
                )
        if link.from_ == link.to:
            yield (*path, "to"), f"{link.to} sends nothing to itself"
        if pair in seen:
            yield path, f"the link from {link.from_} to {link.to} stands here twice"
        if link.latency is None and link.bandwidth is None:
            yield (
                path,
                "expected a latency or a bandwidth: without them the link is like all others",
            )
        seen.add(pair)
    if scenario.mode == "gossip":
        yield from _linked(scenario)


def _linked(scenario: Scenario) -> Iterator[Problem]:
    """Refuse links between agents that are no neighbors; those of a coordinator are for the modes that have one."""
    pairs = {
        (link.from_, link.to): position for position, link in enumerate(scenario.network.links)
    }
    pairs = {
        pair: position
        for pair, position in pairs.items()
        if min(pair) >= 0 and max(pair) < scenario.agents
    }
    if not pairs:
        return
    try:
        edges = set(TopologyView(scenario.topology, scenario.agents, scenario.seed).union.edges)
    except (TopologyError, OSError):
        return  # another check says why
    for (i, j), position in pairs.items():
        if i != j and (i, j) not in edges:
            yield (
                ("network", "links", position),
                f"agent {i} sends nothing to {j}: no neighbors in this topology",
            )


def _availability(scenario: Scenario) -> Iterator[Problem]:
    section = scenario.availability
    if section.trace is None:
        return
    if section.dropout > 0:
        yield ("availability", "dropout"), "give either dropout or a trace, not both"
    try:
        presence = Presence.read(section.trace, scenario.agents)
    except P2PFRLError as error:
        yield ("availability", "trace"), str(error)
        return
    is_counted_by_updates = scenario.mode in COORDINATED and scenario.schedule.is_asynchronous
    if (
        is_counted_by_updates
        and scenario.stop.virtual_time is None
        and (end := presence.end(scenario.agents))
    ):
        reason = f"nobody is there after {end:g} s, and updates are waited for: give stop.virtual_time as well"
        yield ("availability", "trace"), reason


def _faults(scenario: Scenario) -> Iterator[Problem]:
    yield from rehearse(scenario.faults, scenario.agents)


CHECKS: tuple[Callable[[Scenario], Iterator[Problem]], ...] = (
    _stop,
    _environment,
    _speed,
    _topology,
    _exchange,
    _coordinator,
    _hierarchy,
    _links,
    _availability,
    _faults,
)
