"""Drifts: physics that change over the updates of an agent.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.learning.drifts.base import Drift

RULES: Members[Drift] = Members(
    __name__,
    {
        "step": "waves:Step",
        "ramp": "waves:Ramp",
        "sine": "waves:Sine",
        "trace": "trace:Trace",
    },
)
