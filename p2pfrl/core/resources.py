"""Resources of agents: speed, bandwidth, and the energy that they use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Resources:
    """What each of n agents has and uses, as arrays `(n,)`.

    Attributes:
        speed: relative speed of local work; 2 is twice as fast.
        bandwidth: bytes per second of its interface.
        per_step: joules of an environment step.
        per_byte: joules of a byte that it sends.
    """

    speed: Numbers
    bandwidth: Numbers
    per_step: Numbers
    per_byte: Numbers

    def joules(self, agent: int, env_steps: int, bytes_sent: int) -> float:
        """Return per_step x environment steps + per_byte x bytes, of one agent."""
        return float(self.per_step[agent] * env_steps + self.per_byte[agent] * bytes_sent)
