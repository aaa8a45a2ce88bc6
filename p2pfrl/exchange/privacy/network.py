"""Privacy between two agents of a graph: what one that is alone learns of one far away."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_RANK = 1e-10


def pairwise_mu(
    matrix: NDArray[np.float64], observer: int, releases: int, sigma: float
) -> NDArray[np.float64]:
    """Return mu of every agent's releases as `observer` sees them, `(n,)`.

    In round t all agents release x_t = W x_(t-1) + D_t + N_t, D_t of norm at most 1 and N_t of
    sigma. The observer hears its neighbors and knows its own part, so that its view is B (D + N),
    with the rows (W^(t-s))_w of its neighbors w. Of the changes of agent u it learns what the
    projection P on the rows of B leaves of them: mu^2 is at most T lambda_max(P_u) / sigma^2, and
    sum |P_u| / sigma^2, with P_u `(T, T)` the block of u. Whoever hears all messages has T /
    sigma^2. The observer itself has nothing to learn of itself: 0.

    It holds for an observer that shares nothing with others, and for changes that do not depend on
    what was heard: a description of the graph beside the guarantee, which needs neither.

    Reference: the notion, and a looser bound: Cyffers, Even, Bellet, Massoulie, Muffliato, NeurIPS
        2022, arXiv 2206.05091; the view as a linear system: Koskela, Kulkarni, 2025, arXiv
        2505.19969.

    Args:
        matrix: W `(n, n)`, its zeros where agents are no neighbors.
        observer: its id.
        releases: T.
        sigma: noise multiplier of each.
    """
    n = len(matrix)
    heard = [w for w in range(n) if w != observer and matrix[observer, w]]
    if not heard:
        return np.zeros(n)
    others = [u for u in range(n) if u != observer]
    powers = [np.eye(n)]
    for _ in range(releases - 1):
        powers.append(powers[-1] @ matrix)
    empty = np.zeros((len(heard), len(others)))
    view = np.block(
        [
            [powers[t - s][np.ix_(heard, others)] if s <= t else empty for s in range(releases)]
            for t in range(releases)
        ]
    )
    _, sizes, rows = np.linalg.svd(view, full_matrices=False)
    basis = rows[sizes > _RANK * sizes[0]].reshape(-1, releases, len(others))
    found = np.zeros(n)
    for column, u in enumerate(others):
        own = basis[:, :, column]
        block = own.T @ own
        largest = float(np.linalg.eigvalsh(block)[-1]) * releases
        found[u] = math.sqrt(max(0.0, min(largest, float(np.abs(block).sum())))) / sigma
    return found
