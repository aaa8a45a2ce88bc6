"""The fault timeline of a simulation: what goes wrong, and when. Each fault is a verb on the world.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.simulator.faults.base import Fault

RULES: Members[Fault] = Members(
    __name__,
    {
        "partition": "links:Partition",
        "heal": "links:Heal",
        "crash": "agents:Crash",
        "restart": "agents:Restart",
        "straggle": "agents:Straggle",
        "loss": "links:Lossy",
        "leave": "agents:Leave",
        "opt_out": "agents:OptOut",
        "join": "agents:Join",
        "turn_byzantine": "agents:TurnByzantine",
    },
)
