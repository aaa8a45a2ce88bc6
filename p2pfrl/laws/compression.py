"""Laws of compressed messages: their error, the effect of error feedback, and CHOCO's rate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.core.parameters import Vector
from p2pfrl.core.turn import NoMemory, Turn
from p2pfrl.exchange.compressors.base import Compressor
from p2pfrl.exchange.compressors.low_rank import LowRank
from p2pfrl.exchange.compressors.memory import ErrorFeedback
from p2pfrl.exchange.compressors.quantized import QSGD, Sign
from p2pfrl.exchange.compressors.sparse import RandK, TopK
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import Table, play, start
from p2pfrl.results.record import Record

AGENTS, DIMENSION = 16, 200
_LEVELS: Table = {"kind": "qsgd", "levels": 16, "contractive": True}
_TENTH: Table = {"kind": "topk", "fraction": 0.1}
_NOTHING = np.zeros(1)


def message(count: int, seed: int = 1) -> Turn:
    """Return the exchange that determines the random numbers of one message."""
    return Turn(
        0, count, "update", _NOTHING, _NOTHING, 1, 0.0, (), 0.0, (seed, 0, count), NoMemory()
    )


def lost(rule: Compressor, vectors: int, draws: int) -> float:
    """Return the mean of ||Q(x) - x||^2 / ||x||^2 over Gaussian vectors, as decoded."""
    total = 0.0
    for seed in range(vectors):
        x = np.random.Generator(np.random.PCG64(seed)).standard_normal(DIMENSION)
        for count in range(draws):
            data = rule.encode(x, message(count, seed), ()).data
            received = rule.decode(memoryview(data.tobytes()), DIMENSION, x.dtype)
            total += float(np.square(received - x).sum() / np.square(x).sum())
    return total / (vectors * draws)


def _compressors() -> Iterator[Figure]:
    w = min(DIMENSION / 16**2, DIMENSION**0.5 / 16)
    yield at_most("top 10 %: part of ||x||^2 that is lost", 0.9, lost(TopK(), 200, 1))
    yield near("top 10 % of a Gaussian", 0.564, lost(TopK(), 200, 1), 0.02, 3)
    yield near("random 10 %: 1 - k/d", 0.9, lost(RandK(), 20, 100), 0.01, 3)
    yield near("random 10 %, unbiased: d/k - 1", 9.0, lost(RandK(unbiased=True), 20, 100), 0.3, 3)
    yield at_most("QSGD of 16 levels: min(d/s^2, sqrt(d)/s)", w, lost(QSGD(), 20, 50))
    yield near("QSGD of a Gaussian", 0.130, lost(QSGD(), 20, 50), 0.005, 3)
    yield at_most("QSGD / (1 + w): w/(1+w)", w / (1 + w), lost(QSGD(contractive=True), 20, 50))
    yield near("sign of a Gaussian: 1 - 2/pi", 1 - 2 / np.pi, lost(Sign(), 200, 1), 0.01, 3)


def _feedback() -> Iterator[Figure]:
    for kind, inner in (("topk", TopK()), ("sign", Sign()), ("low_rank", LowRank())):
        rule, worst = ErrorFeedback(compressor=inner), 0.0
        for seed in range(3):
            state, total = rule.init(np.zeros(DIMENSION)), np.zeros(DIMENSION)
            rng = np.random.Generator(np.random.PCG64(seed))
            for count in range(50):
                x: Vector = rng.standard_normal(DIMENSION)
                made = rule.encode(x, message(count, seed), state)
                state = made.state
                total += x - rule.decode(memoryview(made.data.tobytes()), DIMENSION, x.dtype)
            worst = max(worst, float(np.abs(total - state[0]).max()))
        yield at_most(
            f"{kind}: sum of x - sum of what is sent - e, after 50 messages", 1e-12, worst
        )


def gossip(rounds: int, **tables: Table) -> tuple[Record, float, int]:
    """Average on a ring; return record, final over first distance, and the rounds to 1e-6."""
    learner: Table = {"lr": 0.0, "initial_spread": 1.0, "dimension": DIMENSION}
    mixing, compressor = (
        tables.get("mixing", {"kind": "metropolis"}),
        tables.get("compressor", {"kind": "none"}),
    )
    record = play(
        AGENTS,
        rounds,
        learner=learner,
        topology={"kind": "ring"},
        mixing=mixing,
        compressor=compressor,
    )
    points = start(record, 1, dimension=DIMENSION)
    first = float(np.sqrt(np.square(points - points.mean(axis=0)).sum(axis=1).mean()))
    distance = record.metrics["consensus_distance"] / first
    below = np.flatnonzero(distance <= 1e-6)
    reached = int(record.metrics["round"][below[0]]) if len(below) else rounds + 1
    return record, float(distance[-1]), reached


def _choco() -> Iterator[Figure]:
    exact, _, rounds = gossip(280)
    yield near("exact gossip: rounds to 1e-6", 245, rounds, 5, 3)
    per_round = exact.metrics["bytes_sent"][-1] / 280
    for name, inner, gamma, most, limit in (
        ("QSGD of 16 levels, gamma .8", _LEVELS, 0.8, 330, 1.3),
        ("top 10 %, gamma .3", _TENTH, 0.3, 900, 4.0),
    ):
        record, _, slower = gossip(
            most,
            mixing={"kind": "choco", "gamma": gamma},
            compressor={"kind": "difference", "compressor": inner},
        )
        yield at_most(f"{name}: rounds to 1e-6, over exact", limit, slower / rounds)
        saved = per_round * most / float(record.metrics["bytes_sent"][-1])
        yield at_least(f"{name}: bytes of a round, exact over it", 5.0, saved)
        yield at_most(f"{name}: drift of the mean", 1e-12, float(record.metrics["mean_drift"][-1]))
    _, distance, _ = gossip(200, compressor={"kind": "qsgd", "levels": 16})
    yield at_least("quantized without memory: where agreement stalls", 0.05, distance)


LAWS = (
    Law(
        "compressors",
        "compressors lose as much as their contracts state",
        "Alistarh et al., NeurIPS 2017, arXiv 1610.02132; Stich et al., NeurIPS 2018, arXiv 1809.07599; computed",
        _compressors,
    ),
    Law(
        "error_feedback",
        "all messages and the remaining error add up to the sum of all vectors",
        "Karimireddy, Rebjock, Stich, Jaggi, ICML 2019, arXiv 1901.09847",
        _feedback,
    ),
    Law(
        "choco",
        "compressed differences agree exactly, at a few times fewer bytes a round; the mean is kept",
        "Koloskova, Stich, Jaggi, ICML 2019, arXiv 1902.00340; computed",
        _choco,
        is_slow=True,
    ),
)
