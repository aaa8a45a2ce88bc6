"""Robust rules once more, slowly and apart from the package: lists, loops and exact sums.

Vectors are lists of floats. Nothing here is imported from p2pfrl.
"""

from itertools import combinations
from math import fsum, log, sqrt
from statistics import median


def distance(x, y):
    return sqrt(fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def mean(vectors):
    return [fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def coordinate_median(vectors):
    return [median(column) for column in zip(*vectors, strict=True)]


def trimmed_mean(vectors, f):
    kept = len(vectors) - 2 * f
    return [fsum(sorted(column)[f : f + kept]) / kept for column in zip(*vectors, strict=True)]


def krum_score(vectors, i, f):
    others = sorted(distance(vectors[i], y) ** 2 for j, y in enumerate(vectors) if j != i)
    nearest = max(1, len(vectors) - f - 2)
    return fsum(others[:nearest]), fsum(others[: nearest + 1])


def krum(vectors, f):
    return vectors[min(range(len(vectors)), key=lambda i: krum_score(vectors, i, f))]


def multi_krum(vectors, f, m=None):
    ranked = sorted(range(len(vectors)), key=lambda i: krum_score(vectors, i, f))
    return mean([vectors[i] for i in ranked[: m or len(vectors) - f]])


def bulyan(vectors, f):
    left, chosen = list(vectors), []
    while len(chosen) < len(vectors) - 2 * f:
        chosen.append(krum(left, f))
        left.remove(chosen[-1])
    out = []
    for column in zip(*chosen, strict=True):
        middle = median(column)
        out.append(
            mean(
                [[v] for v in sorted(column, key=lambda v: (abs(v - middle), v))][
                    : len(chosen) - 2 * f
                ]
            )[0]
        )
    return out


def diameter(vectors):
    return max((distance(x, y) for x, y in combinations(vectors, 2)), default=0.0)


def mda(vectors, f):
    """Return the means of all subsets of the smallest diameter."""
    subsets = [list(subset) for subset in combinations(vectors, len(vectors) - f)]
    least = min(map(diameter, subsets))
    return [mean(subset) for subset in subsets if diameter(subset) <= least * (1 + 1e-12)]


def geometric_median(vectors, tolerance=1e-6, smoothing=1e-6, steps=100):
    z = coordinate_median(vectors)
    unit = median(distance(x, z) for x in vectors)
    for _ in range(steps):
        weights = [1.0 / max(smoothing * unit, distance(x, z)) for x in vectors]
        total = fsum(weights)
        before = z
        z = [
            fsum(w * v for w, v in zip(weights, column, strict=True)) / total
            for column in zip(*vectors, strict=True)
        ]
        if distance(z, before) <= tolerance * unit:
            break
    return z


def clip(x, radius):
    length = sqrt(fsum(v * v for v in x))
    return [v * min(1.0, radius / length) if length else 0.0 for v in x]


def centered_clipping(vectors, radius=None, center=None, steps=1):
    v = coordinate_median(vectors) if center is None else center
    for _ in range(steps):
        moves = [[a - b for a, b in zip(x, v, strict=True)] for x in vectors]
        limit = median(distance(x, v) for x in vectors) if radius is None else radius
        v = [a + b for a, b in zip(v, mean([clip(move, limit) for move in moves]), strict=True)]
    return v


def norm_clipping(vectors, radius=None):
    zero = [0.0] * len(vectors[0])
    limit = median(distance(x, zero) for x in vectors) if radius is None else radius
    return mean([clip(x, limit) for x in vectors])


def cosine_trust(vectors, trusted=0):
    x0 = vectors[trusted]
    zero = [0.0] * len(x0)
    length, total, out = distance(x0, zero), 0.0, zero
    for x in vectors:
        dot = fsum(a * b for a, b in zip(x, x0, strict=True))
        trust = max(0.0, dot / (length * distance(x, zero)))
        total += trust
        scale = trust * length / distance(x, zero)
        out = [a + scale * b for a, b in zip(out, x, strict=True)]
    return [a / total for a in out]


def concentration(vectors, f, sigma, delta, batch):
    k = len(vectors)
    for radius in (2 * sigma * sqrt(2 * log(2 * k / delta) / batch), 2 * sigma):
        dense = [x for x in vectors if sum(distance(x, y) <= radius for y in vectors) > k / 2]
        kept = []
        if dense:
            center = mean(dense)
            best = min(dense, key=lambda x: distance(x, center))
            kept = [x for x in vectors if distance(x, best) <= radius]
        if len(kept) >= k - f:
            break
    return mean(kept) if kept else coordinate_median(vectors)


def nearest_neighbors(vectors, f):
    keep = len(vectors) - f
    return [mean(sorted(vectors, key=lambda y: distance(x, y))[:keep]) for x in vectors]


def suspect_score(vectors, power=2.0):
    middle = coordinate_median(vectors)
    distances = [distance(x, middle) for x in vectors]
    unit = median(distances)
    if unit == 0.0:
        return middle
    weights = [max(1.0, d / unit) ** -power for d in distances]
    columns = zip(*vectors, strict=True)
    return [fsum(w * v for w, v in zip(weights, c, strict=True)) / fsum(weights) for c in columns]
