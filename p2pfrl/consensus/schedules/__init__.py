"""Round protocols: state machines without I/O.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.consensus.schedules.base import ScheduleRule

RULES: Members[ScheduleRule] = Members(
    __name__,
    {
        "synchronous": "synchronous:Synchronous",
        "asynchronous": "asynchronous:Asynchronous",
        "buffered": "buffered:Buffered",
    },
)
