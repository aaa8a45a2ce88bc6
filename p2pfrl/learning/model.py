"""One agent's window on the trainer: the vector it shares with others, taken out and put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from p2pfrl.core.parameters import Vector
from p2pfrl.learning.learners.base import Stack
from p2pfrl.learning.trainer import Trainer


class Model:
    """The shared parameters of one agent and, where they are averaged, optimizer moments.

    Attributes:
        parts: names of the parts that travel.
        size: numbers that travel.

    Args:
        trainer: owns the numbers.
        agent: whose.
        parts: which parts of the parameters are shared.
        moments: what happens to optimizer moments after mixing: keep, reset or average.
    """

    def __init__(self, trainer: Trainer, agent: int, *, parts: Sequence[str], moments: str) -> None:
        layout = trainer.stack.layout
        self.agent = agent
        self.parts = tuple(parts)
        self._trainer = trainer
        self._layout = layout
        self._averaged = trainer.stack.traits.moments if moments == "average" else ()
        self._reset = moments == "reset"
        self._width = layout.slices(self.parts)[-1][0].stop if self.parts else 0
        self.size = self._width * (1 + len(self._averaged))

    def shared(self) -> Vector:
        """Return a new vector `(size,)` of what is shared."""
        layout, trainer = self._layout, self._trainer
        vector = layout.pack(trainer.read(self.agent), self.parts)
        if not self._averaged:
            return vector
        moments = [
            layout.pack(trainer.values(self.agent, name), self.parts) for name in self._averaged
        ]
        return np.concatenate([vector, *moments])

    def replace(self, vector: Vector) -> None:
        """Put `(size,)` numbers back; parts that are not shared keep their values."""
        layout, trainer = self._layout, self._trainer
        trainer.write(self.agent, vector[: self._width], self.parts)
        for number, name in enumerate(self._averaged, start=1):
            start = number * self._width
            moment = vector[start : start + self._width]
            if name in trainer.stack.traits.squares:
                # Rounding, or an attack, may have made a mean of squares negative.
                moment = np.maximum(moment, 0)
            layout.unpack(moment, trainer.entry(self.agent, name), self.parts)
        if self._reset:
            trainer.reset_moments(self.agent)

    def recall(self, name: str) -> Vector:
        """Return the shared parts `(k,)` of the state array `name`, or the offer `name`."""
        if name not in self._trainer.stack.traits.arrays:
            return self._trainer.offer(self.agent, name)
        return self._layout.pack(self._trainer.values(self.agent, name), self.parts)

    def store(self, name: str, vector: Vector) -> None:
        """Write the shared parts `(k,)` of the state array `name`."""
        self._layout.unpack(vector, self._trainer.entry(self.agent, name), self.parts)

    def mark(self, name: str) -> None:
        """Let the state array `name` be the parameters as they are now, personal parts included."""
        self._trainer.entry(self.agent, name)[...] = self._trainer.read(self.agent)

    def receive(self, name: str, received: Mapping[int, Vector]) -> None:
        """Let the learner learn from the vectors `name` of others, by sender."""
        self._trainer.receive(self.agent, name, received)

    def try_out(self, vectors: Sequence[Vector], episodes: int, index: int) -> list[float]:
        """Return the mean return of each of the shared vectors in the agent's environment."""
        evaluator, returns = self._trainer.stack.evaluator, list[float]()
        for vector in vectors:
            row = self._trainer.read(self.agent).copy()
            self._layout.unpack(vector[: self._width], row, self.parts)
            found = evaluator.evaluate((self.agent,), row[None], episodes, index)
            assert found is not None, "mixing that tries vectors out needs returns of episodes"
            returns.append(float(found[0]))
        return returns

    @property
    def companions(self) -> tuple[int, ...]:
        """The other members of the agent's world, where it plays against what it knows of them."""
        k = self._trainer.stack.traits.companions
        first = self.agent - self.agent % k
        return tuple(i for i in range(first, first + k) if i != self.agent)

    def hear(self, received: Mapping[int, Vector]) -> None:
        """Note what others share, `(size,)` by agent, where the agent plays against them."""
        if self._trainer.stack.traits.companions > 1:
            shared = {other: vector[: self._width] for other, vector in received.items()}
            self._trainer.hear(self.agent, shared, self.parts)

    def first(self, stack: Stack) -> Vector:
        """Return what is shared at the common start, `(size,)`: a coordinator's first model."""
        start = self._layout.pack(stack.common_start()[0], self.parts)
        return np.concatenate([start, np.zeros(self.size - self._width, dtype=start.dtype)])

    def parameters(self) -> Vector:
        """Return all parameters without padding, `(d,)`, a new vector."""
        return self._layout.pack(self._trainer.read(self.agent))
