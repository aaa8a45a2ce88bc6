"""Notes on a scenario: keys that a mode ignores, and private data that messages contain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from p2pfrl.catalog import kind_of
from p2pfrl.core.distributions.base import Constant
from p2pfrl.core.needs import Composable, Need
from p2pfrl.core.options import construct, options_of, slot_of
from p2pfrl.core.types import COORDINATOR, name_of
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.learners.base import NO_ENGINE
from p2pfrl.learning.normalization import PART
from p2pfrl.learning.started import UNWANTED, usual_in_words
from p2pfrl.scenario.bind import outline, start_of
from p2pfrl.scenario.byzantine import acts, named
from p2pfrl.scenario.checks.facts import parts
from p2pfrl.scenario.checks.trust import trust
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.resources import assigned, resources, unheld
from p2pfrl.scenario.sections import Allocation, Edge, Scenario
from p2pfrl.simulator.losses import Independent

_WIDE = 4096
"""Numbers of an observation from which on a note says what they cost: a gray image of 64 x 64."""
_ENCODED = ', or set learner.encoder = "nature_cnn"'
_OWN_STEP = ("lr", "lr_schedule", "optimizer")
"""Options of a learner's own step. A learner that sends gradients takes no step."""

_OF_COORDINATOR = ("coordinator_bandwidth",)
"""Options of the network that only coordinators have."""


def notes(scenario: Scenario) -> Iterator[str]:
    """Yield one line per note: private data in messages, and keys without an effect.

    A key without an effect is no error, because a file may have keys for several modes: `compare`
    runs them all.
    """
    yield from _wide(scenario)
    yield from _engine(scenario)
    yield from _as_usual(scenario)
    yield from _alike(scenario)
    yield from _allocation(scenario)
    yield from _work(scenario)
    yield from _late_attacks(scenario)
    yield from _late_faults(scenario)
    yield from _late_drifts(scenario)
    yield from _impatience(scenario)
    loss = scenario.network.loss
    if isinstance(loss, Independent) and loss.probability == 1 and MODES[scenario.mode].exchanges:
        yield "network.loss is 1: no message arrives"
    if beside := [*_beside(scenario)]:
        yield f"without effect beside the values of other options: {', '.join(beside)}"
    if scenario.evaluation.adaptation and not scenario.evaluation.newcomers:
        yield "without effect: evaluation.adaptation; there are no evaluation.newcomers"
    if scenario.checkpoint.journal is not None:
        yield "without effect in the simulator: checkpoint.journal; only processes keep a journal"
    payload, mode = scenario.exchange.payload, MODES[scenario.mode]
    travels = PAYLOADS[payload].is_for(mode.name)
    if PAYLOADS[payload].reveals_experience and travels:
        yield f"payload {payload!r} shares raw experience"
    idle = [key for key in mode.idle if says_something(scenario, key)]
    averages_alone = bool(scenario.standbys) and scenario.coordinator.fallback == "gossip"
    is_read = isinstance(scenario.network.latency, Edge) or averages_alone
    if is_read and "topology" in idle:
        idle.remove("topology")
    idle += [*_without_messages(scenario), *_absent(scenario), *_links(scenario)]
    idle += _unread(scenario)
    idle += (path_of(path) for path, attack in named(scenario) if not acts(scenario, attack))
    if idle:
        yield f"in mode {mode.name!r} without effect: {', '.join(idle)}"
    yield from trust(scenario)
    if mode.averages and (needed := scenario.correction.reckons_with) is not None:
        yield from _mismatch(scenario, *needed)
    if scenario.correction.begins_at_zero and "correction" not in mode.idle:
        yield from _of_one_step(scenario)
    yield from _of_episodes(scenario)
    if PAYLOADS[payload].needs_gradient and travels:
        plain = construct(type(scenario.learner), {})
        own = [
            name
            for name in _OWN_STEP
            if getattr(scenario.learner, name, None) != getattr(plain, name, None)
        ]
        if own:
            keys = ", ".join(f"learner.{name}" for name in own)
            yield f"with payload {payload!r} without effect: {keys}; coordinator.server_optimizer takes the step"


def _impatience(scenario: Scenario) -> Iterator[str]:
    """Yield a note where everybody gives up before the last standby could take office."""
    patience, takes = scenario.schedule.patience, scenario.coordinator.standby_wait
    takes *= len(scenario.voters)
    if patience < takes:
        yield (
            f"agents and standbys wait {patience:g} s for a coordinator that is gone (ten times schedule.deadline), "
            f"and the last standby asks for votes after {takes:g} s: a shorter standby_wait lets it"
        )


def is_idle(note: str) -> bool:
    """Return whether a note says that something in the scenario has no effect."""
    return "without effect" in note or "no effect" in note


def missing() -> str | None:
    """Return why there is no native engine; None if there is one."""
    # Learners with networks need it, and no others.
    from p2pfrl.learning.native.choice import missing as found

    return found()


def _engine(scenario: Scenario) -> Iterator[str]:
    """Yield a note where the native engine would compute, or where there is nothing to compute."""
    if scenario.compute.engine == "torch" and outline(scenario).traits.engine == NO_ENGINE:
        yield "without effect: compute.engine; the learner has no networks"
    may_be_native = any(getattr(make.learner, "policy", None) == "" for make in scenario.makes)
    if scenario.compute.engine != "auto" or not may_be_native:
        return
    if (why := missing()) is not None:
        yield f"compute.engine: torch computes; 'native' cannot be used here: {why}"


def _as_usual(scenario: Scenario) -> Iterator[str]:
    """Yield a note on the tensors that are not taken from the saved parameters of a start."""
    if scenario.start is None:
        return
    found = start_of(scenario, outline(scenario))
    assert found is not None
    if usual := {name: why for name, why in found.usual.items() if why != UNWANTED}:
        yield f"start: these start as usual: {usual_in_words(usual)}"


def path_of(path: tuple[str | int, ...]) -> str:
    """Return the dotted key of a path."""
    return ".".join(map(str, path))


def _late_attacks(scenario: Scenario) -> Iterator[str]:
    """Yield a note for every attack that begins when the run is over."""
    stop = scenario.stop
    for path, attack in named(scenario):
        is_time = isinstance(attack.from_, float)
        rounds = None if scenario.schedule.is_asynchronous else stop.rounds
        end = stop.virtual_time if is_time else rounds
        if end is not None and attack.from_ >= end:
            last = f"stop.{'virtual_time' if is_time else 'rounds'} = {end:g}"
            key = "at" if path[0] == "faults" else "from"
            yield f"without effect: {path_of(path)}; {key} = {attack.from_:g} is not before {last}"


def _late_faults(scenario: Scenario) -> Iterator[str]:
    """Yield a note for every fault that happens when the run is over."""
    end = scenario.stop.virtual_time
    for position, fault in enumerate(scenario.faults):
        if end is not None and fault.attacks is None and fault.at >= end:
            last = f"at = {fault.at:g} is not before stop.virtual_time = {end:g}"
            yield f"without effect: faults.{position}; {last}"


def _late_drifts(scenario: Scenario) -> Iterator[str]:
    """Yield a note for every drift that begins when the run is over."""
    sections = [make.environment for make in scenario.makes if make.environment]
    if not any(section.drift for section in sections) or (most := updates(scenario)) is None:
        return
    late = {
        name: drift.begins
        for section in sections
        for name, drift in section.drift.items()
        if drift.begins > most
    }
    for name, begins in late.items():
        why = f"it begins in update {begins}, and an agent makes at most {most}"
        yield f"without effect: environment.drift.{name}; {why}"


def updates(scenario: Scenario) -> int | None:
    """Return the most local updates that an agent makes in the run; None if that is not known."""
    rounds, work = scenario.stop.rounds, scenario.work.assign
    goes_on = scenario.standbys or scenario.evaluation.newcomers
    own = says_something(scenario, "personal")
    if scenario.schedule.is_asynchronous or rounds is None or work == "time" or goes_on or own:
        return None
    if work != "speed":
        return rounds * scenario.schedule.every
    return rounds * int(assigned(scenario, resources(scenario).speed).max())


def _alike(scenario: Scenario) -> Iterator[str]:
    """Yield a note for rules that tell agents apart by what all of them have alike."""
    mode, coordinator = MODES[scenario.mode], scenario.coordinator
    named: list[tuple[str, str]] = []
    if mode.mixes and (own := scenario.mixing.resource):
        named.append(("mixing.by", own))
    if mode.averages and (weight := coordinator.aggregator.capacity):
        named.append(("coordinator.aggregator.weights", weight))
    if mode.has_coordinator and (chosen := coordinator.participation.resource):
        named.append(("coordinator.participation.by", chosen))
    for key, name in named:
        if len({*resources(scenario, outline(scenario)).of(name)}) == 1:
            yield f"{key} tells no agents apart: {_ALIKE[name]}"


def _allocation(scenario: Scenario) -> Iterator[str]:
    """Yield notes on an allocation that changes nothing, and on options beside its utility."""
    section, mode = scenario.allocation, MODES[scenario.mode]
    keys = [name for name in options_of(Allocation) if name != "utility"]
    idle = keys if section.exponent is None else ["alpha"] * (section.utility != "alpha_fair")
    said = [key for name in idle if says_something(scenario, key := f"allocation.{name}")]
    if said:
        yield f"with allocation.utility = {section.utility!r} without effect: {', '.join(said)}"
    if section.exponent is None:
        return
    if isinstance(section.weights, Constant) and says_something(scenario, "allocation.weights"):
        yield "allocation.weights has no effect: all agents have the same"
    yield from (f"allocation.{key} has no effect: it holds no share" for key in unheld(scenario))
    if section.resource == "bandwidth" and not mode.exchanges:
        yield f"in mode {mode.name!r} without effect: allocation of bandwidth"
    if section.resource == "speed" and not scenario.compute.seconds_per_env_step:
        yield "allocation of speed changes no time: compute.seconds_per_env_step is 0"


def _work(scenario: Scenario) -> Iterator[str]:
    """Yield notes on an assignment of work that changes nothing, and on options beside it."""
    work = scenario.work
    if work.assign != "time":
        said = [f"work.{name}" for name in _differing(work, ("time", "most"))]
        if said:
            yield f"with work.assign = {work.assign!r} without effect: {', '.join(said)}"
    elif any(_differing(scenario.schedule, ("every",))):
        yield "with work.assign = 'time' without effect: schedule.every"
    if work.assign == "speed":
        updates = assigned(scenario, resources(scenario).speed)
        if len({*updates.tolist()}) == 1:
            fix = "set compute.speed, or schedule.every = 4 or more to share out"
            yield f"work.assign has no effect: all agents make {updates[0]:g} updates; {fix}"


_ALIKE = {
    "speed": "all have the same compute.speed",
    "bandwidth": "all have the same network.bandwidth",
    "energy": "all need the same joules for a round; set energy.per_step or energy.per_byte",
}


def _of_one_step(scenario: Scenario) -> Iterator[str]:
    """Yield a note if a correction that is zero in the first step of a round has no other."""
    steps = {make.learner.gradient_steps for make in scenario.makes}
    if scenario.schedule.every == 1 and steps == {1} and scenario.work.assign == "equal":
        yield (
            f"correction {kind_of('corrections', scenario.correction)!r} has no effect on the first gradient step of "
            "a round, and a round has only one: set schedule.every = 5, or more steps per update"
        )


def _of_episodes(scenario: Scenario) -> Iterator[str]:
    """Yield a note if a learner has steps per update although its updates are whole episodes."""
    for learner in dict.fromkeys(make.learner for make in scenario.makes):
        episodes, steps = getattr(learner, "episodes", None), getattr(learner, "steps", None)
        if episodes is not None and steps != getattr(construct(type(learner), {}), "steps", None):
            yield f"with learner.episodes = {episodes} without effect: learner.steps = {steps}"


def _wide(scenario: Scenario) -> Iterator[str]:
    """Yield a note for observations as large as images that go to dense layers."""
    makes = [make for make in scenario.makes if make.environment]
    sections = {make.environment.id: make.environment for make in makes if make.environment}
    encoded = [make.environment for make in makes if make.learner.encodes_images]
    for id, section in sections.items():
        yield from section.rule.remarks
        if getattr(section.rule, "is_real", False):
            yield "without effect in a run: environment.is_real; `validate` takes no steps in it"
        size = section.rule.spec.observation
        if size >= _WIDE and section not in encoded:
            yield (
                f"an observation of {id} has {size:,} numbers, and networks here are dense: every unit of the "
                "first layer has as many weights, and all of them travel; wrap the environment so that it "
                f"returns fewer, for example a small gray image{_ENCODED if section.rule.spec.image else ''}"
            )


def _differing(rule: object, names: Iterable[str]) -> Iterator[str]:
    """Yield those of the options of a rule that differ from their defaults."""
    known = options_of(type(rule))
    infos = type(rule).__pydantic_fields__  # type: ignore[attr-defined]
    for name in names:
        field = known[name].name
        if getattr(rule, field) != infos[field].get_default(call_default_factory=True):
            yield name


def _beside(scenario: Scenario) -> Iterator[str]:
    """Yield the options without effect beside others of the same rule."""
    learner, coordinator = scenario.learner, scenario.coordinator
    yield from (f"learner.{name}" for name in _differing(learner, learner.idle))
    if not coordinator.hosts and MODES[scenario.mode].has_coordinator:
        names = ("standby_wait", "fallback")
        yield from (f"coordinator.{name}" for name in _differing(coordinator, names))
    for part in parts(scenario):
        if part.axis in ("faults", "payloads"):  # these have no section of their own
            continue
        place, rule = ".".join(map(str, part.path)), part.rule
        yield from (f"{place}.{name}" for name in _differing(rule, rule.idle))
        inner = getattr(rule, "compressor", None)
        if isinstance(inner, Composable):
            yield from (f"{place}.compressor.{name}" for name in _differing(inner, inner.idle))


def _unread(scenario: Scenario) -> Iterator[str]:
    """Yield options of learner and aggregator that nothing reads in this scenario."""
    mode, learner, coordinator = MODES[scenario.mode], scenario.learner, scenario.coordinator
    if not mode.exchanges:
        yield from (f"learner.{name}" for name in _differing(learner, learner.of_mixing))
    elif PART not in (scenario.exchange.shared or (PART,)):
        # An exchange of named parts alone may leave the statistics of observations out.
        found = {"statistics"}.intersection(learner.of_mixing).difference(learner.idle)
        named = _differing(learner, found)
        yield from (f"learner.{name} (not in exchange.shared: {PART!r})" for name in named)
    read = {scenario.gate.offer, PAYLOADS[scenario.exchange.payload].offer}
    for offer, names in learner.of_offers.items():
        if offer not in read or not mode.exchanges:
            yield from (f"learner.{name}" for name in _differing(learner, names))
    if mode.averages and scenario.schedule.models(1, scenario.agents) >= scenario.agents > 1:
        several = coordinator.aggregator.of_several if scenario.schedule.is_asynchronous else ()
        said = ["coordinator.aggregator"] if "" in several else []
        options = _differing(coordinator.aggregator, filter(None, several))
        said += [f"coordinator.aggregator.{name}" for name in options]
        yield from (f"{key} (one update makes a model)" for key in said)


def _without_messages(scenario: Scenario) -> Iterator[str]:
    """Yield the keys of rules that matter in a mode, but not where no such message exists."""
    mode, schedule = MODES[scenario.mode], scenario.schedule
    said = set(_differing(schedule, options_of(type(schedule))))
    if not mode.exchanges:
        yield from (f"schedule.{name}" for name in sorted(said - {"every"}))
        if says_something(scenario, "energy.per_byte"):
            yield "energy.per_byte"
        if scenario.correction.has_need(Need.ONE_COORDINATOR):
            yield "correction"
        held = scenario.personal.held_by
        if held and not says_something(scenario, "correction"):
            for name in _differing(scenario.personal, [held]):
                yield f"personal.{name} (the shared model is the agent's own)"
    waits_for_none = mode.mixes and schedule.is_asynchronous and not scenario.mixing.is_pairwise
    if waits_for_none and scenario.network.peer_timeout is not None:
        yield "network.peer_timeout (nobody waits for a neighbor)"
    if not mode.has_coordinator and mode.exchanges:
        yield from (f"network.{name}" for name in _differing(scenario.network, _OF_COORDINATOR))
    if mode.pools and not schedule.is_asynchronous and "max_staleness" in said:
        yield "schedule.max_staleness"
    if (
        mode.has_coordinator
        and scenario.coordinator.at
        and not isinstance(scenario.network.latency, Edge)
    ):
        yield "coordinator.at (the latency is not that of the topology)"


def _links(scenario: Scenario) -> Iterator[str]:
    """Yield the single links that carry no message of the mode."""
    mode = MODES[scenario.mode]
    if not mode.exchanges:
        return
    for position, link in enumerate(scenario.network.links):
        is_of_coordinator = COORDINATOR in (link.from_, link.to)
        if mode.has_edges or is_of_coordinator == mode.mixes:
            yield f"network.links.{position}"


def _absent(scenario: Scenario) -> Iterator[str]:
    """Yield the faults of coordinators and links that the mode does not have."""
    there = scenario.coordinators
    for position, fault in enumerate(scenario.faults):
        if fault.is_of_links and not MODES[scenario.mode].exchanges:
            yield f"faults.{position}"
        if named := [str(name_of(id)) for id in fault.absent(there)]:
            yield f"faults.{position} of {', '.join(named)}"


def _mismatch(scenario: Scenario, option: str, value: float) -> Iterator[str]:
    """Yield a note if the coordinator's steps differ from those that the correction assumes."""
    optimizer = scenario.coordinator.server_optimizer
    if (got := getattr(optimizer, option, None)) != value:
        has = "no such option" if got is None else f"{got:g}"
        yield (
            f"correction {kind_of('corrections', scenario.correction)!r} assumes a server optimizer of {option} = "
            f"{value:g}; {kind_of('server_optimizers', optimizer)!r} has {has}"
        )


def says_something(scenario: Scenario, key: str) -> bool:
    """Return whether the value under a dotted key differs from its default."""
    section, *names = key.split(".")
    value = getattr(scenario, section)
    if section == "learner":  # it has no default
        return any(_differing(value, names))
    plain = _plain(section)
    for name in names:
        value, plain = getattr(value, name), getattr(plain, name)
    return bool(value != plain)


def without_effect(scenario: Scenario) -> str:
    """Return one line on sections that are set but have no effect over TCP.

    Empty if there are none.
    """
    sections = ("network", "compute", "allocation")
    said = [f"[{name}]" for name in sections if says_something(scenario, name)]
    if not said:
        return ""
    verb = "have" if len(said) > 1 else "has"
    return f"{' and '.join(said)} {verb} no effect over TCP: messages and training take real time"


@cache
def _plain(section: str) -> Any:
    """Return a section that the file does not name."""
    return slot_of(Scenario, section).read({})
