"""Contracts of the axes, for the annotations of a scenario's sections.

Type checkers see the classes. At run time every name is `Any`: a field is read by its `Slot`, so a
scenario loads without importing rules that it does not use.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from p2pfrl.catalog import table
from p2pfrl.core.options import Rule

if TYPE_CHECKING:
    from p2pfrl.consensus.aggregators.base import Aggregator
    from p2pfrl.consensus.mixing.base import Mixing
    from p2pfrl.consensus.participation.base import Participation
    from p2pfrl.consensus.schedules.base import ScheduleRule
    from p2pfrl.consensus.server_optimizers.base import ServerOptimizer
    from p2pfrl.consensus.topologies.base import Topology
    from p2pfrl.exchange.attacks.base import Attack
    from p2pfrl.exchange.compressors.base import Compressor
    from p2pfrl.exchange.gates.base import Gate
    from p2pfrl.exchange.privacy.base import Privacy
    from p2pfrl.exchange.secure.base import Secure
    from p2pfrl.learning.corrections.base import Correction
    from p2pfrl.learning.personal.base import Personal
    from p2pfrl.simulator.faults.base import Fault
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
    "Secure",
    "ServerOptimizer",
    "Topology",
    "choose",
]


def choose(axis: str, default: str | None = None) -> Rule:
    """Return the annotation of a field that holds a rule of `axis`."""
    return Rule(axis, partial(table, axis), default)
