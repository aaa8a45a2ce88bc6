"""Constants of convergence bounds, where agents' problems are linear: F_i(x) = A_i x - b_i.

These are the gradients of quadratics, and the mean field of TD(0) with linear features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfrl.consensus.spectrum import Rows, eigenvalues, is_symmetric

Array = NDArray[np.float64]
_MOST = 10**8
"""Agents times dimension^3 up to which eigenvalues are computed: about a second."""


@dataclass(frozen=True)
class Constants:
    """Constants of F_i(x) = A_i x - b_i, with the common optimum x: mean_i F_i(x) = 0.

    Attributes:
        mu: least eigenvalue of (A + A') / 2 of the mean A: strong convexity of the mean quadratic,
            or strong monotonicity of the mean field.
        L: largest spectral norm of an A_i: the smoothness of every agent's problem.
        dissimilarity: sqrt(mean_i |F_i(x)|^2): how different the agents' fields are at the optimum.
        own_optima: sqrt(mean_i |x_i - x|^2), where agent i's own optimum x_i solves F_i(x_i) = 0.

    Reference: Nesterov, Lectures on convex optimization, Springer, 2018 (mu and L); Koloskova,
        Loizou, Boreiri, Jaggi, Stich, A unified theory of decentralized SGD with changing topology
        and local updates, ICML 2020, arXiv 2003.10422 (dissimilarity at the optimum).
    """

    mu: float
    L: float
    dissimilarity: float
    own_optima: float

    @property
    def condition(self) -> float:
        """L / mu; infinite where mu is not positive."""
        return self.L / self.mu if self.mu > 0 else math.inf


def solved(A: Array, b: Array) -> Array:
    """Return the smallest x `(..., p)` with A x = b."""
    return np.asarray(np.matmul(np.linalg.pinv(A, rcond=1e-12), b[..., None])[..., 0])


def constants(A: Array, b: Array) -> Constants | None:
    """Return the constants of `A (n, p, p)` and `b (n, p)`; None if they would take long."""
    n, p, _ = A.shape
    if n * p**3 > _MOST:
        return None
    mean = A.mean(axis=0)
    best, own = solved(mean, b.mean(axis=0)), solved(A, b)
    fields = np.matmul(A, best) - b
    return Constants(
        mu=float(np.linalg.eigvalsh((mean + mean.T) / 2)[0]),
        L=float(np.linalg.norm(A, 2, axis=(1, 2)).max()),
        dissimilarity=float(np.sqrt(np.square(fields).sum(axis=1).mean())),
        own_optima=float(np.sqrt(np.square(own - best).sum(axis=1).mean())),
    )


def local_bias(A: Array, b: Array, lr: float, steps: int) -> float:
    """Return the distance from the optimum at which averages of `steps` local steps end.

    The mean of x_i - G_i (x_i - x*_i) with G_i = I - (I - lr A_i)^steps is still where sum_i G_i (x
    - x*_i) = 0. It is the optimum for one step, or for equal A_i.

    Args:
        A: `(n, p, p)`.
        b: `(n, p)`.
        lr: local step size.
        steps: local steps between averages over all agents.

    Reference: Mangold, Samsonov, Labbi, Levin, Alami, Naumov, Moulines, SCAFFLSA, NeurIPS 2024,
        arXiv 2402.04114 (the bias of FedLSA).
    """
    own = solved(A, b)
    G = np.eye(A.shape[-1]) - np.linalg.matrix_power(np.eye(A.shape[-1]) - lr * A, steps)
    fixed = solved(G.mean(axis=0), np.matmul(G, own[..., None])[..., 0].mean(axis=0))
    return float(np.linalg.norm(fixed - solved(A.mean(axis=0), b.mean(axis=0))))


def disagreement_bound(A: Array, b: Array, start: Array, weights: Rows, lr: float) -> float | None:
    """Return a bound on sqrt(sum_i |x_i - mean|^2) in every round: lr D / (1 - |lambda_2|).

    D^2 = 2 L sum_i (f_i(start) - min f_i). It holds for x <- W x - lr grad f(x) from a common start
    with lr <= (1 + lambda_n) / L: this is gradient descent on lr sum_i f_i(x_i) + x'(I - W) x / 2,
    which never grows, so that the gradients stay below D; and what W leaves of their differences
    is a geometric sum.

    Args:
        A: `(n, p, p)`, symmetric.
        b: `(n, p)`.
        start: `(p,)`.
        weights: W by rows.
        lr: step size.

    Returns:
        The bound; None if W is not symmetric, or the step is too large.

    Reference: Yuan, Ling, Yin, On the convergence of decentralized gradient descent, SIAM J.
        Optimization 26(3), 2016, arXiv 1310.7063.
    """
    if not is_symmetric(weights):
        return None
    spectrum = np.sort(eigenvalues(weights).real)
    smoothness = float(np.linalg.norm(A, 2, axis=(1, 2)).max())
    gap = 1.0 - max(abs(spectrum[0]), abs(spectrum[-2])) if len(spectrum) > 1 else 1.0
    if lr * smoothness > 1.0 + spectrum[0] + 1e-12 or gap <= 1e-12:
        return None
    apart = start - solved(A, b)
    above = 0.5 * (apart * np.matmul(A, apart[..., None])[..., 0]).sum()
    return float(lr * math.sqrt(2.0 * smoothness * above) / gap)
