"""Laws of differential privacy: what noise costs, what it does to the mean and to agreement."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from p2pfrl.exchange.privacy.accountant import (
    epsilon_of_gaussian,
    epsilon_of_sampled,
    sigma_of,
)
from p2pfrl.laws.base import Figure, Law, at_most, near
from p2pfrl.laws.runs import FLAT, Table, play

_EXACT = (
    (1.0, 1, 4.377178),
    (2.0, 100, 33.103732),
    (5.0, 100, 9.997256),
    (10.0, 1000, 17.856587),
)
_SIGMA = ((0.5, 7.031826676), (1.0, 3.730631635), (3.0, 1.390593457), (8.0, 0.600229072))
_SAMPLED = (
    (256 / 60000, 1.1, 14062, 3.0091, 2.5970),
    (250 / 60000, 1.3, 3600, 1.1799, 0.9422),
    (0.01, 1.0, 1000, 2.5383, 2.1078),
)
_WHOLE = tuple(float(order) for order in range(2, 257))
_DELTA = 1e-5
_STILL: Table = {"dimension": 20000, "lr": 0.0, "curvature": [1.0, 1.0], "spread": 0.0}


def _accountant() -> Iterator[Figure]:
    for sigma, releases, epsilon in _EXACT:
        found = epsilon_of_gaussian(math.sqrt(releases) / sigma, _DELTA)
        yield near(f"{releases} releases of sigma {sigma:g}: epsilon", epsilon, found, 1e-6, 8)
    for epsilon, sigma in _SIGMA:
        found = sigma_of(epsilon, _DELTA)
        yield near(f"epsilon {epsilon:g} in one release: sigma", sigma, found, 1e-6, 10)
    for q, sigma, releases, classic, improved in _SAMPLED:
        what = f"q {q:.4g}, sigma {sigma:g}, {releases} releases"
        bounds = [
            epsilon_of_sampled(sigma, q, releases, _DELTA, orders=_WHOLE, conversion=conversion)
            for conversion in ("classic", "improved")
        ]
        yield near(f"{what}: classic epsilon", classic, bounds[0], 1e-3 * classic)
        yield near(f"{what}: improved epsilon", improved, bounds[1], 1e-3 * improved)


def _mean() -> Iterator[Figure]:
    run = play(
        10,
        1,
        mode="central",
        exchange={"payload": "delta"},
        learner=_STILL,
        privacy={"kind": "clip_noise", "clip": 0.5, "noise_multiplier": 2.0},
    )
    before = play(10, 1, mode="central", learner=_STILL)
    noise = run.parameters[0] - before.parameters[0]
    yield near("10 agents, sigma C = 1: noise of the mean", 10**-0.5, float(noise.std()), 0.008)


def _parts() -> Iterator[Figure]:
    secure: Table = {"kind": "secure_aggregation", "minimum": 7}
    noise: Table = {"kind": "distributed_noise", "clip": 0.5, "noise_multiplier": 2.0, "parts": 7}
    run = play(
        10,
        1,
        mode="central",
        exchange={"payload": "delta"},
        learner=_STILL,
        secure=secure,
        privacy=noise,
    )
    before = play(10, 1, mode="central", learner=_STILL)
    found = float((run.parameters[0] - before.parameters[0]).std())
    expected = (10 / 7) ** 0.5 / 10
    yield near("10 agents, sigma C = 1, k = 7: noise of the mean", expected, found, 0.003)
    epsilon = epsilon_of_gaussian(0.5, _DELTA)
    yield near("its epsilon, sigma = 2", epsilon, run.summary["privacy"]["epsilon"], 1e-9)
    whole = play(
        10,
        1,
        mode="central",
        exchange={"payload": "delta"},
        learner=_STILL,
        secure={**secure, "fraction_bits": 20},
        privacy={**noise, "discrete": True},
    )
    found = float((whole.parameters[0] - before.parameters[0]).std())
    yield near("discrete: noise of the mean", expected, found, 0.003)


def _sampled() -> Iterator[Figure]:
    """Releases of agents that take part by a coin of q = .2 each, sigma = 1.5, delta = 1e-3."""
    q, sigma, delta, rounds, agents = 0.2, 1.5, 1e-3, 60, 20
    still: Table = {**_STILL, "dimension": 5000}
    grid = np.linspace(-20.0, 25.0, 200_001)
    plain, moved = (np.exp(-np.square(grid - c) / (2 * sigma**2)) for c in (0.0, 1.0))
    mixed = (1.0 - q) * plain + q * moved
    claimed = math.exp(epsilon_of_sampled(sigma, q, 1, delta))
    unit = float(grid[1] - grid[0]) / (sigma * math.sqrt(2.0 * math.pi))
    for what, one, other in (("with", mixed, plain), ("without", plain, mixed)):
        found = float(np.maximum(one - claimed * other, 0.0).sum()) * unit
        yield at_most(f"delta at the epsilon of one release, {what} the agent", delta, found)
    run = play(
        agents,
        rounds,
        mode="central",
        exchange={"payload": "delta"},
        learner=still,
        coordinator={"participation": {"kind": "poisson", "probability": q}},
        privacy={
            "kind": "central_noise",
            "clip": 0.5,
            "noise_multiplier": sigma,
            "delta": delta,
            "sampled": q,
        },
    )
    found = run.summary["privacy"]["epsilon"]
    yield near("epsilon of 60 rounds", 4.6231, found, 1e-4)
    whole = epsilon_of_gaussian(math.sqrt(rounds) / sigma, delta)
    yield at_most("the same, as part of that without sampling", 0.2, found / whole)
    before = play(agents, 1, mode="central", learner=still)
    noise = float((run.parameters[0] - before.parameters[0]).std())
    expected = sigma * 0.5 / (q * agents) * math.sqrt(rounds)
    yield near("noise of the model: sigma C sqrt(T) / (q n)", expected, noise, 0.03 * expected)


def _agreement() -> Iterator[Figure]:
    run = play(
        8,
        80,
        topology={"kind": "ring"},
        learner={**FLAT, "dimension": 256, "initial_spread": 0.0},
        privacy={"kind": "clip_noise", "clip": 0.1, "noise_multiplier": 1.0},
    )
    apart = float(np.mean(8 * run.metrics["consensus_distance"][20:] ** 2 / 256))
    yield near(
        "ring of 8, sigma C = .1: sum_i ||x_i - mean||^2 / d", 0.040893, apart, 0.03 * 0.040893
    )
    moved = run.parameters.mean(axis=0)
    still = play(
        8,
        1,
        topology={"kind": "ring"},
        learner={**FLAT, "dimension": 256, "initial_spread": 0.0},
    )
    drift = float(np.std(moved - still.parameters.mean(axis=0)))
    yield near("the mean after 80 rounds: sigma C sqrt(80 / 8)", 0.316228, drift, 0.03)


LAWS = (
    Law(
        "privacy_accountant",
        "Gaussian releases: exact epsilon and sigma, and Renyi bounds where agents are sampled; delta = 1e-5",
        "Balle, Wang, ICML 2018, arXiv 1805.06530; Mironov et al., 2019, arXiv 1908.10530",
        _accountant,
    ),
    Law(
        "privacy_local_mean",
        "noise of sigma C that every agent adds by itself is sigma C / sqrt(n) in the mean",
        "McMahan et al., ICLR 2018, arXiv 1710.06963",
        _mean,
    ),
    Law(
        "privacy_distributed",
        "parts of noise, sigma C / sqrt(k), are sigma C sqrt(n / k) in a secure sum of n, with the epsilon of sigma",
        "Kairouz, Liu, Steinke, ICML 2021, arXiv 2102.06387",
        _parts,
    ),
    Law(
        "privacy_sampled",
        "secret coins of agents make releases cheaper: epsilon is a bound, and noise is sigma C / (q n) in a model",
        "Mironov, Talwar, Zhang, 2019, arXiv 1908.10530; McMahan et al., ICLR 2018, arXiv 1710.06963",
        _sampled,
    ),
    Law(
        "privacy_gossip",
        "released noise keeps neighbors apart as noise of gradients does, and moves their mean by sigma C sqrt(T / n)",
        "Cyffers et al., NeurIPS 2022, arXiv 2206.05091; Lian et al., NeurIPS 2017, arXiv 1705.09056",
        _agreement,
    ),
)
