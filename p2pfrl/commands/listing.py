"""Lists of axes, rules, recipes, scenarios and graph files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from p2pfrl.catalog import TABLES, table
from p2pfrl.catalog import entries as rules
from p2pfrl.core.docs import summary
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.files import read_regular
from p2pfrl.core.finder import files
from p2pfrl.core.text import EncodingError, decode
from p2pfrl.core.wording import did_you_mean, show
from p2pfrl.scenario.find import recipes
from p2pfrl.scenario.positions import MAX_BYTES

_AXES = {
    "environments": "environments of the agents",
    "drifts": "physics that change over updates",
    "learners": "how an agent trains",
    "corrections": "hooks into the local update",
    "personal": "a personal model beside the shared one",
    "payloads": "payload of an agent's messages",
    "gates": "whether to send",
    "compressors": "how payloads are encoded",
    "privacy": "protection of messages",
    "secure": "sums of vectors that nobody sees",
    "attacks": "behavior of Byzantine agents",
    "topologies": "communication graphs",
    "mixing": "how an agent averages with its neighbors",
    "aggregators": "how a coordinator aggregates payloads",
    "server_optimizers": "how the coordinator's model moves to the aggregate",
    "participation": "agents that take part in a round",
    "schedules": "the round protocol",
    "faults": "faults at given times",
    "distributions": "numbers that differ between agents or messages",
    "sections": "sections of a scenario that are no rules",
    "figures": "figures of runs and of comparisons",
    "recipes": "named algorithms to extend",
    "scenarios": "scenario files found by name",
    "graphs": "graph files found by name",
}


def entries(axis: str) -> list[dict[str, str]]:
    """Return `[{name, summary, reference}]` of an axis, or of all axes if none is named.

    Raises:
        ScenarioError: there is no such axis.
    """
    if not axis:
        return [{"name": name, "summary": text, "reference": ""} for name, text in _AXES.items()]
    if axis in TABLES:
        return rules(axis)
    if axis == "sections":
        from p2pfrl.commands.describing import sections

        return [
            {"name": name, "summary": summary(cls.__doc__), "reference": ""}
            for name, cls in sections().items()
        ]
    if axis == "figures":
        from p2pfrl.results.plots import FIGURES

        return [
            {"name": name, "summary": figure.shows, "reference": ""}
            for name, figure in FIGURES.items()
        ]
    if axis in _FILES:
        return [_from_comment(name, path) for name, path in _FILES[axis]().items()]
    owners = [f"`p2pfrl list {name} {axis}`" for name in TABLES if axis in table(name)]
    hint = f"; did you mean {' or '.join(owners)}?" if owners else did_you_mean(axis, _AXES)
    raise ScenarioError([f"list: there is no axis {show(axis)}{hint}"])


def has_descriptions(axis: str) -> str:
    """Return an axis of which single members are described.

    Raises:
        ScenarioError: it has none, or there is no such axis.
    """
    known = [*TABLES, "sections", "recipes"]
    if axis not in known:
        raise ScenarioError(
            [f"list: no options of {show(axis)} to show{did_you_mean(axis, known)}"]
        )
    return axis


def _scenarios() -> dict[str, Path]:
    return files("scenarios", ".toml")


def _graphs() -> dict[str, Path]:
    return files("topologies", ".graphml")


_FILES: dict[str, Callable[[], dict[str, Path]]] = {
    "recipes": recipes,
    "scenarios": _scenarios,
    "graphs": _graphs,
}


def _from_comment(name: str, path: Path) -> dict[str, str]:
    """Return the first sentence of the comment at the start of a TOML file.

    Its path for other files.
    """
    try:
        content = decode(read_regular(path, MAX_BYTES))
    except (OSError, EncodingError):  # who names the file is told; the list goes on
        content = ""
    comment = itertools.takewhile(lambda line: line.startswith("#"), content.splitlines())
    text = " ".join(line.lstrip("# ").strip() for line in comment)
    first, _, rest = text.partition(". ")
    return {
        "name": name,
        "summary": first.rstrip(".") + "." if first else str(path),
        "reference": rest,
    }
