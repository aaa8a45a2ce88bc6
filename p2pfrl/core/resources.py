"""Resources of agents: speed, bandwidth, and the energy that they use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
CapacityName = Literal["speed", "bandwidth"]
ResourceName = Literal["speed", "bandwidth", "energy"]
"""The resources by which agents can be weighed."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What each of n agents has and uses, as arrays `(n,)`.

    Attributes:
        speed: relative speed of local work; 2 is twice as fast.
        bandwidth: bytes per second of its interface.
        per_step: joules of an environment step.
        per_byte: joules of a byte that it sends.
        env_steps: environment steps of a round, or their lower bound.
        bytes_sent: bytes of the message that it sends in a round.
    """

    speed: Numbers
    bandwidth: Numbers
    per_step: Numbers
    per_byte: Numbers
    env_steps: Numbers
    bytes_sent: int

    @property
    def uses_energy(self) -> bool:
        """Whether any agent uses energy."""
        return bool(self.per_step.any() or self.per_byte.any())

    def joules(self, agent: int, env_steps: int, bytes_sent: int) -> float:
        """Return per_step x environment steps + per_byte x bytes, of one agent."""
        return float(self.per_step[agent] * env_steps + self.per_byte[agent] * bytes_sent)

    def of(self, name: str) -> tuple[float, ...]:
        """Return speeds, bandwidths, or the joules that a round takes ("energy"), by agent."""
        found: list[float] = _NAMED[name](self).tolist()
        return tuple(found)


_NAMED: dict[str, Callable[[Resources], Numbers]] = {
    "speed": lambda own: own.speed,
    "bandwidth": lambda own: own.bandwidth,
    "energy": lambda own: own.per_step * own.env_steps + own.per_byte * own.bytes_sent,
}
