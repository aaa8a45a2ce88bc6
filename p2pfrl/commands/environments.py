"""Facts of an environment: sizes, physics with ranges, measures, baselines, scenarios.

They are read from the environment's own `spec` with default options, so that no list of them has to
be kept up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from p2pfrl.core.docs import summary
from p2pfrl.core.files import read_regular
from p2pfrl.core.finder import files
from p2pfrl.learning.environments.base import Problem, Spec
from p2pfrl.learning.environments.registry import ALIASES
from p2pfrl.scenario.positions import MAX_BYTES

_ID = re.compile(r'^id = "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Quantity:
    """A physical quantity that `[environment.vary]` may set.

    Attributes:
        name: in scenario files.
        default: its value where a scenario says nothing.
        low, high: what it may be; None: any number.
    """

    name: str
    default: float
    low: float | None
    high: float | None

    @property
    def span(self) -> str:
        """What the quantity may be."""
        if self.low is None or self.high is None:
            return "any number"
        return f"{self.low:,.10g} to {self.high:,.10g}"


@dataclass(frozen=True)
class Facts:
    """What an environment is, with default options.

    Attributes:
        observation: what an agent sees.
        action: what it chooses.
        steps: of an episode, at most; None: no limit.
        members: agents that share a world.
        physics: what may differ between agents.
        measures: columns of its own in `agents.csv`.
        baselines: policies without learning.
        optimum: what is known of the best policy.
        scenarios: names of the scenario files of the package with this environment.
    """

    observation: str
    action: str
    steps: int | None
    members: int
    physics: tuple[Quantity, ...]
    measures: tuple[str, ...]
    baselines: tuple[str, ...]
    optimum: str
    scenarios: tuple[str, ...]

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield a name and a text of every fact but the physics."""
        yield "observation", self.observation
        yield "action", self.action
        yield "episode", "no limit" if self.steps is None else f"at most {self.steps} steps"
        if self.members > 1:
            yield "shared by", f"{self.members} agents"
        yield "measures", ", ".join(self.measures) or "none"
        yield "baselines", ", ".join(self.baselines) or "none"
        yield "optimum", self.optimum
        yield "scenarios", ", ".join(self.scenarios) or "none"


def facts(name: str, cls: type[Problem]) -> Facts:
    """Return the facts of a native environment.

    Args:
        name: in scenario files.
        cls: its class, which can be made without arguments.
    """
    spec: Spec = cls().spec
    anything = (None, None)
    return Facts(
        observation=f"{spec.observation} number{'s' * (spec.observation != 1)}",
        action=_action(spec),
        steps=spec.max_steps,
        members=spec.members,
        physics=tuple(
            Quantity(quantity, default, *spec.ranges.get(quantity, anything))
            for quantity, default in spec.physics.items()
        ),
        measures=spec.measures,
        baselines=tuple(spec.baselines),
        optimum=_optimum(cls),
        scenarios=tuple(_scenarios(name)),
    )


def _action(spec: Spec) -> str:
    if spec.choices:
        return " and ".join(f"one of {k}" for k in spec.choices)
    return " and ".join(
        f"a number in [{low:g}, {high:g}]"
        for low, high in zip(spec.action_low, spec.action_high, strict=True)
    )


def _optimum(cls: type[Problem]) -> str:
    if cls.optimum is Problem.optimum:
        return "unknown"
    return summary(cls.optimum.__doc__).removeprefix("Return ").rstrip(".")


def _scenarios(name: str) -> Iterator[str]:
    """Yield the names of scenario files whose environment is this one."""
    for file, path in files("scenarios", ".toml").items():
        found = _ID.search(read_regular(path, MAX_BYTES).decode(errors="replace"))
        if found and ALIASES.get(found[1], (found[1],))[0] == name:
            yield file.removesuffix(".toml")
