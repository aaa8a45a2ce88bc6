"""Lists of axes, rules, recipes, scenarios and graph files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from p2pfrl.catalog import TABLES
from p2pfrl.catalog import entries as rules
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.finder import folders
from p2pfrl.core.options import did_you_mean, show
from p2pfrl.scenario.find import recipes

_AXES = {
    "environments": "what agents act in",
    "learners": "how an agent trains",
    "corrections": "hooks into the local update",
    "personal": "what an agent keeps for itself beside the shared model",
    "payloads": "what an agent sends of its own",
    "gates": "whether to send",
    "compressors": "how payloads are encoded",
    "privacy": "what leaves the agent",
    "attacks": "what a Byzantine agent does instead",
    "topologies": "who sends to whom",
    "mixing": "what an agent makes of its own parameters and its neighbors'",
    "aggregators": "how a coordinator makes one vector of many",
    "server_optimizers": "how the coordinator's model moves",
    "participation": "who takes part in a round",
    "schedules": "the round protocol",
    "faults": "what goes wrong, and when",
    "distributions": "numbers that differ between agents or messages",
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
    if axis in _FILES:
        return [_from_comment(name, path) for name, path in _FILES[axis]().items()]
    raise ScenarioError([f"list: there is no axis {show(axis)}{did_you_mean(axis, _AXES)}"])


def _found(kind: str, suffix: str) -> dict[str, Path]:
    paths = [
        path
        for folder in folders(kind)
        if folder.is_dir()
        for path in sorted(folder.glob(f"*{suffix}"))
    ]
    return dict(sorted({path.name: path for path in reversed(paths)}.items()))


def _scenarios() -> dict[str, Path]:
    return _found("scenarios", ".toml")


def _graphs() -> dict[str, Path]:
    return _found("topologies", ".graphml")


_FILES: dict[str, Callable[[], dict[str, Path]]] = {
    "recipes": recipes,
    "scenarios": _scenarios,
    "graphs": _graphs,
}


def _from_comment(name: str, path: Path) -> dict[str, str]:
    """Return the first sentence of the comment at the start of a TOML file.

    Its path for other files.
    """
    lines = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                break
            lines.append(line.lstrip("# ").strip())
    text = " ".join(lines)
    first, _, rest = text.partition(". ")
    return {
        "name": name,
        "summary": first.rstrip(".") + "." if first else str(path),
        "reference": rest,
    }
