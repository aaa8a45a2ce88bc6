"""Needs of rules, checked by one loop with messages `{where}: {rule} needs {need}: {fix}`."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.catalog import kind_of
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.needs import By, Need, Needs, OneOf
from p2pfrl.core.wording import show
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario.checks.facts import Facts, Part, Path, Problem, facts, parts
from p2pfrl.scenario.checks.trust import counted
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario
from p2pfrl.scenario.traffic import shared_parts

_KINDS = {"coordinator.aggregator": "aggregators", "gate": "gates"}
"""Keys of rules that `OneOf` names by kind -> axis."""


def unmet(scenario: Scenario, stack: Stack | None) -> Iterator[Problem]:
    """Yield every need that is not met, as (path of the key, reason).

    Args:
        scenario: the rules.
        stack: the bound learner; without it needs of learners are not checked.
    """
    if scenario.exchange.payload not in PAYLOADS:
        return
    known = facts(scenario, stack)
    for part in parts(scenario):
        needs = (*part.rule.implied, *part.rule.needs)
        yield from _refuse(scenario, known, part.place(), part.label, needs, part)
    for path, label, needs in _options(scenario):
        yield from _refuse(scenario, known, path, label, needs)
    yield from _payload(scenario)
    if stack is not None:
        for look in (_modes, _offers, _sizes):
            yield from look(scenario, stack)


def _refuse(
    scenario: Scenario,
    known: Facts,
    where: Path,
    label: str,
    needs: Needs,
    part: Part | None = None,
) -> Iterator[Problem]:
    """Yield the problem of each of `needs` that is not met."""
    for one in needs:
        if isinstance(one, OneOf):
            yield from _choice(scenario, label, one)
            continue
        need, place, name = (one, where, label) if isinstance(one, Need) else _of_option(one, part)
        for broken in known.get(need, ()):
            yield broken.where or place, f"{name} needs {need.value}: {broken.why}"


def _of_option(one: By, part: Part | None) -> tuple[Need, Path, str]:
    """Return the need of an option, its place, and its name in messages."""
    assert part is not None, "only rules have options"
    value = show(getattr(part.rule, one.option))
    return one.need, part.place(one.option), f"{part.label} with {one.option} = {value}"


def _choice(scenario: Scenario, label: str, one: OneOf) -> Iterator[Problem]:
    """Yield a problem if another key has none of the values that a rule accepts."""
    path = tuple(one.key.split("."))
    value: object = scenario
    for name in path:
        value = getattr(value, name)
    if one.key in _KINDS:
        if not MODES[scenario.mode].averages:
            return
        value = kind_of(_KINDS[one.key], value)
    if value not in one.values:
        known = " or ".join(map(repr, one.values))
        yield path, f"{label} needs {one.key} {known}, because {one.why}; got {show(value)}"


def _options(scenario: Scenario) -> Iterator[tuple[Path, str, Needs]]:
    """Yield the needs of options outside of rules, as (path of the key, name, needs)."""
    exchange, moments = scenario.exchange, scenario.learner.moments
    mode = MODES[scenario.mode]
    if exchange.order != "adapt_then_combine":
        path, label = ("exchange", "order"), f"exchange.order {exchange.order!r}"
        rounds = (Need.ROUNDS,) if mode.mixes else ()
        yield path, label, (Need.NEIGHBORS, Need.ORDER, Need.PARAMETERS, *rounds)
    if exchange.shared is not None:
        yield ("exchange", "shared"), "exchange.shared", (Need.PARAMETERS,)
    if moments != "keep":
        # A mean of second moments is positive. What steps beyond the mean may be negative, and the
        # mean has the step count of each agent only where all agents answer together.
        of_mean = (Need.BARRIER, Need.TARGET, Need.EXACT_MESSAGES, Need.CLEAR)
        mean = of_mean if moments == "average" else ()
        yield ("learner", "moments"), f"learner.moments {moments!r}", (Need.PARAMETERS, *mean)
    if mode.needs:
        yield ("mode",), f"mode {mode.name!r}", mode.needs


def _payload(scenario: Scenario) -> Iterator[Problem]:
    """Yield a problem if the payload is not defined in this mode."""
    name, payload = scenario.exchange.payload, PAYLOADS[scenario.exchange.payload]
    mode = MODES[scenario.mode]
    if "exchange.payload" not in mode.idle and not payload.is_for(mode.name):
        reason = f"{name!r} has no meaning in mode {mode.name}: {payload.why}"
        yield ("exchange", "payload"), reason


def _modes(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    """Yield a problem if the learner learns nothing from this payload or in this mode."""
    name, learner = scenario.exchange.payload, kind_of("learners", scenario.learner)
    needed = stack.traits.only_payload
    if needed is not None and (name != needed or not PAYLOADS[needed].is_for(scenario.mode)):
        modes = " or ".join(map(repr, PAYLOADS[needed].modes or MODES))
        reason = f"learner {learner!r} learns from the aggregate of its {needed!r}: use this payload, in mode {modes}"
        yield ("exchange", "payload"), reason
    if not MODES[scenario.mode].pools:
        return
    if stack.pooled is None:
        reason = (
            f"learner {learner!r} cannot learn from the transitions of others: not in mode pooled"
        )
        yield ("mode",), reason
        return
    for option, value in stack.pooled.pooled_options.items():
        if (got := getattr(scenario.learner, option)) != value:
            yield ("learner", option), f"must be {value} in mode pooled, got {got}"


def _offers(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    """Yield a problem if the learner lacks the vector that a payload sends or a gate reads."""
    payload, offer = PAYLOADS[scenario.exchange.payload], scenario.gate.offer
    if payload.offer is not None and payload.is_for(scenario.mode):
        for line in _missing(stack, payload.offer):
            yield ("exchange", "payload"), line.removeprefix("exchange.payload: ")
    if offer is not None and _missing(stack, offer):
        gate, learner = kind_of("gates", scenario.gate), kind_of("learners", scenario.learner)
        reason = (
            f"{gate!r} opens on a signal of the learner, and {learner!r} has none: use another gate"
        )
        yield ("gate",), reason


def _missing(stack: Stack, name: str) -> tuple[str, ...]:
    """Return why the learner offers no vector of this name; empty if it does."""
    try:
        stack.exchange.offer_size(name)
    except ScenarioError as error:
        return tuple(error.problems)
    return ()


def _sizes(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    """Yield problems of a coordinator's rules with the number of agents and the shared tensors."""
    if not MODES[scenario.mode].averages:
        return
    aggregator, participation = scenario.coordinator.aggregator, scenario.coordinator.participation
    if wrong := participation.misfit(scenario.agents):
        yield ("coordinator", "participation"), wrong
    shared = shared_parts(scenario, stack)
    if aggregator.imitates:
        kind, learner = kind_of("aggregators", aggregator), kind_of("learners", scenario.learner)
        width = sum(tensor.size for tensor in stack.layout.tensors if tensor.part in shared)
        if stack.imitation is None:
            reason = (
                f"{kind!r} needs networks of policies with discrete actions, in environments of p2pfrl: learner "
                f"{learner!r} has none here; use ppo, a2c or reinforce, or payload 'logits'"
            )
            yield ("coordinator", "aggregator"), reason
        elif width != stack.imitation.size:
            reason = f"{kind!r} needs whole networks: leave this key out"
            yield ("exchange", "shared"), reason
    optimizer = scenario.coordinator.server_optimizer
    if optimizer.plays and set(shared) != set(stack.layout.parts):
        reason = (
            f"{kind_of('server_optimizers', optimizer)!r} needs whole networks: leave this key out"
        )
        yield ("exchange", "shared"), reason
    if short := aggregator.shortage(counted(scenario)):
        name = kind_of("aggregators", aggregator)
        yield ("coordinator", "aggregator", "byzantine"), f"{name!r} {short}"
    trusted: int | None = getattr(aggregator, "trusted", None)
    if trusted is not None and trusted >= scenario.agents:
        reason = f"there is no agent {trusted}: agents are 0 to {scenario.agents - 1}"
        yield ("coordinator", "aggregator", "trusted"), reason
    tensors = {t.name: t.shape for t in stack.layout.tensors if t.part in shared}
    if wrong := aggregator.misfit(tensors):
        yield ("coordinator", "aggregator"), f"{kind_of('aggregators', aggregator)!r} {wrong}"


def require(scenario: Scenario, stack: Stack) -> None:
    """Raise an error if a need is not met. It also checks rules that come from Python.

    Raises:
        ScenarioError: with every such need.
    """
    problems = [f"{'.'.join(map(str, path))}: {reason}" for path, reason in unmet(scenario, stack)]
    if problems:
        raise ScenarioError(problems)
