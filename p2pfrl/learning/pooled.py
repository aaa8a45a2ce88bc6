"""The centralized baseline: agents only collect and upload transitions, one learner trains on all of them."""

from __future__ import annotations

from p2pfrl.core.parameters import Layout
from p2pfrl.learning.learners.base import Batch, Outcome, Stack


class Collecting(Stack):
    """A stack whose update gathers experience and learns nothing: the agents' side of pooled training.

    Args:
        stack: the learner whose experience it gathers.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.layout: Layout = stack.layout
        self.chunk = stack.chunk
        self.min_steps = stack.min_steps
        self.fixed_steps = stack.fixed_steps
        self.start = stack.start  # type: ignore[method-assign]
        self.init = stack.init  # type: ignore[method-assign]
        self.evaluate = stack.evaluate  # type: ignore[method-assign]
        self.divergence = stack.divergence  # type: ignore[method-assign]
        self.problem = stack.problem  # type: ignore[method-assign]
        self.error = stack.error  # type: ignore[method-assign]

    def update(self, batch: Batch) -> Outcome:
        """Return the outcome of `collect`."""
        return self._stack.collect(batch)
