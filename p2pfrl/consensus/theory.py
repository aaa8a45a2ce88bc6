"""Predictions of theory: consensus rates, noise floors, fixed points, delay, throughput.

Tests compare the simulator with these formulas, `validate` prints them, and figures draw them
beside measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pfrl.consensus.spectrum import (
    Rows,
    eigenvalues,
    is_symmetric,
    laplacian,
    laplacian_max,
    matrix,
    product,
    second_modulus,
    sparse_matrix,
)
from p2pfrl.core.graph import Graph
from p2pfrl.core.rng import Purpose, generator

if TYPE_CHECKING:
    from p2pfrl.consensus.mixing.base import Mixing
    from p2pfrl.consensus.topologies.base import TopologyView

__all__ = [
    "Prediction",
    "Throughput",
    "best_alpha",
    "contraction",
    "delay_threshold",
    "dpsgd_floor",
    "eigenvalues",
    "fedavg_fixed_point",
    "lambda_2",
    "laplacian_max",
    "matrix",
    "pairwise_rate",
    "predict",
    "rounds_to",
    "sampled_contraction",
    "sparse_matrix",
    "spectral_gap",
    "throughput",
]


def lambda_2(weights: Rows) -> float:
    """Return |lambda_2| of W, the second-largest eigenvalue modulus: the consensus rate per round.

    It is 1 for a disconnected graph and 0 for one agent.

    Args:
        weights: W by rows, as `Mixing.weights` returns it.

    Reference: Xiao, Boyd, Fast linear iterations for distributed averaging, Systems & Control
        Letters 53, 2004.
    """
    return second_modulus([weights])


def spectral_gap(weights: Rows) -> float:
    """Return 1 - |lambda_2|."""
    return 1.0 - lambda_2(weights)


def contraction(rounds: Sequence[Rows]) -> float:
    """Return the rate per round of a periodic sequence: |lambda_2(W_{p-1} ... W_0)|^(1/p).

    It is 0 if one period averages exactly, as on one-peer exponential graphs of 2^k agents (Ying et
    al., NeurIPS 2021, arXiv 2110.13363).
    """
    return float(second_modulus(rounds) ** (1.0 / len(rounds)))


def rounds_to(epsilon: float, rate: float, *, period: int = 1) -> int | None:
    """Return ceil(ln epsilon / ln rate), the rounds until disagreement is below `epsilon`, or None.

    Args:
        epsilon: in (0, 1).
        rate: rate per round, |lambda_2| or `contraction`.
        period: rounds after which a rate of 0 takes effect.

    >>> rounds_to(1e-6, 0.949253), rounds_to(1e-6, 0.0), rounds_to(1e-6, 1.0)
    (266, 1, None)
    """
    if rate <= 1e-12:
        return period
    return None if rate >= 1.0 - 1e-12 else max(1, math.ceil(math.log(epsilon) / math.log(rate)))


def sampled_contraction(
    view: TopologyView, mixing: Mixing, *, rounds: int = 64, width: int = 32
) -> float:
    """Return the rate per round of a sequence of random graphs, estimated on samples.

    Random vectors `(n, width)` are multiplied by W_0, ..., W_{rounds-1}. The rate is exp of the
    mean log ratio of their distances to the mean in the second half, which approaches the largest
    Lyapunov exponent.
    """
    x = generator(view.seed, Purpose.CONTRACTION).standard_normal((view.n, width))
    total, counted = 0.0, 0
    for round in range(rounds):
        x -= x.mean(axis=0)
        before = float(np.linalg.norm(x))
        if before <= 1e-12:
            return 0.0
        x = product(mixing.weights(view.at(round)), x / before)
        # The first half aligns x with the slowest direction, so only the second half counts.
        if round >= rounds // 2:
            total += math.log(max(float(np.linalg.norm(x - x.mean(axis=0))), 1e-300))
            counted += 1
    return math.exp(total / counted)


def pairwise_rate(graph: Graph, *, steps: int = 4000) -> float:
    """Return rho(E[W (x) W]): the factor per exchange of E||x - mean||^2 for random pairs.

    Agent i is uniform, and j is uniform among its d_i neighbors: W = I - v v^T / 2 with v = e_i -
    e_j. The map M -> E[W M W] is M - (L M + M L) / 2 + sum p_ij (v^T M v) v v^T / 4 with M = x x^T,
    L = sum p_ij v v^T and p_ij = 1 / (n d_i). It is iterated until the ratio converges. The
    lambda_2 of E[W] is an upper bound.

    Reference: Boyd, Ghosh, Prabhakar, Shah, Randomized gossip algorithms, IEEE Trans. Information
        Theory 52(6), 2006 (the bound: theorem 3).
    """
    n = graph.n
    p = np.zeros((n, n))
    for i, neighbors in enumerate(graph.successors):
        for j in neighbors:
            p[i, j] += 0.5 / (n * len(neighbors))
            p[j, i] += 0.5 / (n * len(neighbors))
    mean = 2.0 * (np.diag(p.sum(axis=1)) - p)
    m = np.eye(n) - 1.0 / n
    rate = 0.0
    for _ in range(steps if n > 1 else 0):
        m /= np.linalg.norm(m)
        # Power iteration of M -> E[W M W], normalized in every step.
        spread = p * (m.diagonal()[:, None] + m.diagonal() - 2.0 * m) / 2.0
        after = m - (mean @ m + m @ mean) / 2.0 + np.diag(spread.sum(axis=1)) - spread
        before, rate = rate, float((after * m).sum())
        m = after
        if abs(rate - before) < 1e-15:
            break
    return rate


@dataclass(frozen=True)
class Prediction:
    """Predictions of theory for mixing on a topology.

    Attributes:
        lambda_2: rate per round of disagreement. It is |lambda_2| of a static graph, `contraction`
            of a periodic one, or `sampled_contraction` of random graphs, transformed by
            `Mixing.rate`. For pairwise exchanges it is the rate of n exchanges, which count as one
            round, on the first graph; above 64 agents it is a bound.
        period: number of distinct rounds; None if every round is random.
        doubly_stochastic: whether every W keeps the mean over agents (of random graphs: the first
            W).
    """

    lambda_2: float
    period: int | None
    doubly_stochastic: bool

    @property
    def spectral_gap(self) -> float:
        """1 - lambda_2."""
        return 1.0 - self.lambda_2

    def rounds_to(self, epsilon: float) -> int | None:
        """Return the rounds until disagreement is below `epsilon`, or None if it never is."""
        return rounds_to(epsilon, self.lambda_2, period=self.period or 1)


def predict(view: TopologyView, mixing: Mixing) -> Prediction:
    """Return the predictions for `mixing` on the graphs of `view`.

    Raises:
        TopologyError: the rule is not defined on these graphs, or diverges.
    """
    graphs = [view.at(round) for round in range(view.period or 1)]
    for graph in graphs:
        mixing.check(graph)
    fresh = view.period is None
    if mixing.is_pairwise:
        once = pairwise_rate(graphs[0]) if view.n <= 64 else lambda_2(mixing.weights(graphs[0]))
        rate = once ** (view.n / 2)
    elif fresh:
        rate = sampled_contraction(view, mixing)
    else:
        rate = contraction([mixing.weights(graph) for graph in graphs])
    return Prediction(
        mixing.rate(rate), view.period, all(mixing.is_doubly_stochastic(graph) for graph in graphs)
    )


def best_alpha(graph: Graph) -> float:
    """Return alpha* = 2 / (lambda_2(L) + lambda_n(L)), the fastest step of W = I - alpha L.

    It needs all eigenvalues, so a dense matrix unless the graph is circulant, and at least two
    agents.

    Reference: Xiao, Boyd, Fast linear iterations for distributed averaging, Systems & Control
        Letters 53, 2004 (section 4.1).
    """
    spectrum = np.sort(eigenvalues(laplacian(graph)).real)
    return float(2.0 / (spectrum[1] + spectrum[-1]))


def dpsgd_floor(weights: Rows, lr: float, sigma: float, order: str) -> float:
    """Return the stationary disagreement sum_i ||x_i - mean(x)||^2 / d under gradient noise.

    adapt_then_combine, x <- W (x - lr g): lr^2 sigma^2 sum_{k>=2} l_k^2 / (1 - l_k^2).
    combine_while_adapting, x <- W x - lr g: lr^2 sigma^2 sum_{k>=2} 1 / (1 - l_k^2).

    Each mode of the fluctuations is a first-order autoregression with coefficient l_k.

    Args:
        weights: a symmetric W by rows, with eigenvalues l_k; up to 1500 agents, or circulant.
        lr: learning rate.
        sigma: standard deviation of the gradient noise per coordinate; the objective itself is
            flat.
        order: one of the two.

    Raises:
        ValueError: W is not symmetric, or `order` is neither.

    Reference: D-PSGD: Lian, Zhang, Zhang, Hsieh, Zhang, Liu, NeurIPS 2017, arXiv 1705.09056.
    """
    if not is_symmetric(weights):
        raise ValueError("the noise floor holds for symmetric W")
    if order not in _FLOORS:
        raise ValueError(f"order is one of {', '.join(_FLOORS)}, got {order!r}")
    squares = np.sort(np.square(eigenvalues(weights).real))[:-1]
    return float(lr**2 * sigma**2 * np.sum(_FLOORS[order](squares)))


_FLOORS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "adapt_then_combine": lambda squares: squares / (1.0 - squares),
    "combine_while_adapting": lambda squares: 1.0 / (1.0 - squares),
}


def fedavg_fixed_point(
    A: NDArray[np.float64], x_star: NDArray[np.float64], lr: float, steps: int
) -> NDArray[np.float64]:
    """Return FedAvg's fixed point on quadratics: (sum_i G_i)^-1 sum_i G_i x*_i.

    G_i = I - (I - lr A_i)^steps. The fixed point is the optimum (sum A_i)^-1 sum A_i x*_i only for
    steps = 1 or equal A_i.

    Args:
        A: `(n, d, d)`, symmetric.
        x_star: `(n, d)`.
        lr: local learning rate.
        steps: local steps between averages.

    Reference: Mangold, Samsonov, Labbi, Levin, Alami, Naumov, Moulines, SCAFFLSA, NeurIPS 2024,
        arXiv 2402.04114 (this is the symmetric case of the bias of FedLSA); FedAvg: McMahan et al.,
        AISTATS 2017, arXiv 1602.05629.
    """
    identity = np.eye(A.shape[-1])
    G = identity - np.linalg.matrix_power(identity - lr * A, steps)
    fixed: NDArray[np.float64] = np.linalg.solve(G.sum(axis=0), np.einsum("nij,nj->i", G, x_star))
    return fixed


def delay_threshold(tau: int) -> float:
    """Return 2 sin(pi / (2 (2 tau + 1))), the bound on lr a for x_{k+1} = x_k - lr a x_{k-tau}.

    Reference: Levin, May, A note on difference-delay equations, Theoretical Population Biology 9,
    1976.

    >>> [round(delay_threshold(tau), 3) for tau in range(4)]
    [2.0, 1.0, 0.618, 0.445]
    """
    return 2.0 * math.sin(math.pi / (2 * (2 * tau + 1)))


@dataclass(frozen=True)
class Throughput:
    """Local updates per second, summed over agents.

    Attributes:
        asynchronous: rate without waiting: sum_i 1 / t_i.
        synchronous: rate if all wait for the slowest agent: n / max_i t_i.
    """

    asynchronous: float
    synchronous: float

    @property
    def ratio(self) -> float:
        """Gain of asynchrony: max(t) mean(1 / t)."""
        return self.asynchronous / self.synchronous


def throughput(times: Sequence[float]) -> Throughput:
    """Return the update rates of agents whose local updates take `times` seconds.

    Links are instant.

    Reference: Lan, Han, Hashemi, Aggarwal, Brinton, Asynchronous federated reinforcement learning
        with policy gradient updates, ICLR 2025, arXiv 2404.08003 (section 4, time complexity).

    >>> throughput([1, 1, 1, 4]).ratio
    3.25
    """
    return Throughput(sum(1.0 / t for t in times), len(times) / max(times))
