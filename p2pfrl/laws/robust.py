"""Laws of robust rules: how far Byzantine agents move what honest ones compute."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.consensus.aggregators import RULES
from p2pfrl.consensus.aggregators.base import Aggregator, Arrived
from p2pfrl.laws.base import Figure, Law, at_most, near
from p2pfrl.laws.runs import Array

AGENTS, BYZANTINE, SIZE = 13, 3, 1000
_RULES: dict[str, dict[str, object]] = {
    "mean": {},
    "median": {},
    "trimmed_mean": {"byzantine": BYZANTINE},
    "krum": {"byzantine": BYZANTINE},
    "multi_krum": {"byzantine": BYZANTINE, "selected": 9},
    "geometric_median": {},
}
_ERRORS: dict[str, tuple[float, ...]] = {
    "no attack": (0.015, 0.026, 0.019, 0.095, 0.025, 0.015),
    "sign flip, c = 2.5": (0.81, 0.044, 0.047, 0.093, 0.011, 0.030),
    "uniform noise of +-1000": (77.0, 0.033, 0.028, 0.093, 0.011, 0.017),
    "average zero": (1.00, 0.044, 0.047, 0.093, 0.011, 0.030),
}
"""Attack -> relative error of each of `_RULES`."""


def rows(seed: int) -> dict[str, Array]:
    """Return for each attack 3 vectors of Byzantine agents and 10 honest ones, N(1, .1^2)."""
    rng = np.random.default_rng(seed)
    everyone = 1.0 + 0.1 * rng.standard_normal((AGENTS, SIZE))
    liars, honest = everyone[:BYZANTINE], everyone[BYZANTINE:]
    sent = {
        "no attack": liars,
        "sign flip, c = 2.5": -2.5 * liars,
        "uniform noise of +-1000": rng.uniform(-1000.0, 1000.0, liars.shape),
        "average zero": np.tile(-honest.sum(axis=0) / BYZANTINE, (BYZANTINE, 1)),
        "alie, z = 1": np.tile(honest.mean(axis=0) - honest.std(axis=0, ddof=1), (BYZANTINE, 1)),
    }
    return {attack: np.concatenate([vectors, honest]) for attack, vectors in sent.items()}


def error(rule: Aggregator, vectors: Array) -> float:
    """Return ||aggregate - honest mean|| / ||honest mean||."""
    received = [Arrived(i, vector, 1.0) for i, vector in enumerate(vectors)]
    model = np.zeros(SIZE)
    aggregate, _ = rule.aggregate(received, model, rule.init(model))
    mean = vectors[BYZANTINE:].mean(axis=0)
    return float(np.linalg.norm(aggregate - mean) / np.linalg.norm(mean))


def _static() -> Iterator[Figure]:
    for seed in (1, 2):
        sent = rows(seed)
        for attack, expected in _ERRORS.items():
            for (kind, options), value in zip(_RULES.items(), expected, strict=True):
                measured = error(RULES[kind](**options), sent[attack])
                slack = max(0.1 * value, 0.005)
                yield near(f"seed {seed}, {attack}: {kind}", value, measured, slack, digits=3)


def _alie() -> Iterator[Figure]:
    for seed in (1, 2):
        sent = rows(seed)["alie, z = 1"]
        for kind, options in _RULES.items():
            yield at_most(f"seed {seed}: {kind}", 0.11, error(RULES[kind](**options), sent))


_FROM = "computed: 13 vectors of 1,000 numbers, 10 honest ones N(1, .1^2)"
LAWS = (
    Law(
        "robust_aggregates",
        "three Byzantine of 13 move the mean by .8 to 77 times its length, and robust aggregates by less than .11",
        _FROM,
        _static,
    ),
    Law(
        "robust_alie",
        "a little is enough moves no aggregate further than honest noise does: it is not seen in one round",
        f"{_FROM}; the attack: Baruch, Baruch, Goldberg, NeurIPS 2019, arXiv 1902.06156",
        _alie,
    ),
)
