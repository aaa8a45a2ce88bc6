"""Checks of single sections, alone or with the learner. `check` runs all checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.participation.base import All
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.errors import P2PFRLError, ScenarioError, TopologyError
from p2pfrl.core.modules import is_place
from p2pfrl.core.wire import MAX_PAYLOAD
from p2pfrl.core.wording import closest, did_you_mean
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.learners.base import Evaluator, Stack, Wrapped
from p2pfrl.scenario.bind import needs_environment, outline, start_of
from p2pfrl.scenario.checks.attacks import attacks
from p2pfrl.scenario.checks.drifts import drifts
from p2pfrl.scenario.checks.facts import Path, Problem
from p2pfrl.scenario.checks.faults import rehearse
from p2pfrl.scenario.checks.needs import unmet
from p2pfrl.scenario.checks.opponents import NO_POLICY, self_play
from p2pfrl.scenario.checks.secure import parts, secure
from p2pfrl.scenario.checks.standbys import standbys
from p2pfrl.scenario.checks.topology import links, placed, topology
from p2pfrl.scenario.environment import EnvironmentSection
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.resources import misfits
from p2pfrl.scenario.sections import Availability, Edge, Scenario
from p2pfrl.simulator.availability import Presence

_WIDEST = 10_000
"""Numbers of an observation above which it is refused for a dense network."""

_MOST_NAMES = 8
"""Names of physical quantities that a message lists."""


def check(scenario: Scenario) -> list[Problem]:
    """Return every invalid combination as (path of the key, reason)."""
    return [problem for look in CHECKS for problem in look(scenario)]


def _stop(scenario: Scenario) -> Iterator[Problem]:
    stop = scenario.stop
    if stop.rounds is None and stop.virtual_time is None and stop.env_steps is None:
        yield ("stop",), "the run might never end: set rounds, virtual_time or env_steps"
    if stop.virtual_time == 0:
        yield ("stop", "virtual_time"), "must be above 0 s, got 0: the run would have no round"
    if stop.target_return is not None and scenario.environment is None:
        yield ("stop", "target_return"), "there are no returns without an [environment]"
    sends_nothing = not MODES[scenario.mode].exchanges
    never_moves = sends_nothing and scenario.compute.seconds_per_env_step == 0
    if never_moves and stop.rounds is None and stop.env_steps is None:
        yield (
            ("stop",),
            "virtual time stands still while compute.seconds_per_env_step is 0: set rounds or env_steps",
        )


def _privacy(scenario: Scenario) -> Iterator[Problem]:
    """Yield what keeps a privacy rule from its noise."""
    rule, rounds = scenario.privacy, scenario.stop.rounds
    if MODES[scenario.mode].exchanges and (wrong := rule.misfit(rounds)):
        yield ("privacy", wrong[0]), wrong[1]
    sampled = getattr(rule, "sampled", None)
    drawn = scenario.coordinator.participation
    if sampled is not None and getattr(drawn, "probability", None) != sampled:
        yield (
            ("privacy", "sampled"),
            f"expected coordinator.participation = {{kind = 'poisson', probability = {sampled:g}}}: its sampling alone "
            "is accounted for",
        )


def _priced(scenario: Scenario) -> Iterator[Problem]:
    """Yield why agents cannot pay for what others learn from their steps."""
    for make in scenario.makes:
        section = make.environment
        if section is None or not section.privacy_weight:
            continue
        key = ("environment", "privacy_weight")
        if not make.learner.steps_environment:
            kind = kind_of("learners", make.learner)
            yield (
                key,
                f"needs a learner that acts in its environment; {kind!r} does not: use ppo, a2c, reinforce, deep_npg, "
                "dqn, sac or td3",
            )
        elif not section.rule.is_external and "privacy_cost" not in section.rule.spec.measures:
            yield (
                key,
                f"{section.id!r} does not say what others learn from a step: leave this out, or use an environment "
                "with measure 'privacy_cost', such as microgrid",
            )


def _hidden(scenario: Scenario) -> Iterator[Problem]:
    sizes = getattr(scenario.learner, "hidden", ())
    if any(size < 1 for size in sizes):
        yield ("learner", "hidden"), f"expected layers of at least 1 unit, got {[*sizes]}"


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
    problems = [*_vary(scenario)] or [*_worlds(scenario), *_wide(scenario)]
    yield from problems or _learner(scenario)


def _worlds(scenario: Scenario) -> Iterator[Problem]:
    """Yield why members of a shared world could wait for each other forever, or be split."""
    try:
        k, n = scenario.players, scenario.agents
    except P2PFRLError:
        return  # `_learner` says what is wrong with the environment
    if k == 1:
        for path, section in _sections(scenario):
            if section.is_self_play:
                reason = f"{section.id} has one agent, and so no opponents: remove it"
                yield (*path, "opponents"), reason
        return
    if n % k:
        reason = f"{k} agents share a world: expected a multiple of {k}, got {n}"
        yield ("agents",), f"{reason}; give {n - n % k + k}, or another environment.members"
        return
    for position, make in enumerate(scenario.makes):
        own = 1 if make.environment is None else make.environment.rule.spec.members
        split = [
            w
            for w in range(n // k)
            if 0 < len({*range(w * k, w * k + k)}.intersection(make.agents)) < k
        ]
        if own != k or split:
            reason = (
                f"agents {split[0] * k} to {split[0] * k + k - 1} share a world; put them into one group"
                if split
                else f"worlds of {own} and of {k} agents do not go together"
            )
            yield ("groups", position), reason
    if any(section.is_self_play for _, section in _sections(scenario)):
        yield from self_play(scenario, k)
    else:
        yield from _meetings(scenario, k)
    yield from _roles(scenario, k)


def _sections(scenario: Scenario) -> Iterator[tuple[Path, EnvironmentSection]]:
    """Yield the path of every environment section, and the section as its agents have it."""
    for position, make in enumerate(scenario.makes):
        path = ("groups", position, "environment") if scenario.groups else ("environment",)
        if make.environment is not None:
            yield path, make.environment


def _meetings(scenario: Scenario, k: int) -> Iterator[Problem]:
    """Yield why members that train together would wait for one that is away."""
    if scenario.availability != Availability():
        reason = f"{k} agents share a world and would wait for one that is away: remove it"
        yield ("availability",), reason
    participation = scenario.coordinator.participation
    if MODES[scenario.mode].averages and not isinstance(participation, All):
        reason = f"{k} agents share a world and would wait for one that was not chosen: use 'all'"
        yield ("coordinator", "participation"), reason


def _roles(scenario: Scenario, k: int) -> Iterator[Problem]:
    """Yield why members with different roles must not average their policies, if they would."""
    sections = [make.environment for make in scenario.makes]
    reasons = [section.rule.spec.apart for section in sections if section is not None]
    why = next(filter(None, reasons), "")
    mode, shared = MODES[scenario.mode], scenario.exchange.shared
    if not why or not mode.exchanges or (shared and NO_POLICY.issuperset(shared)):
        return
    if mode.mixes and not scenario.mixing.joins_roles(k):
        return
    if mode.mixes:
        try:
            edges = TopologyView(scenario.topology, scenario.agents, scenario.seed).union.edges
        except (TopologyError, OSError):
            return  # another check says why
        met = next(((i, j) for i, j in edges if i % k != j % k), None)
        if met is None:
            return
        what = f"agents {met[0]} and {met[1]} have different roles and would average their policies"
    else:
        what = f"mode {scenario.mode} would average the policies of all roles"
    how = f"topology kind = 'islands', count = {k}, agents = 'alternate'"
    if any(
        section is not None and section.is_self_play for section in sections
    ):  # all have to hear
        how = f"mixing kind = 'by_role', roles = {k}, on topology kind = 'complete'"
    fix = f"let those of one role mix: {how}"
    at = ("topology",) if mode.mixes else ("mode",)
    yield at, f"{what}, but {why}; {fix}{'' if mode.mixes else ', in mode gossip'}"


def _vary(scenario: Scenario) -> Iterator[Problem]:
    if scenario.environment is None:
        return
    try:
        known = scenario.environment.rule.spec.physics
    except ScenarioError as error:
        yield from (placed(line, "environment") for line in error.problems)
        return
    for name, distribution in scenario.environment.vary.items():
        path = ("environment", "vary", name)
        if name not in known:
            yield (
                path,
                _no_quantity(scenario.environment.id, name, known),
            )
        yield from _per_agent(distribution, scenario, path)
    for name, drift in scenario.environment.drift.items():
        path = ("environment", "drift", name)
        if name not in known:
            yield (
                path,
                _no_quantity(scenario.environment.id, name, known),
            )
            continue
        try:
            drift.values(np.zeros(1), [0], [0])
        except P2PFRLError as error:
            yield path, str(error)
    yield from _arguments(scenario, scenario.environment)


def _arguments(scenario: Scenario, section: EnvironmentSection) -> Iterator[Problem]:
    """Yield arguments of constructors that there are not, or that have not a value per agent."""
    rule = section.rule
    known = None
    if section.kwargs_vary:
        from p2pfrl.learning.environments.gym import Gym

        known = rule.parameters() if isinstance(rule, Gym) else None
    takes_all = known is None or any(each.kind is each.VAR_KEYWORD for each in known.values())
    for name, distribution in section.kwargs_vary.items():
        path = ("environment", "kwargs_vary", name)
        if not takes_all and known is not None and name not in known:
            takes = f"the constructor takes {', '.join(known) or 'nothing'}"
            yield path, f"{takes}{did_you_mean(name, known)}"
        yield from _per_agent(distribution, scenario, path)


def _newcomers(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    """Yield why agents that took no part could not be evaluated."""
    section, environment, path = (
        scenario.evaluation,
        scenario.environment,
        ("evaluation", "newcomers"),
    )
    m, k = section.newcomers, scenario.members
    if not m:
        return
    kind = kind_of("learners", scenario.learner)
    inner = stack.inner if isinstance(stack, Wrapped) else stack
    if environment is None or type(inner.evaluator).evaluate is Evaluator.evaluate:
        yield path, f"learner {kind!r} has no policy that newcomers could play: remove it"
        return
    if not section.episodes:
        yield path, "evaluation.episodes is 0: newcomers would play no episode"
    if scenario.groups:
        yield path, "agents are in groups, and nothing says in which one a newcomer would be"
    if m % k:
        yield path, f"{k} agents share a world: expected a multiple of {k}, got {m}"
    if getattr(environment.rule, "is_real", False):
        yield path, f"{environment.id} is a real one, which newcomers have none of: remove it"
    if section.adaptation and stack.traits.only_payload is not None:
        reason = f"learner {kind!r} learns from what others send, and a newcomer learns alone"
        yield ("evaluation", "adaptation"), reason
    for name, given in (("vary", environment.vary), ("kwargs_vary", environment.kwargs_vary)):
        known = {**(environment.rule.vary if name == "vary" else {}), **given}
        for quantity, distribution in known.items():
            if not distribution.goes_on:
                what = kind_of("distributions", distribution)
                reason = f"kind {what!r} has values for the agents of the run alone, and newcomers need some"
                yield (
                    ("environment", name, quantity),
                    f"{reason}: use 'uniform' or 'cycle', for example",
                )


def _wide(scenario: Scenario) -> Iterator[Problem]:
    """Yield observations that a dense network would see number by number."""
    for make in scenario.makes:
        spec, learner = (
            None if make.environment is None else make.environment.rule.spec,
            make.learner,
        )
        is_dense, takes_own = hasattr(learner, "hidden"), hasattr(learner, "stacked")
        policy: object = getattr(learner, "policy", "")
        if (
            spec is None
            or spec.observation <= _WIDEST
            or learner.encodes_images
            or not (spec.image or is_dense)
            or (takes_own and policy)
        ):
            continue
        units = getattr(learner, "hidden", (1,))[:1]
        size = spec.observation * (units[0] if units else 1) * 4 / 1e6
        what = f"an image of {' x '.join(map(str, spec.image))}" if spec.image else "an observation"
        encoding = ', or learner.encoder = "nature_cnn"' if hasattr(learner, "encoder") else ""
        own = ", or set learner.policy to a network with an embedding"
        fix = (
            f"set environment.resize = [84, 84] and environment.gray = true{encoding}, or wrap the environment"
            if spec.image
            else "wrap the environment so that it returns fewer numbers, such as the coordinates of a "
            f"state in place of one number for each{own if takes_own else ''}"
        )
        yield (
            ("environment", "id"),
            f"{what} is {spec.observation:,} numbers, so that the first layer of a dense "
            f"network alone makes messages of {size:.1f} MB; {fix}",
        )


def _no_quantity(id: str, name: str, known: Mapping[str, float]) -> str:
    """Return that an environment has no physical quantity of a name, and which it has."""
    hint = did_you_mean(name, known)
    if known and "did you mean" not in hint:
        shown = [*sorted(known)[:_MOST_NAMES], *(["..."] if len(known) > _MOST_NAMES else [])]
        hint = f"; it has {', '.join(shown)}"
    return f"{id} has nothing of this name{hint}"


def _resources(scenario: Scenario) -> Iterator[Problem]:
    energy, allocation = scenario.energy, scenario.allocation
    sections: list[tuple[Distribution, str, str]] = [
        (scenario.compute.speed, "compute", "speed"),
        (scenario.network.bandwidth, "network", "bandwidth"),
        (energy.per_step, "energy", "per_step"),
        (energy.per_byte, "energy", "per_byte"),
        (allocation.weights, "allocation", "weights"),
        (allocation.low, "allocation", "low"),
    ]
    if allocation.high is not None:
        sections.append((allocation.high, "allocation", "high"))
    problems = [
        problem
        for distribution, section, key in sections
        for problem in _per_agent(distribution, scenario, (section, key))
    ]
    yield from problems or ((("allocation", key), why) for key, why in misfits(scenario))


def _work(scenario: Scenario) -> Iterator[Problem]:
    """Yield why work cannot be assigned, or what it lacks."""
    work, key = scenario.work, ("work", "assign")
    if work.assign == "time" and work.time is None:
        yield ("work", "time"), 'assign = "time" needs a duration, such as "2s"'
    if work.assign == "equal":
        return
    if MODES[scenario.mode].pools:
        yield key, "in mode pooled one learner takes all steps; leave it out"
    try:
        k = scenario.members
    except P2PFRLError:
        return  # another check says what is wrong with the environment
    if k > 1:
        yield key, f"{k} agents share a world and train together: leave it out"
    if PAYLOADS[scenario.exchange.payload].needs_gradient and MODES[scenario.mode].has_coordinator:
        yield (
            key,
            f"payload {scenario.exchange.payload!r} is that of one local update: leave it out",
        )


def _per_agent(distribution: Distribution, scenario: Scenario, path: Path) -> Iterator[Problem]:
    try:
        distribution.values(scenario.seed, [0], scenario.agents, "values")
    except P2PFRLError as error:
        yield path, str(error).partition(": ")[2]


def _learner(scenario: Scenario) -> Iterator[Problem]:
    try:
        stack = outline(scenario)
    except ScenarioError as error:
        yield from (placed(line, "learner") for line in error.problems)
        yield from unmet(scenario, None)
        return
    except P2PFRLError as error:
        yield placed(str(error), "learner")
        yield from unmet(scenario, None)
        return
    size = stack.layout.size * np.dtype(stack.layout.dtype).itemsize
    if size > MAX_PAYLOAD:
        yield (
            ("learner",),
            f"{stack.layout.size:,} parameters are {size:,} bytes; a message holds {MAX_PAYLOAD:,}",
        )
    if scenario.learner.moments != "keep" and not stack.traits.moments:
        kind = kind_of("learners", scenario.learner)
        yield (
            ("learner", "moments"),
            f"learner {kind!r} has no optimizer moments to {scenario.learner.moments}",
        )
    yield from unmet(scenario, stack)
    yield from _newcomers(scenario, stack)
    try:
        start_of(scenario, stack)
    except ScenarioError as error:
        yield from (placed(line, "start") for line in error.problems)
    for position, part in enumerate(scenario.exchange.shared or ()):
        if part not in stack.layout.parts:
            reason = f"the parameters have no part {part!r}{did_you_mean(part, stack.layout.parts)}"
            yield ("exchange", "shared", position), reason
        elif part in stack.traits.personal:
            reason = f"the part {part!r} is personal here: it never travels"
            yield ("exchange", "shared", position), reason
    if scenario.exchange.shared == ():
        yield ("exchange", "shared"), 'nothing would travel; mode = "independent" does that'


def _exchange(scenario: Scenario) -> Iterator[Problem]:
    payload = scenario.exchange.payload
    try:
        PAYLOADS[payload]
    except KeyError as error:
        reason = f"no {payload!r} among payloads{did_you_mean(payload, [*PAYLOADS])}"
        if closest(payload, [*PAYLOADS]) is None:
            reason += '; one of your own is named "module:Class"'
        yield ("exchange", "payload"), str(error.args[0]) if is_place(payload) else reason


def _coordinator(scenario: Scenario) -> Iterator[Problem]:
    """Yield a problem if an asynchronous coordinator would receive nothing and never end."""
    mode = MODES[scenario.mode]
    if not mode.averages or mode.has_edges or not scenario.schedule.is_asynchronous:
        return
    if scenario.network.loss.loses_all and scenario.stop.virtual_time is None:
        reason = "the coordinator would repeat every model forever: give a loss below 1, or stop.virtual_time"
        yield ("network", "loss"), reason


def _hierarchy(scenario: Scenario) -> Iterator[Problem]:
    if not MODES[scenario.mode].has_edges:
        return
    for path, reason in scenario.hierarchy.problems(scenario.agents):
        yield ("hierarchy", *path), reason
    if isinstance(scenario.network.latency, Edge):
        reason = "the topology has no edges of the tree: give a duration or a distribution"
        yield ("network", "latency"), reason


def _availability(scenario: Scenario) -> Iterator[Problem]:
    section = scenario.availability
    if section.trace is None:
        return
    if section.dropout > 0:
        yield ("availability", "dropout"), "give either dropout or a trace, not both"
    try:
        presence = Presence.read(section.path, scenario.agents)
    except P2PFRLError as error:
        yield ("availability", "trace"), str(error)
        return
    averages = MODES[scenario.mode].averages
    is_counted_by_updates = averages and scenario.schedule.is_asynchronous
    if (
        is_counted_by_updates
        and scenario.stop.virtual_time is None
        and (end := presence.end(scenario.agents))
    ):
        reason = (
            f"no agent is available after {end:g} s, but the coordinator waits for updates: "
            "give stop.virtual_time as well"
        )
        yield ("availability", "trace"), reason


def _faults(scenario: Scenario) -> Iterator[Problem]:
    yield from rehearse(scenario.faults, scenario.agents, scenario.coordinators, scenario.hosted)


CHECKS: tuple[Callable[[Scenario], Iterator[Problem]], ...] = (
    _stop,
    _privacy,
    _priced,
    secure,
    parts,
    _hidden,
    _environment,
    drifts,
    _resources,
    _work,
    topology,
    _exchange,
    _coordinator,
    _hierarchy,
    links,
    _availability,
    _faults,
    standbys,
    attacks,
)
