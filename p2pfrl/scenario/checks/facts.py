"""Facts of a scenario: for every need that it does not meet, the key that breaks it and the fix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.needs import By, Composable, Need
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario.byzantine import acts, named
from p2pfrl.scenario.checks.faults import departures
from p2pfrl.scenario.modes import MODES, RULES_OF_ALL
from p2pfrl.scenario.sections import Availability, Scenario

Path = tuple[str | int, ...]
Problem = tuple[Path, str]
"""Path of a key, and the reason."""


@dataclass(frozen=True, slots=True)
class Part:
    """A rule and its place in the scenario.

    Attributes:
        path: path of its section.
        axis: axis of the rule.
        rule: the rule.
        key: the option that names the rule: "kind", or "" if the section itself does.
    """

    path: Path
    axis: str
    rule: Composable
    key: str = ""

    @property
    def kind(self) -> str:
        """The rule's name in scenario files."""
        return kind_of(self.axis, self.rule)

    @property
    def label(self) -> str:
        """The rule's name in messages: "coordinator.aggregator 'mean'"."""
        return f"{'.'.join(map(str, self.path))} {self.kind!r}"

    def place(self, option: str = "") -> Path:
        """Return the path of an option, or of the key that names the rule if none is given."""
        last = option or self.key
        return (*self.path, last) if last else self.path


@dataclass(frozen=True, slots=True)
class Broken:
    """The reason why a need is not met.

    Attributes:
        where: path of the key that breaks it; None for the path of the rule that has the need.
        why: the cause and the fix.
    """

    where: Path | None
    why: str


Facts = Mapping[Need, Sequence[Broken]]
"""Need that is not met -> all reasons."""

_WHY: dict[tuple[str, Need | str | None], str] = {
    ("attacks", Need.MASS): "{} says a wrong one; use another mixing rule",
    ("attacks", None): "the messages of {} are refused; remove the attack",
    (
        "aggregators",
        Need.PLAIN_MEAN,
    ): "{} computes another aggregate; use kind = 'mean', weights = 'uniform'",
    ("compressors", None): "{} changes them; use kind = 'none'",
    ("compressors", Need.EVERY_NUMBER): "{} may leave some out; use kind = 'quantize' or 'none'",
    ("corrections", None): "{} changes local training; leave it out",
    ("faults", None): "{} breaks this; remove the fault",
    ("faults", Need.MASS): "{} changes it; remove the fault",
    ("faults", Need.MEMORY): "{} loses it; remove the fault",
    ("gates", None): "a closed gate holds messages back; use kind = 'none'",
    ("mixing", None): "mixing {} has an order of its own; leave the order out",
    ("participation", None): "{} does not ask all agents; use kind = 'all'",
    ("privacy", Need.CLEAR): "{} keeps them in; use a rule that does without",
    ("privacy", Need.STEPS_OF_EACH): "{} keeps it in; use a rule that does without",
    ("privacy", Need.EXTRAS): "{} noises one mean or sum alone; use another correction",
    ("privacy", Need.ORDER): (
        "{} protects what training changed, and messages would leave before; leave the order out"
    ),
    ("privacy", None): "an agent whose budget is spent is silent; leave this out",
    ("payloads", Need.CHANGES): (
        "too little of the parameters would arrive: in mode gossip put kind = 'difference' around the compressor, "
        "in mode central send payload = 'delta' with kind = 'error_feedback' around it"
    ),
    ("payloads", Need.SUMMANDS): "a sum of parameters is no model; send 'gradient' or 'delta'",
    ("payloads", None): "{} sends none; leave it out, or send 'parameters'",
    ("secure", Need.SINGLE): "{} hides it; use a rule that averages, or [secure] kind = 'none'",
    ("secure", Need.CLEAR): "{} hides them; use a rule that does without",
    ("schedules", Need.EVERY_MESSAGE): (
        "an asynchronous agent mixes only the newest of several; use kind = 'synchronous'"
    ),
    ("schedules", Need.CHOICE): "every update makes one; use kind = 'buffered' or 'synchronous'",
    ("schedules", "size"): "every update makes one; use at least 2",
    ("schedules", "quorum"): "stragglers may answer later; use 1",
    ("schedules", None): "agents do not wait; use kind = 'synchronous'",
    ("schedules", Need.NO_ROUNDS): (
        "use kind = 'asynchronous'; for pairs in rounds use topology 'random_matchings'"
    ),
    ("schedules", Need.WHOLE_EXCHANGES): "no payload is stale in them; leave it out",
    ("schedules", Need.FULL_WEIGHT): "it reduces the weight of stale ones; use kind = 'constant'",
    ("server_optimizers", Need.STEPS): (
        "{} would add the whole direction; use 'sgd', 'adam' or 'normalized_momentum'"
    ),
    ("server_optimizers", None): "{} takes other steps; use kind = 'replace'",
}
"""(axis, option or need) -> why a rule of the axis breaks a need, and the fix.

(axis, None) is for all other options and needs."""

_BLAMELESS = ("payloads", "mixing")
"""Axes that a message never asks to change. It points to the rule that does not fit them."""


def parts(scenario: Scenario) -> Iterator[Part]:
    """Yield the rules that have an effect in the scenario's mode."""
    for key in (*RULES_OF_ALL, *MODES[scenario.mode].rules):
        rule = attrgetter(".".join(key.path))(scenario)
        yield Part(key.path, key.axis, rule, key.option)
    payload = PAYLOADS[scenario.exchange.payload]
    if payload.is_for(scenario.mode):
        yield Part(("exchange", "payload"), "payloads", payload())
    for position, fault in enumerate(scenario.faults):
        if fault.concerns(scenario.coordinators):
            yield Part(("faults", position), "faults", fault)
    for path, attack in named(scenario):
        if acts(scenario, attack):
            yield Part(path, "attacks", attack, "kind")


def facts(scenario: Scenario, stack: Stack | None) -> Facts:
    """Return every need that the scenario does not meet, with all reasons.

    Args:
        scenario: the rules.
        stack: the bound learner; without it needs of learners are not checked.
    """
    found: dict[Need, list[Broken]] = {}
    for look in (_of_rules, _of_mode, _of_links, _of_time, _of_coordinator, _of_releases):
        for need, broken in look(scenario):
            if MODES[scenario.mode].can_break(need):
                found.setdefault(need, []).append(broken)
    for need, broken in _of_learner(scenario, stack) if stack is not None else ():
        found.setdefault(need, []).append(broken)
    return found


def _of_rules(scenario: Scenario) -> Iterator[tuple[Need, Broken]]:
    """Yield the needs that rules declare to break."""
    for part in parts(scenario):
        for one in part.rule.breaks:
            need, option = (one.need, one.option) if isinstance(one, By) else (one, "")
            keys = [(part.axis, key) for key in (option, need, None)]
            reason = next((_WHY[key] for key in keys if key in _WHY), "{} breaks this")
            where = None if part.axis in _BLAMELESS else part.place(option)
            yield need, Broken(where, reason.format(repr(part.kind)))


def _of_mode(scenario: Scenario) -> Iterator[tuple[Need, Broken]]:
    """Yield what no rule can have in this mode."""
    for need, reason in MODES[scenario.mode].breaks:
        yield need, Broken(None, f"mode {scenario.mode} {reason}")


def _of_links(scenario: Scenario) -> Iterator[tuple[Need, Broken]]:
    loss, topology = scenario.network.loss, scenario.topology
    if not loss.is_lossless:
        yield Need.EVERY_MESSAGE, Broken(("network", "loss"), "set it to 0")
        yield Need.LOSSLESS_LINKS, Broken(None, "network.loss is above 0; set this key")
    if loss.symmetric() is None:
        reason = "independent losses are drawn once per edge and round; give network.loss as a probability"
        yield Need.BOTH_ENDS, Broken(("network", "loss"), reason)
    if scenario.availability != Availability():
        yield Need.EVERY_MESSAGE, Broken(("availability",), "agents may be absent; remove it")
    if scenario.gate.is_common and scenario.availability != Availability():
        reason = f"{kind_of('gates', scenario.gate)!r} closes at one end only if an agent sits out a round"
        yield Need.BOTH_ENDS, Broken(("gate", "kind"), reason)
    if scenario.topology.period(scenario.agents) != 1:
        reason = f"{kind_of('topologies', topology)!r} changes"
        yield Need.STATIC_GRAPH, Broken(("topology", "kind"), reason)
    if not scenario.compressor.is_difference:
        yield Need.KNOWN_COPIES, Broken(("compressor", "kind"), "use kind = 'difference'")
    if not scenario.compressor.adds_up:
        reason = (
            f"with {kind_of('compressors', scenario.compressor)!r} places or scales are each agent's own; use kind = "
            "'randk' with common = true, also in 'error_feedback', or fewer secure.ring_bits"
        )
        yield Need.ADDS_UP, Broken(("compressor", "kind"), reason)


def _of_time(scenario: Scenario) -> Iterator[tuple[Need, Broken]]:
    if scenario.schedule.is_asynchronous and scenario.stop.virtual_time is None:
        has_key = hasattr(scenario.gate, "max_silence")
        fix = "set this key, or stop.virtual_time" if has_key else "set stop.virtual_time"
        yield Need.PROGRESS, Broken(None, fix)
    gone = departures(scenario.faults, scenario.agents)
    for position in gone:
        reason = "the sum would lack the share of an agent that has left"
        yield Need.EVERY_ANSWER, Broken(("faults", position), reason)
        if Need.EVERY_MESSAGE not in (fault := scenario.faults[position]).breaks:
            kind = kind_of("faults", fault)
            reason = f"{kind!r} breaks this; remove the fault, or add a 'restart' after it"
            yield Need.EVERY_MESSAGE, Broken(("faults", position), reason)
    if any(agent >= 0 for fault in scenario.faults for agent in fault.returning()):
        for where, reason in missed_for_good(scenario):
            yield Need.EVERY_MESSAGE, Broken(where, reason)
    yield from _unacknowledged(scenario)


def _unacknowledged(scenario: Scenario) -> Iterator[tuple[Need, Broken]]:
    """Yield the faults after which nobody knows which updates counted."""
    for position, fault in enumerate(scenario.faults if scenario.schedule.is_asynchronous else ()):
        if fault.is_of_presence and fault.concerns(scenario.coordinators):
            reason = (
                "without rounds an update in transit may count or not; use kind = 'synchronous'"
            )
            yield Need.ACKNOWLEDGMENTS, Broken(("faults", position), reason)


def missed_for_good(scenario: Scenario) -> Iterator[tuple[Path, str]]:
    """Yield why restarted agents would not get all messages that they missed, as (key, reason).

    Neighbors keep the messages of two rounds. This is enough if agents save their state every round
    and are at most one round apart, as agents are that receive from each other.
    """
    if not any(part.rule.has_need(Need.EVERY_MESSAGE) for part in parts(scenario)):
        return
    if scenario.checkpoint.rounds > 1:
        reason = "agents would restart from a round whose messages are gone; save every round"
        yield ("checkpoint", "every"), reason
    view = TopologyView(scenario.topology, scenario.agents, scenario.seed)
    try:
        is_mutual = view.period == 1 and view.at(0).is_undirected
    except TopologyError:  # reported where the topology itself is checked
        return
    if not is_mutual:
        reason = (
            "an agent that does not receive from another one in every round runs ahead of it, and keeps too few "
            "messages for it; use a static undirected graph, or remove the faults"
        )
        yield ("topology", "kind"), reason


def _of_coordinator(scenario: Scenario) -> Iterator[tuple[Need, Broken]]:
    aggregator, participation = scenario.coordinator.aggregator, scenario.coordinator.participation
    if not aggregator.goes_on:
        kind = kind_of("aggregators", aggregator)
        reason = f"{kind!r} ignores it; use kind = 'latest', reduce = 'sum'"
        yield Need.LAST_PAYLOADS, Broken(("coordinator", "aggregator"), reason)
    if aggregator.score and aggregator.score != participation.score:
        reason = f"the aggregator ranks by {aggregator.score}, and a message has only one"
        yield Need.ONE_SCORE, Broken(None, reason)


def _of_releases(scenario: Scenario) -> Iterator[tuple[Need, Broken]]:
    """Yield why what leaves an agent has no bound."""
    mode, payload = MODES[scenario.mode], scenario.exchange.payload
    if mode.pools:
        yield Need.BOUNDED, Broken(("mode",), "experience leaves the agents in mode pooled")
    if not mode.exchanges or mode.pools:
        return
    if mode.name not in PAYLOADS[payload].bounded:
        fits = [name for name, cls in PAYLOADS.items() if mode.name in cls.bounded]
        known = " or ".join(f"payload = {name!r}" for name in fits)
        reason = f"{payload!r} has no bound in mode {mode.name}; use {known}"
        yield Need.BOUNDED, Broken(("exchange", "payload"), reason)


def _of_learner(scenario: Scenario, stack: Stack) -> Iterator[tuple[Need, Broken]]:
    traits = stack.traits
    learner = f"learner {kind_of('learners', scenario.learner)!r}"
    if not traits.gives_returns:
        yield Need.RETURNS, Broken(None, f"{learner} plays no episodes; use another rule")
    if not traits.gives_gradients:
        yield Need.GRADIENTS, Broken(None, f"{learner} gives none")
    if not traits.takes_corrections:
        yield Need.GRADIENT_STEPS, Broken(None, f"{learner} takes none")
    if not traits.takes_episodes:
        fix = "use reinforce, ppo or a2c, and set learner.episodes"
        yield Need.EPISODES, Broken(None, fix)
    if not traits.takes_guides:
        yield Need.POLICY, Broken(None, f"{learner} has none; use ppo, a2c or reinforce")
    if not traits.rate:
        has_optimizer = hasattr(scenario.learner, "optimizer")
        fix = 'set learner.optimizer = "sgd" and learner.max_grad_norm = 0' if has_optimizer else ""
        if has_optimizer and hasattr(scenario.learner, "lr_schedule"):
            fix += ", and leave learner.lr_schedule constant"
        yield Need.PLAIN_DESCENT, Broken(None, fix or f"{learner} does otherwise")
    if scenario.learner.moments == "average":
        reason = "they could become negative; use 'keep' or 'reset'"
        yield Need.FREE_MOMENTS, Broken(("learner", "moments"), reason)
