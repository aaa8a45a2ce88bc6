"""Distributions of a scenario's numbers, such as latencies, speeds and physics.

A latency is drawn per message, a speed and the physics of an environment per agent.

A distribution is a rule. The `Draw`s turn two uniform numbers into one value (`sample`), so they
serve per message and per agent alike; the others assign values by an agent's place. `RULES` maps
the names of scenario files to classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.core.distributions.base import Distribution, Draw

DRAWS: Members[Draw] = Members(
    __name__,
    {
        "constant": "base:Constant",
        "uniform": "draws:Uniform",
        "normal": "normal:Normal",
        "lognormal": "normal:LogNormal",
        "exponential": "draws:Exponential",
        "choice": "draws:Choice",
    },
)
"""Those whose values are drawn independently."""

RULES: Members[Distribution] = DRAWS | Members(
    __name__,
    {
        "linspace": "assigned:Linspace",
        "arithmetic": "assigned:Arithmetic",
        "values": "assigned:Values",
        "cycle": "assigned:Cycle",
    },
)
