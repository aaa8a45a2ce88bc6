"""The mixture of tabular policies: the mean of what agents would do, not of what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.core.needs import Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.softmax import log_softmax


@rule
class Mixture(Aggregator):
    """theta(s, .) = log sum_j w_j softmax(theta_j(s, .)): the policy that follows agent j with chance w_j in each step.

    Exact for tables of logits. The mean of the parameters is another policy: softmax of mean logits
    is the normalized geometric mean of the policies. For two agents sure of different actions,
    logits (c, 0) and (0, c), both are 1/2, 1/2; for (c, 0) and (0, 0) the mixture tends to 3/4, 1/4
    as c grows, the mean of logits to 1, 0. The logits are moved, state by state, to where their
    exponentials add up to 1. For networks, payload "logits" does the same by distillation. Drawing
    an agent per episode, as mixtures are often defined, would visit states otherwise.

    Attributes:
        actions: numbers per state.
        weights: uniform; or samples, in proportion to the environment steps behind each.

    Reference: Stone, The opinion pool, Annals of Mathematical Statistics 32(4), 1961 (the linear
    pool of chances).
    """

    needs: ClassVar[Needs] = (OneOf("exchange.payload", ("parameters",), "it mixes policies"),)
    actions: int = Field(default=2, ge=2)
    weights: Literal["uniform", "samples"] = "uniform"

    def misfit(self, tensors: Mapping[str, tuple[int, ...]]) -> str | None:
        """Return that it needs one table of logits."""
        if (
            list(tensors) == ["actor"]
            and len(tensors["actor"]) == 2
            and tensors["actor"][1] == self.actions
        ):
            return None
        found = ", ".join(
            f"{name} of {' x '.join(map(str, shape))}" for name, shape in tensors.items()
        )
        return f"needs one table of logits with {self.actions} actions a state (option actions), got {found}"

    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return the mixture's logits, summed in order."""
        share = np.array(
            [arrived.samples if self.weights == "samples" else 1.0 for arrived in received]
        )
        if share.sum() <= 0.0:
            share = np.ones(len(received))
        share /= share.sum()
        tables = np.array([arrived.vector for arrived in received], dtype=np.float64)
        log_pi = log_softmax(tables.reshape(len(tables), -1, self.actions))
        highest = log_pi.max(axis=0)
        summed = np.zeros_like(highest)
        for weight, own in zip(share, log_pi, strict=True):
            summed += weight * np.exp(own - highest)
        # one agent of weight zero may be the only one to know an action: it has no say, and the
        # action no chance left
        logits = highest + np.log(np.maximum(summed, np.finfo(summed.dtype).tiny))
        mixed: Vector = logits.ravel().astype(model.dtype, copy=False)
        return mixed, state
