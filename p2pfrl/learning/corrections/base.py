"""The contract of corrections: hooks into the local update that change its gradient.

A correction may also add vectors that travel beside the payload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from typing_extensions import override

from p2pfrl.core.needs import Breaks, Composable, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Memory, Turn

State = Mapping[str, Any]
"""State arrays of the batch by name, leading axis b."""
Again = Callable[[Vector], Vector]
"""Rows `(b, stride)` -> the gradient there on the same samples, `(b, stride)`, a new array."""
Arrives = Callable[[Vector], Vector]
"""A vector `(k,)` -> what receivers get of it, `(k,)`."""


def as_it_is(vector: Vector) -> Vector:
    """Return the vector: what receivers get where numbers arrive exactly."""
    return vector


class Correction(Composable):
    """A correction of local training; the defaults are those of one that does nothing.

    Attributes:
        arrays: names of the vectors it keeps beside the parameters, like them in shape, zeros at
            first. The learner keeps them as state arrays `(n, stride)`, the agent reaches them
            through `Memory`.
        extras: vectors like the shared parameters that travel beside payload and model.
        guided_by: the one of `arrays` whose policy pi_guide adds weight x mean KL(pi_guide || pi)
            over the samples of a minibatch to its loss; the learner must have such a loss
            (`Traits.takes_guides`).
        begins_at_zero: its change is zero in the first gradient step of a round, so that it has no
            effect on a round of one step.
    """

    arrays: ClassVar[tuple[str, ...]] = ()
    extras: ClassVar[int] = 0
    guided_by: ClassVar[str | None] = None
    begins_at_zero: ClassVar[bool] = False

    @property
    @override
    def implied(self) -> Needs:
        """The facts that it needs: gradient steps to change, a policy to guide."""
        takes_part = self.bends or self.guided_by is not None
        bends = (Need.GRADIENT_STEPS,) if takes_part else ()
        return (*bends, *((Need.POLICY,) if self.guided_by is not None else ()))

    @property
    @override
    def breaks(self) -> Breaks:
        """The fact that local training has no correction."""
        return (Need.NO_CORRECTION,)

    @property
    def bends(self) -> bool:
        """Whether `adjust` does anything: whether the rule has one of its own."""
        return type(self).adjust is not Correction.adjust

    def adjust(self, rows: Vector, gradient: Vector, state: State, again: Again) -> None:
        """Change the gradient of a local step, `(b, stride)`, in place; row by row.

        Args:
            rows: `(b, stride)` the parameters, before the step.
            gradient: of the loss to be descended.
            state: the learner's state; the arrays named in `arrays` may be changed in place.
            again: the gradient elsewhere, on the same samples.
        """

    def batches(self, usual: int) -> tuple[int, ...]:
        """Return how many episodes an update may take, where the learner takes `usual` ones."""
        return (usual,)

    def batch(self, usual: int, state: State) -> int:
        """Return how many episodes the next update takes, one of `batches`.

        Args:
            usual: the learner's number.
            state: that of one agent, as in `adjust`.
        """
        return usual

    @property
    def reckons_with(self) -> tuple[str, float] | None:
        """Return the (option, value) that the server optimizer must have; None if it may be any."""
        return None

    @property
    def weight(self) -> float:
        """Weight of the guide in the loss; 0 leaves the loss unchanged."""
        return 0.0

    def begin(self, memory: Memory, before: Turn | None, start: Vector, extra: Vector) -> None:
        """Prepare the next local training.

        Args:
            memory: the vectors named in `arrays`.
            before: the exchange that ended; None before the first, and when an agent is made anew.
                `before.used` says whether the update that was sent last counted.
            start: `(k,)` where training starts: what the exchange made of the shared vector.
            extra: `(extras k,)` what came beside the coordinator's model.
        """

    def extra(self, turn: Turn, arrives: Arrives = as_it_is) -> Vector | None:
        """Return the vector `(extras k,)` that travels beside the payload, and remember it.

        None means that nothing does.

        Args:
            turn: the exchange.
            arrives: a vector -> what receivers get of it: in secure sums the nearest numbers of a
                grid. What is returned went through it.
        """
        return None

    def serve(self, extra: Vector, mean: Vector, share: float) -> Vector:
        """Return the vector that travels beside the coordinator's next model.

        Args:
            extra: `(extras k,)` what travelled beside the last model.
            mean: of what came from those who took part.
            share: the part of all agents that took part.
        """
        return extra

    def point(self, model: Vector, previous: Vector) -> Vector:
        """Return the point from which agents train, given the coordinator's last two models."""
        return model


@rule
class Uncorrected(Correction):
    """Train from the agent's own parameters, on its own objective."""

    breaks: ClassVar[Breaks] = ()
