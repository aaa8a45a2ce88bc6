"""The catalog of axes: name -> table of rules, imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache, partial

from p2pfrl.core.docs import reference, summary
from p2pfrl.core.options import Rule

TABLES = {
    "environments": "p2pfrl.learning.environments:RULES",
    "learners": "p2pfrl.learning.learners:RULES",
    "corrections": "p2pfrl.learning.corrections:RULES",
    "personal": "p2pfrl.learning.personal:RULES",
    "payloads": "p2pfrl.exchange.payloads:RULES",
    "gates": "p2pfrl.exchange.gates:RULES",
    "compressors": "p2pfrl.exchange.compressors:RULES",
    "privacy": "p2pfrl.exchange.privacy:RULES",
    "attacks": "p2pfrl.exchange.attacks:RULES",
    "topologies": "p2pfrl.consensus.topologies:RULES",
    "mixing": "p2pfrl.consensus.mixing:RULES",
    "aggregators": "p2pfrl.consensus.aggregators:RULES",
    "server_optimizers": "p2pfrl.consensus.server_optimizers:RULES",
    "participation": "p2pfrl.consensus.participation:RULES",
    "schedules": "p2pfrl.consensus.schedules:RULES",
    "faults": "p2pfrl.simulator.faults:RULES",
    "distributions": "p2pfrl.core.distributions:RULES",
}


@cache
def table(axis: str) -> Mapping[str, type]:
    """Return the rules of `axis`: name in scenario files -> class."""
    module, _, name = TABLES[axis].partition(":")
    rules: Mapping[str, type] = getattr(importlib.import_module(module), name)
    return rules


def kind_of(axis: str, rule: object) -> str:
    """Return a rule's name in scenario files; for a user's own rule, its class path."""
    for kind, cls in table(axis).items():
        if type(rule) is cls:
            return kind
    return f"{type(rule).__module__}.{type(rule).__qualname__}"


def choose(axis: str, default: str | None = None) -> Rule:
    """Return the annotation of a field that holds a rule of `axis`."""
    return Rule(axis, partial(table, axis), default)


def entries(axis: str) -> list[dict[str, str]]:
    """Return name, summary and reference of every rule of `axis`."""
    return [
        {"name": name, "summary": summary(cls), "reference": reference(cls)}
        for name, cls in table(axis).items()
    ]
