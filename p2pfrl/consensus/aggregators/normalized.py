"""FedNova: the mean of changes per step, which weighs all objectives alike whatever their work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory, weighted_mean
from p2pfrl.core.needs import Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Normalized(Aggregator):
    """delta = (sum_k p_k tau_k) sum_k p_k delta_k / tau_k, with p_k = 1/k.

    delta_k is the change of agent k after tau_k environment steps. The mean of the delta_k leads to
    the minimum of sum_k tau_k f_k: agents that work more count more. Divided by their steps they
    lead to that of sum_k f_k, as far as the changes are proportional to their steps, which holds
    for small learning rates. With equal steps this is the mean.

    Reference: Wang, Liu, Liang, Joshi, Poor, Tackling the objective inconsistency problem in
        heterogeneous federated optimization, NeurIPS 2020, arXiv 2007.07481 (FedNova for plain
        local SGD; there p_k is the share of the samples, here all agents count alike).
    """

    needs: ClassVar[Needs] = (
        Need.ONE_COORDINATOR,
        OneOf("exchange.payload", ("delta",), "it divides changes by steps"),
    )
    of_several: ClassVar[tuple[str, ...]] = ("",)

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        steps = np.array([max(arrived.samples, 1.0) for arrived in received])
        weights = steps.mean() / (len(steps) * steps)
        return weighted_mean(received, weights.tolist()), state
