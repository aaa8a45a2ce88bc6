"""Which rules of different axes cannot be together, with the reason. Rules say of themselves what they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.mixing import Mixing
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario.checks.everyone import everyone
from p2pfrl.scenario.checks.protocols import protocols
from p2pfrl.scenario.checks.telling import telling
from p2pfrl.scenario.sections import COORDINATED, Scenario
from p2pfrl.scenario.traffic import shared_parts

Path = tuple[str | int, ...]
Problem = tuple[Path, str]

_LOSES_STATE = ("crash", "restart", "leave", "join")
_LOSES_MESSAGES = (
    *_LOSES_STATE,
    "partition",
    "loss",
    "straggle",
    "delay",
    "burst_loss",
    "duplicate",
    "reorder",
)


def compositions(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    """Yield every combination that means nothing, as (path of the key, reason); `stack` is the bound learner."""
    if scenario.exchange.payload not in PAYLOADS:
        return
    yield from protocols(scenario)
    for look in CHECKS:
        yield from look(scenario, stack)


def _payload(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    name, payload = scenario.exchange.payload, PAYLOADS[scenario.exchange.payload]
    path = ("exchange", "payload")
    if scenario.mode not in (*payload.modes, "independent", "pooled"):
        yield path, f"{name!r} has no meaning in mode {scenario.mode}: {payload.why}"
        return
    if payload.needs_gradient and scenario.mode in payload.modes:
        if not stack.gives_gradients:
            yield (
                path,
                f"learner {_learner(scenario)} gives no gradients: {name!r} needs one that takes gradient steps",
            )
        if scenario.schedule.every != 1:
            yield (
                ("schedule", "every"),
                f"must be 1 with payload {name!r}: a gradient is that of one local update",
            )
        if scenario.learner.moments == "average":
            yield (
                ("learner", "moments"),
                f"with payload {name!r} the learner has no moments: the coordinator steps",
            )
    if not payload.is_averaged and scenario.mode == "gossip" and scenario.mixing.is_stateful:
        yield (
            path,
            f"{name!r} is not averaged, so mixing {_mixing_name(scenario)!r} has nothing to do",
        )
    if payload.tells is not None and scenario.mode in payload.modes:
        yield from _told(scenario, stack, payload.tells)
    if scenario.mode in payload.modes and not payload.is_of_parameters:
        yield from _beside(scenario)


def _beside(scenario: Scenario) -> Iterator[Problem]:
    """Refuse what works on parameters that travel, where none do."""
    name = repr(scenario.exchange.payload)
    if scenario.exchange.shared is not None:
        yield ("exchange", "shared"), f"with payload {name} no parameters travel: leave it out"
    if scenario.exchange.order != "adapt_then_combine":
        yield ("exchange", "order"), f"with payload {name} no parameters are combined: leave it out"
    if scenario.learner.moments != "keep":
        yield (
            ("learner", "moments"),
            f"with payload {name} no parameters are mixed, and moments fit as they are: keep",
        )
    if scenario.mode == "gossip" and scenario.mixing.is_stateful:
        yield (
            ("mixing", "kind"),
            f"{_mixing_name(scenario)!r} steers parameters, and with payload {name} none travel",
        )
    if scenario.correction.needs_rate or scenario.correction.extras:
        kind = kind_of("corrections", scenario.correction)
        yield (
            ("correction",),
            f"{kind!r} learns from how parameters are mixed, and with payload {name} none travel",
        )
    is_raw = PAYLOADS[scenario.exchange.payload].reveals_experience
    if is_raw and not scenario.compressor.is_exact:
        yield (
            ("compressor",),
            f"would garble actions and ends of episodes in payload {name}: use kind = 'none'",
        )


def _told(scenario: Scenario, stack: Stack, name: str) -> Iterator[Problem]:
    from p2pfrl.core.errors import ScenarioError

    try:
        stack.told(name)
    except ScenarioError as error:
        for line in error.problems:
            yield ("exchange", "payload"), line.removeprefix("exchange.payload: ")


def _correction(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    correction, path = scenario.correction, ("correction",)
    name = kind_of("corrections", correction)
    if scenario.mode not in (*correction.modes, "independent", "pooled"):
        yield (
            path,
            f"{name!r} means something in mode {' or '.join(correction.modes)}, not in {scenario.mode}",
        )
        return
    if correction.bends and not stack.takes_corrections:
        yield (
            path,
            f"learner {_learner(scenario)} takes no gradient steps that {name!r} could correct",
        )
        return
    if correction.guided_by is not None and not stack.takes_guides:
        yield (
            path,
            f"learner {_learner(scenario)} has no policy that {name!r} could guide: use ppo, a2c or reinforce",
        )
    if correction.needs_rate and not stack.rate:
        fix = (
            'learner.optimizer = "sgd" and learner.max_grad_norm = 0'
            if hasattr(scenario.learner, "optimizer")
            else ""
        )
        hint = f": set {fix}" if fix else ""
        yield (
            path,
            f"{name!r} divides by learning rate times steps, so it needs plain gradient descent{hint}",
        )
    if correction.payloads is not None and scenario.exchange.payload not in correction.payloads:
        known = " or ".join(map(repr, correction.payloads))
        reason = f"what comes back holds what correction {name!r} did to the start: send {known}"
        yield ("exchange", "payload"), reason
    if correction.extras and not scenario.compressor.is_exact:
        yield (
            ("compressor",),
            f"would garble what correction {name!r} sends beside the payload: use kind = 'none'",
        )
    if correction.needs_everyone and scenario.mode in COORDINATED:
        yield from everyone(scenario, name)
    if correction.extras:
        for position, fault in enumerate(scenario.faults):
            if (kind := kind_of("faults", fault)) in _LOSES_STATE and scenario.mode in COORDINATED:
                yield (
                    ("faults", position),
                    f"{kind!r} loses what {name!r} of that agent holds, and the sum would be wrong",
                )


def _mixing_alone(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    if scenario.mode != "gossip":
        return
    mixing: Mixing = scenario.mixing
    name = _mixing_name(scenario)
    if scenario.exchange.order == "combine_while_adapting" and not mixing.is_ordered:
        yield (
            ("exchange", "order"),
            f"mixing {name!r} says itself when it combines: leave the order out",
        )
    if mixing.is_pairwise is not scenario.schedule.is_asynchronous and mixing.is_pairwise:
        yield (
            ("schedule", "kind"),
            f"mixing {name!r} knows no rounds: use kind = 'asynchronous'; or topology 'matchings'",
        )
    if mixing.needs_every_message and scenario.schedule.is_asynchronous:
        yield (
            ("schedule", "kind"),
            f"mixing {name!r} needs every message in its round: use kind = 'synchronous'",
        )
    if mixing.needs_every_message or scenario.compressor.is_difference:
        yield from _lossless(
            scenario,
            name if mixing.needs_every_message else kind_of("compressors", scenario.compressor),
        )
    if mixing.is_static_only and scenario.topology.period(scenario.agents) != 1:
        kind = kind_of("topologies", scenario.topology)
        yield (
            ("topology", "kind"),
            f"mixing {name!r} needs one graph for all rounds, and {kind!r} changes",
        )
    if (
        mixing.counts_in_full
        and scenario.schedule.is_asynchronous
        and scenario.schedule.staleness.factor(1) != 1.0
    ):
        reason = f"mixing {name!r} counts sums, which are whole whatever their age: use kind = 'constant'"
        yield ("schedule", "staleness"), reason
    if mixing.is_stateful and scenario.learner.moments == "average":
        reason = f"mixing {name!r} steps past averages, and second moments must not become negative: 'keep' or 'reset'"
        yield ("learner", "moments"), reason
    if mixing.is_stateful:
        for position, fault in enumerate(scenario.faults):
            if (kind := kind_of("faults", fault)) in _LOSES_STATE:
                yield (
                    ("faults", position),
                    f"mixing {name!r} remembers more than the parameters, which {kind!r} loses",
                )


def _lossless(scenario: Scenario, name: str) -> Iterator[Problem]:
    reason = f"{name!r} needs every message: what one misses is never made good"
    if getattr(scenario.network.loss, "probability", 1.0):
        yield ("network", "loss"), f"{reason}; set it to 0"
    if scenario.availability.dropout or scenario.availability.trace:
        yield ("availability",), f"{reason}; everyone must be there"
    for position, fault in enumerate(scenario.faults):
        if kind_of("faults", fault) in _LOSES_MESSAGES:
            yield ("faults", position), f"{reason}; take out this fault"
    if scenario.gate.closes:
        yield ("gate",), f"{reason}; a closed gate holds messages back"


def _gate(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    if scenario.mode == "independent" or getattr(scenario.gate, "max_silence", True):
        return
    path, name = ("gate", "max_silence"), kind_of("gates", scenario.gate)
    if getattr(scenario.network.loss, "probability", 1.0):
        yield (
            path,
            f"gate {name!r} takes a lost message for one that was heard: set it, so that one comes now and then",
        )
    has_end = scenario.stop.virtual_time is not None
    if scenario.mode in COORDINATED and scenario.schedule.is_asynchronous and not has_end:
        yield (
            path,
            f"gate {name!r} may fall silent everywhere, and no update would ever come: set it, or virtual_time",
        )


def _compressor(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    compressor, mixing = scenario.compressor, scenario.mixing
    name = kind_of("compressors", compressor)
    if scenario.mode == "gossip":
        if (mixing.is_per_neighbor or mixing.is_pairwise) and not compressor.is_exact:
            reason = f"would not keep the sums that mixing {_mixing_name(scenario)!r} counts on: use kind = 'none'"
            yield ("compressor",), reason
        if mixing.needs_difference and not compressor.is_difference:
            reason = f"mixing {_mixing_name(scenario)!r} needs receivers that remember: use kind = 'difference'"
            yield ("compressor", "kind"), reason
        if compressor.is_difference and scenario.topology.period(scenario.agents) != 1:
            kind = kind_of("topologies", scenario.topology)
            reason = f"{name!r} needs the same neighbors in all rounds to remember each other, and {kind!r} changes"
            yield ("topology", "kind"), reason
    if compressor.is_difference and scenario.mode in COORDINATED:
        yield ("compressor",), f"{name!r} is for neighbors that remember each other, in mode gossip"
    if compressor.is_difference and scenario.schedule.is_asynchronous and scenario.mode == "gossip":
        reason = f"{name!r} needs every message, and of several that wait an asynchronous agent mixes only the newest"
        yield ("compressor",), reason
    takes_part = scenario.mode == "gossip" or scenario.mode in COORDINATED
    if (
        takes_part
        and compressor.is_sparse
        and not compressor.is_difference
        and scenario.exchange.payload == "parameters"
    ):
        reason = (
            f"{name!r} lets too little of the parameters through: send what changed (mode gossip: kind = 'difference' "
            "around it; mode central: payload = 'delta' and kind = 'error_feedback' around it)"
        )
        yield ("compressor",), reason


def _pooled(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    if scenario.mode != "pooled":
        return
    if type(stack).collect is Stack.collect:
        yield (
            ("mode",),
            f"learner {_learner(scenario)} cannot learn from the transitions of others: not in mode pooled",
        )
    for option, value in stack.pooled.items():
        if (told := getattr(scenario.learner, option)) != value:
            yield ("learner", option), f"must be {value} in mode pooled, got {told}"


def _coordinator(scenario: Scenario, stack: Stack) -> Iterator[Problem]:
    if scenario.mode not in COORDINATED:
        return
    aggregator, participation = scenario.coordinator.aggregator, scenario.coordinator.participation
    if wrong := participation.misfit(scenario.agents):
        yield ("coordinator", "participation"), wrong
    shared = shared_parts(scenario, stack)
    if wrong := aggregator.misfit(
        {t.name: t.shape for t in stack.layout.tensors if t.part in shared}
    ):
        yield ("coordinator", "aggregator"), f"{kind_of('aggregators', aggregator)!r} {wrong}"
    if aggregator.score and participation.score and aggregator.score != participation.score:
        reason = (
            f"ranks agents by {participation.score}, the aggregator by {aggregator.score}: "
            "a message tells only one"
        )
        yield ("coordinator", "participation"), reason
    payload = PAYLOADS[scenario.exchange.payload]
    optimizer = scenario.coordinator.server_optimizer
    if payload.needs_gradient and optimizer.goes_to_target:
        kind = kind_of("server_optimizers", optimizer)
        reason = f"{kind!r} would take the raw gradient for the whole way: use 'sgd', 'adam' or 'normalized_momentum'"
        yield ("coordinator", "server_optimizer"), reason
    if aggregator.payloads is not None and scenario.exchange.payload not in aggregator.payloads:
        known = " or ".join(map(repr, aggregator.payloads))
        reason = f"{kind_of('aggregators', aggregator)!r} reads payload {known}; got {scenario.exchange.payload!r}"
        yield ("coordinator", "aggregator"), reason
    if getattr(aggregator, "reduce", "mean") == "sum" and scenario.exchange.payload == "parameters":
        reason = (
            "a sum of parameters is no model: use reduce = 'mean', or payload 'gradient' or 'delta'"
        )
        yield ("coordinator", "aggregator"), reason
    if payload.aggregators is not None:
        name = kind_of("aggregators", aggregator)
        if name not in payload.aggregators:
            known = " or ".join(map(repr, payload.aggregators))
            reason = (
                f"payload {scenario.exchange.payload!r} is read by {known}; "
                f"{name!r} would average its numbers blindly"
            )
            yield ("coordinator", "aggregator"), reason


def forgotten(scenario: Scenario) -> str | None:
    """Return what an agent of this scenario remembers that its checkpoint does not hold, in words; None: nothing."""
    if scenario.mode == "gossip" and scenario.mixing.is_stateful:
        return f"mixing {_mixing_name(scenario)!r}"
    if scenario.compressor.is_difference:
        return f"compressor {kind_of('compressors', scenario.compressor)!r}"
    return None


def _learner(scenario: Scenario) -> str:
    return repr(kind_of("learners", scenario.learner))


def _mixing_name(scenario: Scenario) -> str:
    return kind_of("mixing", scenario.mixing)


CHECKS: tuple[Callable[[Scenario, Stack], Iterator[Problem]], ...] = (
    _payload,
    _correction,
    _mixing_alone,
    _gate,
    _compressor,
    _pooled,
    _coordinator,
    telling,
)
