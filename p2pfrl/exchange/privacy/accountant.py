"""Accountant of differential privacy: what Gaussian releases cost, and the noise for a budget.

A release is a vector of sensitivity 1 plus N(0, sigma^2) in every number; of sensitivity C, sigma
is in units of C. Two agents' worlds are neighbors where one agent's whole contribution differs.
Where every agent contributes to every release, T releases are one Gaussian release of noise
sigma / sqrt(T), and its epsilon is exact (Balle, Wang). Where each contributes with probability q,
secretly and independently, Renyi divergences add up, and epsilon is a bound.

References: Balle, Wang, Improving the Gaussian mechanism for differential privacy, ICML 2018, arXiv
1805.06530; Mironov, Talwar, Zhang, Renyi differential privacy of the sampled Gaussian mechanism,
2019, arXiv 1908.10530; Canonne, Kamath, Steinke, The discrete Gaussian for differential privacy,
NeurIPS 2020, arXiv 2004.00010; adaptive composition of Gaussian releases: Dong, Roth, Su, Gaussian
differential privacy, JRSS B 2022, arXiv 1905.02383.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.lazy import LazyModule

if TYPE_CHECKING:
    from scipy import optimize, special
else:
    optimize, special = LazyModule("scipy.optimize"), LazyModule("scipy.special")

Conversion = Literal["classic", "improved"]
ORDERS: tuple[float, ...] = (
    *(1.0 + step / 10.0 for step in range(1, 100)),
    *(float(order) for order in range(11, 257)),
)
"""Renyi orders over which epsilon is minimized: tenths up to 10.9, then whole numbers up to 256."""
_NEGLIGIBLE = -30.0
"""Logarithm of a term of a series, relative to a sum of at least 1, below which it ends."""
_LONGEST = 2**17
_ROOM = 1.01
_CLOSE, _SMALLEST = 1e-13, 1e-300
_SMALL, _SHORT = 0.1, 4.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_FARTHEST, _TURNS = 700.0, 1000
_ULP = float(np.finfo(np.float64).eps)


def delta_of_gaussian(epsilon: float, mu: float) -> float:
    """Return the exact delta of one Gaussian release at `epsilon`.

    delta = Phi(a) - e^epsilon Phi(-b), a = mu/2 - epsilon/mu, b = mu/2 + epsilon/mu, with mu =
    sensitivity / sigma. Since epsilon = (b^2 - a^2) / 2, the second term is e^(-a^2/2)
    erfcx(b / sqrt(2)) / 2, which is finite for any mu.

    Where epsilon is small, Phi(a) - Phi(-b) is an integral of the density over a length of mu, in
    place of a difference of two numbers that are almost equal.

    Balle, Wang, ICML 2018, arXiv 1805.06530, theorem 8.
    """
    if mu == 0.0:
        return 0.0
    a, b = mu / 2.0 - epsilon / mu, mu / 2.0 + epsilon / mu
    if epsilon < _SMALL and mu < _SHORT:
        x = _NODES * (mu / 2.0) - epsilon / mu
        mass = float(np.exp(-x * x / 2.0) @ _WEIGHTS) * mu / math.sqrt(8.0 * math.pi)
        return max(0.0, mass - math.expm1(epsilon) * float(special.ndtr(-b)))
    second = math.exp(-a * a / 2.0) * float(special.erfcx(b / math.sqrt(2.0))) / 2.0
    return max(0.0, float(special.ndtr(a)) - second)


def epsilon_of_gaussian(mu: float, delta: float) -> float:
    """Return the least epsilon >= 0 at which Gaussian releases of `mu` keep to `delta`; exact.

    Up to rounding, by which it may be too large but not too small.

    Args:
        mu: sqrt(sum of (sensitivity / sigma)^2) over the releases.
        delta: in (0, 1).
    """
    if delta_of_gaussian(0.0, mu) <= delta:
        return 0.0
    high = 1.0
    while delta_of_gaussian(high, mu) > delta:
        high *= 2.0
    found = _root(lambda epsilon: delta_of_gaussian(epsilon, mu) - delta, 0.0, high)
    return moved(found, lambda epsilon: delta_of_gaussian(epsilon, mu) <= delta, 1.0)


def mu_of(epsilon: float, delta: float) -> float:
    """Return the greatest mu of Gaussian releases that keeps to (`epsilon`, `delta`); exact.

    Up to rounding, by which it may be too small but not too large.
    """
    low, high = 0.0, 1.0
    while delta_of_gaussian(epsilon, high) < delta:
        low, high = high, high * 2.0
    close = _CLOSE if epsilon >= _SMALL else _SMALLEST
    found = _root(lambda mu: delta_of_gaussian(epsilon, mu) - delta, low, high, close)
    return moved(found, lambda mu: epsilon_of_gaussian(mu, delta) <= epsilon, -1.0)


def spending(epsilon: float, delta: float) -> float:
    """Return the greatest mu^2 whose epsilon, as it is reported, is at most `epsilon`."""
    greatest = mu_of(epsilon, delta) ** 2
    return moved(greatest, lambda m: epsilon_of_gaussian(math.sqrt(m), delta) <= epsilon, -1.0)


def sigma_of(epsilon: float, delta: float, *, releases: int = 1, sensitivity: float = 1.0) -> float:
    """Return the least sigma with which `releases` Gaussian releases keep to (epsilon, delta).

    Exact, for releases that every agent takes part in.

    >>> round(sigma_of(1.0, 1e-5), 9)
    3.730631635
    """
    return sensitivity * math.sqrt(releases) / mu_of(epsilon, delta)


def renyi(sigma: float, q: float = 1.0, orders: Sequence[float] = ORDERS) -> NDArray[np.float64]:
    """Return the Renyi divergence of one release at every order, `(len(orders),)`.

    Each agent contributes with probability q; the adjacency is add/remove. For q = 1 it is alpha /
    (2 sigma^2). For whole orders it is 1 / (alpha - 1) log sum_k C(alpha, k) (1 - q)^(alpha - k)
    q^k e^(k (k - 1) / (2 sigma^2)), and for others the two series of section 3.3.

    Mironov, Talwar, Zhang, 2019, arXiv 1908.10530.
    """
    if q == 0.0:
        return np.zeros(len(orders))
    if q == 1.0:
        return np.asarray(orders, dtype=np.float64) / (2.0 * sigma**2)
    return np.array([_log_moment(sigma, q, order) / (order - 1.0) for order in orders])


def epsilon_of_renyi(
    divergences: NDArray[np.float64],
    delta: float,
    orders: Sequence[float] = ORDERS,
    conversion: Conversion = "improved",
) -> float:
    """Return the least epsilon >= 0 over the orders, for Renyi divergences summed over releases.

    classic: eps + log(1/delta) / (alpha - 1) (Mironov, CSF 2017, arXiv 1702.07476). improved: eps +
    log((alpha - 1) / alpha) - (log delta + log alpha) / (alpha - 1) (Canonne, Kamath, Steinke,
    NeurIPS 2020, arXiv 2004.00010).
    """
    alpha = np.asarray(orders, dtype=np.float64)
    if conversion == "classic":
        found = divergences + math.log(1.0 / delta) / (alpha - 1.0)
    else:
        found = divergences + np.log1p(-1.0 / alpha)
        found = found - (math.log(delta) + np.log(alpha)) / (alpha - 1.0)
    return max(0.0, float(found.min()))


def epsilon_of_sampled(
    sigma: float,
    q: float,
    releases: int,
    delta: float,
    *,
    orders: Sequence[float] = ORDERS,
    conversion: Conversion = "improved",
) -> float:
    """Return a bound of epsilon after `releases` releases with noise sigma and probability q.

    >>> round(epsilon_of_sampled(1.3, 250 / 60000, 3600, 1e-5, conversion="classic"), 2)
    1.18
    """
    return epsilon_of_renyi(releases * renyi(sigma, q, orders), delta, orders, conversion)


def releases_of_renyi(divergences: NDArray[np.float64], epsilon: float, delta: float) -> int:
    """Return the most releases whose bound of epsilon is kept, over all orders; 0 if none is.

    Args:
        divergences: of one release, at `ORDERS`.
        epsilon: that they may have together.
        delta: in (0, 1).
    """
    alpha = np.asarray(ORDERS)
    rest = epsilon - np.log1p(-1.0 / alpha) + (math.log(delta) + np.log(alpha)) / (alpha - 1.0)
    return max(0, math.floor(min(float((rest / divergences).max()), 1e15)))


def epsilon_of_concentrated(spent: float, delta: float) -> float:
    """Return a bound of epsilon for releases whose divergence at alpha is alpha spent / 2 in sum.

    So it is for Gaussians and for discrete ones: sum of (sensitivity / sigma)^2 is `spent`. The
    bound of `epsilon_of_renyi` is least over all orders where log(1 / (alpha delta)) = spent / 2
    (alpha - 1)^2.

    Canonne, Kamath, Steinke, NeurIPS 2020, arXiv 2004.00010.
    """
    rho, most = spent / 2.0, -math.log(delta)
    if rho <= 0.0:
        return 0.0
    if rho == math.inf:
        return math.inf
    high = min(most, math.log1p(2.0 * math.sqrt(most) / math.sqrt(rho)))
    order = _root(lambda x: rho * math.expm1(x) * math.expm1(x) + x - most, 0.0, high)
    b = math.expm1(order)  # alpha - 1
    return max(0.0, rho * (1.0 + b) + (most - order) / b - math.log1p(1.0 / b))


def spent_of_concentrated(epsilon: float, delta: float) -> float:
    """Return the most that may be spent so that `epsilon_of_concentrated` keeps to epsilon.

    With x = log alpha the bound's least value is (log(1 / delta) - x) (2 alpha - 1) / (alpha - 1)^2
    - log(alpha / (alpha - 1)), and falls with alpha. Rounding makes it too small, not too large.
    """
    most = -math.log(delta)

    def excess(order: float) -> float:
        b = math.expm1(min(order, _FARTHEST))
        return (most - order) * (2.0 + 1.0 / b) / b - math.log1p(1.0 / b) - epsilon

    low = most
    while excess(low) < 0.0:
        low /= 2.0
    order = _root(excess, low, most)
    b = math.expm1(min(order, _FARTHEST))
    found = 2.0 * (most - order) / b / b
    return moved(found, lambda m: epsilon_of_concentrated(m, delta) <= epsilon, -1.0)


def sigma_of_sampled(epsilon: float, delta: float, q: float, releases: int) -> float:
    """Return the least sigma, to a relative 1e-6, whose bound of epsilon is kept.

    Infinity where the orders have no such bound: not for the smallest epsilon.
    """
    if q == 1.0:
        return sigma_of(epsilon, delta, releases=releases)
    if epsilon_of_renyi(np.zeros(len(ORDERS)), delta) >= epsilon / _ROOM:
        return math.inf

    def excess(size: float) -> float:
        return epsilon_of_sampled(math.exp(size), q, releases, delta) - epsilon

    low, high = math.log(0.05), 0.0
    while excess(high) > 0.0:
        low, high = high, high + math.log(2.0)
    return math.exp(float(optimize.brentq(excess, low, high, xtol=1e-7)) + 2e-7)


def _root(
    value: Callable[[float], float], low: float, high: float, close: float = _SMALLEST
) -> float:
    """Return where a function that changes its sign between `low` and `high` is zero.

    To `close`, and to a relative rounding.
    """
    return float(optimize.brentq(value, low, high, xtol=close, rtol=4 * _ULP, maxiter=_TURNS))


def moved(root: float, is_safe: Callable[[float], bool], sign: float) -> float:
    """Return the nearest number beside a root that is safe, up in the direction of `sign`.

    It moves by one rounding, then by twice as much, until the number is safe.
    """
    step, found = _ULP, root
    while not is_safe(found):
        found, step = root * (1.0 + sign * step), 2.0 * step
    return found


def _log_moment(sigma: float, q: float, order: float) -> float:
    """Return log E[(nu / mu0)^order], which is (order - 1) times the divergence."""
    if float(order).is_integer():
        k = np.arange(order + 1.0)
        terms = _log_binomial(order, k) + (order - k) * math.log1p(-q) + k * math.log(q)
        return float(special.logsumexp(terms + k * (k - 1.0) / (2.0 * sigma**2)))
    size = 256
    while True:
        found, last = _series(sigma, q, order, size)
        if last < _NEGLIGIBLE or size >= _LONGEST:
            return found
        size *= 4


def _series(sigma: float, q: float, order: float, size: int) -> tuple[float, float]:
    """Return the logarithm of both series of a fractional order, and that of the last term."""
    i = np.arange(float(size))
    j = order - i
    z = sigma**2 * math.log(1.0 / q - 1.0) + 0.5
    common = _log_binomial(order, i)
    signs = special.gammasgn(j + 1.0)
    below = common + i * math.log(q) + j * math.log1p(-q) + i * (i - 1.0) / (2.0 * sigma**2)
    below += special.log_ndtr((z - i) / sigma)
    above = common + j * math.log(q) + i * math.log1p(-q) + j * (j - 1.0) / (2.0 * sigma**2)
    above += special.log_ndtr((j - z) / sigma)
    terms = np.concatenate([below, above])
    total = special.logsumexp(terms, b=np.concatenate([signs, signs]))
    return float(total), float(max(below[-1], above[-1]))


def _log_binomial(order: float, k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log |C(order, k)|."""
    found: NDArray[np.float64] = special.gammaln(order + 1.0) - special.gammaln(k + 1.0)
    return found - special.gammaln(order - k + 1.0)
