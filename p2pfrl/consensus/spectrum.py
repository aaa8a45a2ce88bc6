"""Eigenvalues of mixing matrices and Laplacians: by Fourier transform, dense, or by Lanczos.

Matrices are given by rows, as `Mixing.weights` returns them. A circulant one (rings, exponential
and complete graphs) is diagonal in the Fourier basis, at any size. Others are dense up to 1500
agents. Above, those of tori are diagonal in the Fourier basis of two dimensions, and of others
scipy's ARPACK computes only the few eigenvalues that are needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.rng import Purpose, generator

if TYPE_CHECKING:
    from scipy import sparse
    from scipy.sparse import linalg
else:
    sparse = LazyModule("scipy.sparse")
    linalg = LazyModule("scipy.sparse.linalg")

Rows = Sequence[Mapping[int, float]]

DENSE = 1500
"""Maximum number of agents of a dense matrix."""

_FEW = 64
"""Number of entries up to which a row is compared entry by entry, which is faster."""
_ZERO = 1e-12
_BESIDE = 1e-6


def matrix(rows: Rows) -> NDArray[np.float64]:
    """Return the dense matrix, `(n, n)`."""
    dense = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        dense[i, list(row)] = list(row.values())
    return dense


def product(rows: Rows, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return W x for x `(n, d)`, without a dense W. Every row of W must have an entry."""
    starts = np.cumsum([0, *(len(row) for row in rows[:-1])])
    columns = np.array([j for row in rows for j in row])
    values = np.array([value for row in rows for value in row.values()])
    mixed: NDArray[np.float64] = np.add.reduceat(values[:, None] * x[columns], starts)
    return mixed


def sparse_matrix(rows: Rows) -> sparse.csr_array[Any]:
    """Return the matrix as compressed sparse rows, `(n, n)`."""
    lengths = [len(row) for row in rows]
    columns = [j for row in rows for j in row]
    values = [value for row in rows for value in row.values()]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_array(
        (np.array(values), np.array(columns), starts), shape=(len(rows), len(rows))
    )


def is_symmetric(rows: Rows) -> bool:
    """Return whether w_ij = w_ji exactly."""
    return all(rows[j].get(i) == value for i, row in enumerate(rows) for j, value in row.items())


def eigenvalues(rows: Rows) -> NDArray[np.inexact]:
    """Return all n eigenvalues, unordered. It needs a dense matrix unless W is circulant."""
    spectrum = _circulant(rows)
    if spectrum is not None:
        return spectrum.real if is_symmetric(rows) else spectrum
    dense = matrix(rows)
    return np.linalg.eigvalsh(dense) if is_symmetric(rows) else np.linalg.eigvals(dense)


def second_modulus(rounds: Sequence[Rows]) -> float:
    """Return the second-largest eigenvalue modulus of W_{p-1} ... W_0; values below 1e-12 become 0.

    Raises:
        TopologyError: ARPACK does not converge for a large matrix that is not symmetric.
    """
    n = len(rounds[0])
    if n == 1:
        return 0.0
    spectra = [_circulant(rows) for rows in rounds]
    circulant = [spectrum for spectrum in spectra if spectrum is not None]
    if len(circulant) == len(rounds):
        moduli = np.abs(math.prod(circulant))
    elif n <= DENSE:
        if len(rounds) == 1:
            moduli = np.abs(eigenvalues(rounds[0]))
        else:
            product = np.eye(n)
            for rows in rounds:
                product = matrix(rows) @ product
            moduli = np.abs(np.linalg.eigvals(product))
    elif len(rounds) == 1 and (spectrum := _doubly_circulant(rounds[0])) is not None:
        moduli = np.abs(spectrum)
    elif len(rounds) == 1 and is_symmetric(rounds[0]):
        moduli = _symmetric(sparse_matrix(rounds[0]))
    else:
        moduli = _general([sparse_matrix(rows) for rows in rounds])
    second = float(np.partition(moduli, -2)[-2])
    return second if second > _ZERO else 0.0


def laplacian(graph: Graph) -> tuple[dict[int, float], ...]:
    """Return L = D - A by rows, with D the diagonal matrix of in-degrees."""
    return tuple(
        dict(sorted({i: float(len(heard)), **dict.fromkeys(heard, -1.0)}.items()))
        for i, heard in enumerate(graph.predecessors)
    )


def laplacian_max(graph: Graph) -> float:
    """Return lambda_max of the Laplacian of an undirected graph."""
    rows = laplacian(graph)
    if graph.n <= DENSE or _circulant(rows) is not None:
        return float(np.max(eigenvalues(rows).real))
    start = _start(graph.n)
    largest = linalg.eigsh(
        sparse_matrix(rows), k=1, which="LA", v0=start, tol=1e-10, return_eigenvectors=False
    )
    return float(largest[0])


def _circulant(rows: Rows) -> NDArray[np.complex128] | None:
    """Return all eigenvalues of a matrix whose row i is row 0 moved by i; None if it is another."""
    n, first = len(rows), rows[0]
    if any(len(row) != len(first) for row in rows):
        return None
    line = np.full(n, np.nan)
    line[list(first)] = list(first.values())
    for i, row in enumerate(rows):
        if len(first) > _FEW:
            columns = np.fromiter(row, np.intp, len(row))
            values = np.fromiter(row.values(), np.float64, len(row))
            is_moved = np.array_equal(line[(columns - i) % n], values)
        else:
            is_moved = all(first.get((j - i) % n) == value for j, value in row.items())
        if not is_moved:
            return None
    return np.fft.fft(np.nan_to_num(line))


def _doubly_circulant(rows: Rows) -> NDArray[np.complex128] | None:
    """Return all eigenvalues of a matrix on a torus of a x b agents; None if it is no such matrix.

    Agent r b + c has the row of agent 0 moved by r rows and c columns, around the edges.
    """
    n, k = len(rows), len(rows[0])
    if k > _FEW or any(len(row) != k for row in rows):
        return None
    columns = np.array([list(row) for row in rows])
    values = np.array([list(row.values()) for row in rows])
    here = np.arange(n)
    for width in (int(j) for j in columns[0] if 1 < j < n and n % j == 0):
        down = (columns // width - (here // width)[:, None]) % (n // width)
        offsets = down * width + (columns % width - (here % width)[:, None]) % width
        order = np.argsort(offsets, axis=1)
        moved = np.take_along_axis(offsets, order, axis=1)
        if (moved == moved[0]).all():
            found = np.take_along_axis(values, order, axis=1)
            if (found == found[0]).all():
                line = np.zeros(n)
                line[moved[0]] = found[0]
                return np.fft.fft2(line.reshape(n // width, width)).ravel()
    return None


def _start(n: int) -> NDArray[np.float64]:
    return generator(0, Purpose.LANCZOS).standard_normal(n)


def _symmetric(W: sparse.csr_array[Any]) -> NDArray[np.float64]:
    """Return the moduli of the two largest eigenvalues and of the smallest.

    Lanczos converges fast if the spectral gap is wide. If it is narrow, the graph is sparse, so
    shift-and-invert next to the end of the spectrum is cheap.
    """
    start = _start(W.shape[0])
    try:
        # Three values: 1, the second largest, and possibly one near -1.
        found = linalg.eigsh(
            W, k=3, which="LM", v0=start, maxiter=300, tol=1e-10, return_eigenvectors=False
        )
    except linalg.ArpackNoConvergence:
        columns = sparse.csc_array(W)
        top = linalg.eigsh(columns, k=2, sigma=1.0 + _BESIDE, v0=start, return_eigenvectors=False)
        bottom = linalg.eigsh(
            columns, k=1, sigma=-1.0 - _BESIDE, v0=start, return_eigenvectors=False
        )
        found = np.concatenate([top, bottom])
    return np.abs(found)


def _general(rounds: Sequence[sparse.csr_array[Any]]) -> NDArray[np.float64]:
    n = rounds[0].shape[0]

    def apply(x: NDArray[np.float64]) -> NDArray[np.float64]:
        for W in rounds:
            x = W @ x
        return x

    operator = linalg.LinearOperator((n, n), matvec=apply, dtype=np.float64)
    try:
        found = linalg.eigs(
            operator, k=2, which="LM", v0=_start(n), maxiter=3000, return_eigenvectors=False
        )
    except linalg.ArpackNoConvergence as error:
        raise TopologyError(
            f"lambda_2 of {n} agents on this directed graph could not be computed: its spectral gap is too small; "
            f"take at most {DENSE} agents or another graph"
        ) from error
    return np.abs(found)
