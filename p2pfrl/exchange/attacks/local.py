"""Attacks of agents that know the messages they received."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose
from p2pfrl.core.rule import rule
from p2pfrl.exchange.attacks.base import Knowledge, Memory, MessageAttack, Scene


@rule
class FreeRider(MessageAttack):
    """Send what was received, as if training had changed nothing (knows its own messages).

    With payload parameters this is the coordinator's last model, or the mean of the neighbors' last
    vectors; with changes and gradients it is 0. Noise N(0, (c s)^2) hides it, where s is the root
    mean square of the last change in what was received: the size of a usual update.

    Attributes:
        noise: c; 0 sends what was received as it is.

    Reference: Lin, Du, Liu, Free-riders in federated learning: attacks and defenses, 2019, arXiv
        1911.12560.
    """

    knowledge: ClassVar[Knowledge] = "local"
    noise: float = Field(default=0.0, ge=0)

    def corrupt(self, vector: Vector, scene: Scene, memory: Memory) -> Vector:
        """Return what was received, with noise."""
        if not self.noise:
            return scene.idle
        size = self.noise * float(np.sqrt(np.mean(np.square(scene.moved, dtype=np.float64))))
        rng = scene.turn.generator(Purpose.ATTACK)
        return scene.idle + size * rng.standard_normal(len(vector))
