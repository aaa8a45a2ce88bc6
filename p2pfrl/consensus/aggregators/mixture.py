"""Mixture of tabular policies: the mean of action probabilities instead of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.core.needs import Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.softmax import log_softmax


@rule
class Mixture(Aggregator):
    """theta(s, .) = log sum_j w_j softmax(theta_j(s, .)): the mixture of the agents' policies.

    The mixture follows agent j with probability w_j in each step. It is exact for tables of logits.
    The mean of the logits is another policy: its softmax is the normalized geometric mean of the
    policies. For two agents that are sure of different actions, logits (c, 0) and (0, c), both give
    1/2, 1/2. For (c, 0) and (0, 0) the mixture tends to 3/4, 1/4 as c grows, and the mean of logits
    to 1, 0. The logits of each state are shifted so that their exponentials sum to 1. For networks
    aggregator "distilled" imitates the mixture, and so do agents with payload "logits". A mixture
    that draws an agent per episode, a common definition, would visit other states.

    Attributes:
        actions: numbers per state.
        weights: uniform; or samples, proportional to environment steps.

    Reference: Stone, The opinion pool, Annals of Mathematical Statistics 32(4), 1961 (linear pool).
    """

    needs: ClassVar[Needs] = (OneOf("exchange.payload", ("parameters",), "it mixes policies"),)
    actions: int = Field(default=2, ge=2)
    of_several: ClassVar[tuple[str, ...]] = ("weights",)
    weights: Literal["uniform", "samples"] = "uniform"

    def misfit(self, tensors: Mapping[str, tuple[int, ...]]) -> str | None:
        """Return a reason unless the tensors are one table of logits."""
        if (
            list(tensors) == ["actor"]
            and len(tensors["actor"]) == 2
            and tensors["actor"][1] == self.actions
        ):
            return None
        found = ", ".join(
            f"{name} of {' x '.join(map(str, shape))}" for name, shape in tensors.items()
        )
        return (
            f"needs one table of logits with {self.actions} actions a state (option actions), got {found}; for "
            "networks use kind = 'distilled'"
        )

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
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
        # If an agent of weight zero is the only one with a positive probability for an action,
        # the action has probability 0 in the mixture.
        logits = highest + np.log(np.maximum(summed, np.finfo(summed.dtype).tiny))
        mixed: Vector = logits.ravel().astype(model.dtype, copy=False)
        return mixed, state
