"""Laws: numbers stated by theory and measured with real agents, codec and network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module

from p2pfrl.laws.base import Figure, Law

MODULES = (
    "spectral",
    "drift",
    "fedtd",
    "bounds",
    "fedq",
    "server",
    "afedpg",
    "fedpg",
    "fedavg",
    "modes",
    "noise",
    "delay",
    "lossy",
    "determinism",
    "restarts",
    "pairwise",
    "buffered",
    "rennala",
    "hierarchy",
    "selection",
    "mass",
    "acceleration",
    "deep",
    "tracking",
    "compression",
    "lag",
    "policy",
    "ucbvi",
    "personal",
    "normalization",
    "memory",
    "worlds",
    "games",
    "shared_worlds",
    "resources",
    "privacy",
    "secure",
    "robust",
    "attacks",
    "failover",
)
"""Modules of this package with laws, in the order of the table."""


@cache
def laws() -> dict[str, Law]:
    """Return every law by name."""
    found = [law for module in MODULES for law in import_module(f"p2pfrl.laws.{module}").LAWS]
    return {law.name: law for law in found}


def measure(law: Law) -> Iterator[Figure]:
    """Yield the figures of a law."""
    yield from law.measure()
