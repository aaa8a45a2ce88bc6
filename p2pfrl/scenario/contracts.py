"""Contracts of the axes, for the annotations of a scenario's sections.

Type checkers see the classes. At run time every name is `Any`: a field is read by its `Slot`, so a
scenario loads without importing rules that it does not use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2pfrl.consensus.aggregators import Aggregator
    from p2pfrl.consensus.mixing import Mixing
    from p2pfrl.consensus.participation import Participation
    from p2pfrl.consensus.schedules.base import ScheduleRule
    from p2pfrl.consensus.server_optimizers import ServerOptimizer
    from p2pfrl.consensus.topologies import Topology
    from p2pfrl.exchange.attacks import Attack
    from p2pfrl.exchange.compressors import Compressor
    from p2pfrl.exchange.gates import Gate
    from p2pfrl.exchange.privacy import Privacy
    from p2pfrl.learning.corrections import Correction
    from p2pfrl.learning.personal import Personal
    from p2pfrl.simulator.faults import Fault
else:

    def __getattr__(name: str) -> Any:
        """Return `Any` for a contract."""
        if name not in __all__:
            raise AttributeError(name)
        return Any


__all__ = [
    "Aggregator",
    "Attack",
    "Compressor",
    "Correction",
    "Fault",
    "Gate",
    "Mixing",
    "Participation",
    "Personal",
    "Privacy",
    "ScheduleRule",
    "ServerOptimizer",
    "Topology",
]
