"""Which rules cannot be together because one needs to be told what the other does not say."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.catalog import kind_of
from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario.sections import COORDINATED, Scenario

Problem = tuple[tuple[str | int, ...], str]
_OF_RETURNS = ("return", "variance")


def telling(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    """Yield what a learner lacks, a gate is not told, and what an aggregator that makes whole models cannot stand."""
    gate, needed, payload = scenario.gate, stack.only_payload, scenario.exchange.payload
    if needed is not None and (payload != needed or scenario.mode not in PAYLOADS[needed].modes):
        learner, modes = (
            kind_of("learners", scenario.learner),
            " or ".join(map(repr, PAYLOADS[needed].modes)),
        )
        reason = f"learner {learner!r} learns from what becomes of its {needed!r}: use that payload, in mode {modes}"
        yield ("exchange", "payload"), reason
    if gate.tells is not None:
        try:
            stack.told(gate.tells)
        except ScenarioError:
            name, learner = kind_of("gates", gate), kind_of("learners", scenario.learner)
            yield (
                ("gate",),
                f"{name!r} opens when the learner says so, and {learner!r} never does: use another gate",
            )
    if not stack.gives_returns:
        yield from _returns(scenario)
    if scenario.mode == "central":
        yield from _aggregator(scenario)
    if scenario.mode in COORDINATED and not scenario.coordinator.aggregator.goes_on:
        yield from _silence(scenario)
    told = PAYLOADS[payload]
    if not told.is_of_parameters and told.is_averaged and scenario.mode in told.modes:
        yield from _chances(scenario, payload)


def _returns(scenario: Scenario) -> Iterator[Problem]:
    """Refuse what asks for returns where no episode ends: it would do nothing, and say nothing."""
    reason = (
        f"asks for returns, and learner {kind_of('learners', scenario.learner)!r} plays no episodes"
    )
    if scenario.gate.needs_returns:
        yield (
            ("gate", "kind"),
            f"{kind_of('gates', scenario.gate)!r} {reason}: it would never open again",
        )
    if scenario.mode not in COORDINATED:
        return
    coordinator = scenario.coordinator
    if coordinator.aggregator.score in _OF_RETURNS:
        yield (
            ("coordinator", "aggregator"),
            f"{kind_of('aggregators', coordinator.aggregator)!r} {reason}",
        )
    if coordinator.participation.score in _OF_RETURNS:
        fix = ": rank by 'loss'"
        yield (
            ("coordinator", "participation"),
            f"{kind_of('participation', coordinator.participation)!r} {reason}{fix}",
        )


def _silence(scenario: Scenario) -> Iterator[Problem]:
    """Refuse what is silent where nothing has changed, beside a mean of those that spoke."""
    silent = {"gates": scenario.gate, "participation": scenario.coordinator.participation}
    for axis, rule in silent.items():
        if rule.means_unchanged:
            name = f"{axis.removesuffix('s')} {kind_of(axis, rule)!r}"
            aggregator = kind_of("aggregators", scenario.coordinator.aggregator)
            reason = f"{name} keeps agents silent whose last payload still holds, and {aggregator!r} goes on without it"
            yield ("coordinator", "aggregator"), f"{reason}: use kind = 'latest', reduce = 'sum'"


def _chances(scenario: Scenario, payload: str) -> Iterator[Problem]:
    optimizer = kind_of("server_optimizers", scenario.coordinator.server_optimizer)
    if scenario.mode == "central" and optimizer != "replace":
        reason = f"a mixture of {payload!r} is no point that {optimizer!r} could step toward: use kind = 'replace'"
        yield ("coordinator", "server_optimizer"), reason
    if scenario.compressor.is_sparse or scenario.compressor.is_difference:
        compressor = kind_of("compressors", scenario.compressor)
        yield (
            ("compressor",),
            f"{compressor!r} would make {payload!r} that are no chances: use 'quantize' or 'none'",
        )


def _aggregator(scenario: Scenario) -> Iterator[Problem]:
    aggregator = scenario.coordinator.aggregator
    name = kind_of("aggregators", aggregator)
    if aggregator.needs_barrier and scenario.schedule.is_asynchronous:
        yield (
            ("schedule", "kind"),
            f"{name!r} needs what all agents say of one model: use kind = 'synchronous'",
        )
    if aggregator.needs_barrier and scenario.schedule.ends_early:
        yield (
            ("schedule", "quorum"),
            f"{name!r} needs what all agents say of one model, stragglers speak of others: use 1",
        )
    if not aggregator.is_model:
        return
    optimizer = kind_of("server_optimizers", scenario.coordinator.server_optimizer)
    if optimizer != "replace":
        reason = f"{name!r} makes the next model as it is, which {optimizer!r} would change: use kind = 'replace'"
        yield ("coordinator", "server_optimizer"), reason
    correction = kind_of("corrections", scenario.correction)
    if correction != "none":
        yield (
            ("correction",),
            f"{name!r} makes the next model as it is, which {correction!r} would bend: leave it out",
        )
    if not scenario.compressor.is_exact:
        compressor = kind_of("compressors", scenario.compressor)
        yield (
            ("compressor",),
            f"{name!r} divides sums by counts, which {compressor!r} would garble: use kind = 'none'",
        )
