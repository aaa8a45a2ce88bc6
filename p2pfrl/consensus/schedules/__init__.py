"""Round protocols: state machines without I/O."""

from p2pfrl.consensus.schedules.asynchronous import Asynchronous
from p2pfrl.consensus.schedules.base import ScheduleRule
from p2pfrl.consensus.schedules.buffered import Buffered
from p2pfrl.consensus.schedules.synchronous import Synchronous

RULES: dict[str, type[ScheduleRule]] = {
    "synchronous": Synchronous,
    "asynchronous": Asynchronous,
    "buffered": Buffered,
}
