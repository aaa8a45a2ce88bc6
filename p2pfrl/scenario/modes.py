"""Modes of a run: how agents exchange, as the checks, notes and previews of a scenario see it.

A mode declares like a rule what it needs and what no rule can have in it. Its participants are made
in `build/modes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from p2pfrl.core.needs import Need, Needs, OneOf


@dataclass(frozen=True, slots=True)
class RuleKey:
    """The key of a rule in a scenario.

    Attributes:
        path: of its section.
        axis: the axis that the rule is one of.
        option: the option that names it: "kind", or "" where the section itself does.
    """

    path: tuple[str, ...]
    axis: str
    option: str = "kind"


RULES_OF_ALL = (
    RuleKey(("schedule",), "schedules"),
    RuleKey(("gate",), "gates"),
    RuleKey(("compressor",), "compressors"),
    RuleKey(("correction",), "corrections"),
    RuleKey(("personal",), "personal"),
    RuleKey(("privacy",), "privacy"),
    RuleKey(("secure",), "secure"),
)
"""Rules with a say in every mode."""

_RULES_OF_NEIGHBORS = (RuleKey(("topology",), "topologies"), RuleKey(("mixing",), "mixing"))
_RULES_OF_COORDINATOR = (
    RuleKey(("coordinator", "aggregator"), "aggregators", ""),
    RuleKey(("coordinator", "server_optimizer"), "server_optimizers", ""),
    RuleKey(("coordinator", "participation"), "participation", ""),
)
_NEEDS_OF_NEIGHBORS = (
    Need.EVERY_MESSAGE,
    Need.STATIC_GRAPH,
    Need.ORDER,
    Need.MASS,
    Need.MEMORY,
    Need.CHANGES,
    Need.LOSSLESS_LINKS,
)
_NEEDS_OF_COORDINATOR = (
    Need.ACKNOWLEDGMENTS,
    Need.MEMORY,
    Need.CHANGES,
    Need.EVERY_ANSWER,
    Need.PLAIN_MEAN,
    Need.TARGET,
    Need.LAST_PAYLOADS,
    Need.PROGRESS,
    Need.LOSSLESS_LINKS,
)
_NEEDS_OF_EXCHANGES = {*_NEEDS_OF_NEIGHBORS, *_NEEDS_OF_COORDINATOR}

_GRAPH = ("topology", "mixing")
_STEP = ("coordinator.aggregator", "coordinator.server_optimizer")
_AVERAGING = ("exchange.payload", "exchange.shared", "exchange.order", "compressor", "gate")


class Mode:
    """One mode.

    Attributes:
        name: in scenario files.
        mixes: agents mix with their neighbors on the topology.
        has_coordinator: there is one, and agents talk to it alone; or to the edge they belong to.
        has_edges: there are coordinators between agents and coordinator.
        pools: agents upload transitions, and the coordinator learns.
        takes_standbys: others can take over from its coordinator.
        rules: rules with a say in it, beside those of all modes.
        exchange_needs: needs of exchanges that can be broken in it; other exchanges do not happen.
        idle: dotted keys without effect.
        needs: what it needs of the rules.
        breaks: (need, reason) of what no rule can have in it.
    """

    name: ClassVar[str]
    mixes: ClassVar[bool] = False
    has_coordinator: ClassVar[bool] = False
    has_edges: ClassVar[bool] = False
    pools: ClassVar[bool] = False
    takes_standbys: ClassVar[bool] = False
    rules: ClassVar[tuple[RuleKey, ...]] = ()
    exchange_needs: ClassVar[tuple[Need, ...]] = ()
    idle: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[Needs] = ()
    breaks: ClassVar[tuple[tuple[Need, str], ...]] = ()

    @property
    def averages(self) -> bool:
        """A coordinator averages what agents send."""
        return self.has_coordinator and not self.pools

    @property
    def exchanges(self) -> bool:
        """Agents send something."""
        return self.mixes or self.has_coordinator

    def can_break(self, need: Need) -> bool:
        """Return whether something in this mode can break the need of a rule."""
        return need in self.exchange_needs or need not in _NEEDS_OF_EXCHANGES


class Gossip(Mode):
    """Agents average with their neighbors on the topology."""

    name: ClassVar[str] = "gossip"
    mixes: ClassVar[bool] = True
    rules: ClassVar[tuple[RuleKey, ...]] = _RULES_OF_NEIGHBORS
    exchange_needs: ClassVar[tuple[Need, ...]] = _NEEDS_OF_NEIGHBORS
    idle: ClassVar[tuple[str, ...]] = ("coordinator", "hierarchy")
    breaks: ClassVar[tuple[tuple[Need, str], ...]] = (
        (Need.COORDINATOR, "has none; use it in mode central"),
        (Need.ONE_COORDINATOR, "has no such one"),
    )


class Central(Mode):
    """A coordinator averages what agents send."""

    name: ClassVar[str] = "central"
    has_coordinator: ClassVar[bool] = True
    takes_standbys: ClassVar[bool] = True
    rules: ClassVar[tuple[RuleKey, ...]] = _RULES_OF_COORDINATOR
    exchange_needs: ClassVar[tuple[Need, ...]] = _NEEDS_OF_COORDINATOR
    idle: ClassVar[tuple[str, ...]] = (*_GRAPH, "hierarchy")
    breaks: ClassVar[tuple[tuple[Need, str], ...]] = ((Need.NEIGHBORS, "has one; leave it out"),)


class Hierarchical(Mode):
    """Edge coordinators average what their agents send, and a coordinator averages the edges."""

    name: ClassVar[str] = "hierarchical"
    has_coordinator: ClassVar[bool] = True
    has_edges: ClassVar[bool] = True
    rules: ClassVar[tuple[RuleKey, ...]] = _RULES_OF_COORDINATOR
    exchange_needs: ClassVar[tuple[Need, ...]] = _NEEDS_OF_COORDINATOR
    idle: ClassVar[tuple[str, ...]] = _GRAPH
    needs: ClassVar[Needs] = (
        Need.ROUNDS,
        OneOf("exchange.payload", ("parameters", "delta"), "edges average models"),
    )
    breaks: ClassVar[tuple[tuple[Need, str], ...]] = (
        (Need.NEIGHBORS, "has one; leave it out"),
        (Need.ONE_COORDINATOR, "has no such one"),
    )


class Independent(Mode):
    """Every agent learns alone."""

    name: ClassVar[str] = "independent"
    idle: ClassVar[tuple[str, ...]] = (
        *_GRAPH,
        "coordinator",
        "hierarchy",
        *_AVERAGING,
        "privacy",
        "secure",
        "network",
    )
    breaks: ClassVar[tuple[tuple[Need, str], ...]] = (
        (Need.COORDINATOR, "has none; use it in mode central"),
    )


class Pooled(Mode):
    """Agents upload transitions, and one learner trains on all of them."""

    name: ClassVar[str] = "pooled"
    has_coordinator: ClassVar[bool] = True
    pools: ClassVar[bool] = True
    exchange_needs: ClassVar[tuple[Need, ...]] = (Need.LOSSLESS_LINKS,)
    idle: ClassVar[tuple[str, ...]] = (
        *_GRAPH,
        "hierarchy",
        *_AVERAGING,
        "correction",
        *_STEP,
        "learner.moments",
    )


MODES: dict[str, Mode] = {
    mode.name: mode for mode in (Gossip(), Central(), Hierarchical(), Independent(), Pooled())
}
