"""Faults that happened in a run, from its scenario, for figures."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from p2pfrl.core.graph import Graph
from p2pfrl.core.types import id_of
from p2pfrl.core.units import seconds


@dataclass(frozen=True)
class Happened:
    """A fault that happened.

    Attributes:
        seconds: virtual time.
        kind: as in the scenario, such as "crash".
        agents: whom it affected, coordinators by their negative ids; empty for faults of links.
    """

    seconds: float
    kind: str
    agents: tuple[int, ...]


class Faulty(Protocol):
    """What is needed of a record to know the faults of its run."""

    @property
    def scenario(self) -> str:
        """The resolved scenario."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """Its summary."""

    @property
    def graph(self) -> Graph:
        """Who sends to whom."""

    @property
    def coordinators(self) -> Mapping[int, tuple[int, ...]]:
        """Ids of the coordinators, and their members."""


def faults(record: Faulty) -> tuple[Happened, ...]:
    """Return the faults before the end of a run, in order of time.

    Processes have real faults instead, which no scenario lists. A coordinator that the mode does
    not have is left out.
    """
    if record.summary.get("transport") == "tcp":
        return ()
    try:
        tables = tomllib.loads(record.scenario).get("faults", [])
    except tomllib.TOMLDecodeError:
        return ()
    end = float(record.summary.get("virtual_seconds") or 0.0)
    known = set(range(record.graph.n)) | set(record.coordinators)
    found = [one for table in tables if (one := _happened(table, known)) is not None]
    return tuple(sorted((f for f in found if f.seconds <= end), key=lambda f: f.seconds))


def _happened(table: Mapping[str, Any], known: set[int]) -> Happened | None:
    named = table.get("agents", ())
    agents = tuple(agent if isinstance(agent, int) else id_of(agent) for agent in named)
    there = tuple(agent for agent in agents if agent in known)
    if agents and not there:
        return None
    return Happened(seconds(table["at"]), str(table["kind"]), there)
