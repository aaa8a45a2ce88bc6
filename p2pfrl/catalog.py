"""The catalog of axes: name -> table of rules, imported on first use."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from p2pfrl.core.members import Members
from p2pfrl.core.modules import place_of

TABLES = {
    "environments": "p2pfrl.learning.environments:RULES",
    "drifts": "p2pfrl.learning.drifts:RULES",
    "learners": "p2pfrl.learning.learners:RULES",
    "corrections": "p2pfrl.learning.corrections:RULES",
    "personal": "p2pfrl.learning.personal:RULES",
    "payloads": "p2pfrl.exchange.payloads:RULES",
    "gates": "p2pfrl.exchange.gates:RULES",
    "compressors": "p2pfrl.exchange.compressors:RULES",
    "privacy": "p2pfrl.exchange.privacy:RULES",
    "secure": "p2pfrl.exchange.secure:RULES",
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
def table(axis: str) -> Members[Any]:
    """Return the rules of `axis`: name in scenario files -> class."""
    module, _, name = TABLES[axis].partition(":")
    rules: Members[Any] = getattr(import_module(module), name)
    return rules


def kind_of(axis: str, rule: object) -> str:
    """Return a rule's name in scenario files; for a user's own rule, "module:Class"."""
    return table(axis).name_of(type(rule)) or place_of(type(rule))


def entries(axis: str) -> list[dict[str, str]]:
    """Return name, summary and reference of every rule of `axis`, importing none of them."""
    from p2pfrl.core.docs import docstrings, reference, summary

    places = {name: place.split(":") for name, place in table(axis).places.items()}
    told = {module: docstrings(module) for module, _ in places.values()}
    docs = {name: told[module][cls] for name, (module, cls) in places.items()}
    return [
        {"name": name, "summary": summary(doc), "reference": reference(doc)}
        for name, doc in docs.items()
    ]
