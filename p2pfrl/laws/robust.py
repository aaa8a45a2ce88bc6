"""Laws of robust rules: how far Byzantine agents move what honest ones compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from p2pfrl.consensus.aggregators import RULES as AGGREGATORS
from p2pfrl.consensus.aggregators.base import Aggregator, Arrived
from p2pfrl.consensus.aggregators.coordinates import TrimmedMean
from p2pfrl.consensus.mixing import RULES
from p2pfrl.consensus.mixing.base import Mixing
from p2pfrl.consensus.mixing.robust import Bridge, ClippedGossip, Neighborhood
from p2pfrl.consensus.theory import spectral_gap
from p2pfrl.core.contract import turn_of
from p2pfrl.core.graph import Graph, undirected
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import FLAT, Array, Table, play

AGENTS, BYZANTINE, SIZE = 13, 3, 1000
_RULES: dict[str, dict[str, object]] = {
    "mean": {},
    "median": {},
    "trimmed_mean": {"byzantine": BYZANTINE},
    "krum": {"byzantine": BYZANTINE},
    "multi_krum": {"byzantine": BYZANTINE, "selected": 9},
    "geometric_median": {},
}
_MIXING: dict[str, Table] = {
    "metropolis": {"kind": "metropolis"},
    "clipped_gossip": {"kind": "clipped_gossip", "byzantine": BYZANTINE},
    "bridge": {"kind": "bridge", "byzantine": BYZANTINE},
    "trimmed_mean of neighbors": {
        "kind": "neighborhood",
        "aggregator": {"kind": "trimmed_mean", "byzantine": BYZANTINE},
    },
}
_AGGREGATORS: dict[str, Table] = {
    kind: {"kind": kind, **({"byzantine": BYZANTINE} if kind not in ("mean", "bulyan") else {})}
    for kind in (
        *("mean", "median", "trimmed_mean", "geometric_median", "krum", "multi_krum", "mda"),
        *("centered_clipping", "bulyan"),
    )
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
                measured = error(AGGREGATORS[kind](**options), sent[attack])
                slack = max(0.1 * value, 0.005)
                yield near(f"seed {seed}, {attack}: {kind}", value, measured, slack, digits=3)


def _alie() -> Iterator[Figure]:
    for seed in (1, 2):
        sent = rows(seed)["alie, z = 1"]
        for kind, options in _RULES.items():
            yield at_most(f"seed {seed}: {kind}", 0.11, error(AGGREGATORS[kind](**options), sent))


def neighbors(
    rule: Mixing, graph: Graph, liars: Sequence[int], attack: str, rounds: int, seed: int = 1
) -> tuple[float, float]:
    """Return how far honest agents are apart after mixing, and how far their mean has moved.

    Both are relative to how far they were apart at first. Liars send uniform noise of +-1000, or to
    each honest agent i its vector minus 1.5 sum_j w_ij (x_j - x_i) / sum_b w_ib ("dissensus"), the
    sums over honest j and liars b.
    """
    rng = np.random.default_rng(seed)
    rows = rule.weights(graph)
    honest = [i for i in range(graph.n) if i not in liars]
    x = rng.standard_normal((graph.n, 10))
    first = x[honest].mean(axis=0)
    unit = _spread(x[honest])
    for _ in range(rounds):
        noise = rng.uniform(-1000.0, 1000.0, x.shape)
        after = x.copy()
        for i in honest:
            received = {j: x[j] for j in rows[i] if j != i}
            lies = [j for j in received if j in liars]
            pull = sum(rows[i][j] * (x[j] - x[i]) for j in received if j not in liars)
            weight = sum(rows[i][j] for j in lies)
            for j in lies:
                received[j] = noise[j] if attack == "noise" else x[i] - 1.5 * pull / weight
            after[i], _ = rule.mix(turn_of(i, x[i], x[i]), received, rows[i], ())
        x = after
    return _spread(x[honest]) / unit, float(np.linalg.norm(x[honest].mean(axis=0) - first)) / unit


def _spread(x: Array) -> float:
    """Return sqrt(mean_i ||x_i - mean||^2)."""
    return float(np.sqrt(np.square(x - x.mean(axis=0)).sum(axis=1).mean()))


def _clipped() -> Iterator[Figure]:
    graph = undirected(AGENTS, [(i, j) for i in range(AGENTS) for j in range(i)])
    liars = range(AGENTS - BYZANTINE, AGENTS)
    rules = {
        "metropolis": RULES["metropolis"](),
        "clipped_gossip, tau of the paper": ClippedGossip(attackers=tuple(liars)),
        "clipped_gossip": ClippedGossip(byzantine=BYZANTINE),
        "bridge": Bridge(byzantine=BYZANTINE),
        "neighborhood, trimmed_mean": Neighborhood(aggregator=TrimmedMean(byzantine=BYZANTINE)),
    }
    for kind, rule in rules.items():
        for attack in ("noise", "dissensus"):
            apart, moved = neighbors(rule, graph, liars, attack, 100)
            if kind != "metropolis":
                yield at_most(f"{kind}, {attack}: distance between agents", 1e-8, apart)
                yield at_most(
                    f"{kind}, {attack}: distance of their mean from its start", 0.5, moved
                )
            elif attack == "noise":
                yield at_least(
                    f"{kind}, {attack}: distance of their mean from its start", 10, moved
                )
            else:
                yield at_least(f"{kind}, {attack}: distance between agents", 1e12, apart)
    apart, _ = neighbors(Neighborhood(), graph, liars, "dissensus", 100)
    yield near("neighborhood, median, dissensus: distance between agents", 0.45, apart, 0.1, 2)


def _bottleneck() -> Iterator[Figure]:
    for liars, honest, low, high in (
        (0, "they agree", 0.0, 1e-3),
        (1, "they stay apart", 0.2, 0.5),
    ):
        graph, names = dumbbell(liars)
        apart, _ = neighbors(ClippedGossip(attackers=names), graph, names, "dissensus", 500)
        what = f"{liars} liars beside each end of the bridge: distance after 500 rounds ({honest})"
        yield Figure(what, f"{low:g} to {high:g}", apart, low, high)
    graph, names = dumbbell(2)
    apart, _ = neighbors(ClippedGossip(attackers=names), graph, names, "dissensus", 500)
    yield at_least("2 liars beside each end: distance after 500 rounds (it diverges)", 1e6, apart)
    rule = ClippedGossip(attackers=names)
    share = rule.delta_max(graph) / spectral_gap(rule.weights(graph)) ** 2
    yield at_least("2 liars beside each end: delta_max / gap^2, which validate prints", 100, share)


def _agents() -> Iterator[Figure]:
    """Yield the same with real agents, codec and network: plain rules fail, robust ones agree."""
    liars = (10, 11, 12)
    for attack in ("noise", "dissensus"):
        told = (
            {"kind": attack, "agents": liars, **({"eps": 1.5} if attack == "dissensus" else {})},
        )
        for kind, mixing in _MIXING.items():
            run = play(
                13, 20, learner=FLAT, topology={"kind": "complete"}, mixing=mixing, attacks=told
            )
            apart = run.summary["consensus_distance"] / run.summary["initial_consensus_distance"]
            moved = float(np.abs(run.parameters[:10]).max())
            if kind != "metropolis":
                yield at_most(f"{kind}, {attack}: distance between honest agents", 1e-3, apart)
                yield at_most(f"{kind}, {attack}: largest parameter of honest agents", 5.0, moved)
            else:
                yield at_least(
                    f"{kind}, {attack}: largest parameter of honest agents", 100.0, moved
                )
    lies = ({"kind": "noise", "agents": liars},)
    for kind, aggregator in _AGGREGATORS.items():
        learner = {"dimension": 16, "noise": 0.1, "lr": 0.1}
        run = play(
            13,
            20,
            mode="central",
            learner=learner,
            coordinator={"aggregator": aggregator},
            attacks=lies,
        )
        moved = float(np.abs(run.parameters).max())
        if kind == "mean":
            yield at_least(f"coordinator, {kind}, noise: largest parameter", 100.0, moved)
        else:
            yield at_most(f"coordinator, {kind}, noise: largest parameter", 10.0, moved)


def dumbbell(liars: int) -> tuple[Graph, tuple[int, ...]]:
    """Return two cliques of five agents with a bridge, and liars that know one of its ends only."""
    edges = [(i, j) for first in (0, 5) for i in range(first, first + 5) for j in range(first, i)]
    names = tuple(range(10, 10 + 2 * liars))
    own = [
        (end, names[number * liars + k]) for number, end in enumerate((4, 5)) for k in range(liars)
    ]
    return undirected(10 + len(names), [*edges, (4, 5), *own]), names


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
    Law(
        "clipped_gossip",
        "ten honest agents of thirteen agree under noise and dissensus, where plain gossip goes anywhere or diverges",
        "He, Karimireddy, Jaggi, 2022, arXiv 2202.01545; computed on the complete graph",
        _clipped,
    ),
    Law(
        "robust_agents",
        "three Byzantine of 13 take agents with plain rules anywhere, and those with robust rules nowhere",
        "computed",
        _agents,
        is_slow=True,
    ),
    Law(
        "clipped_gossip_bottleneck",
        "liars at a bottleneck keep honest agents apart, or drive them apart: delta_max is far above gap^2",
        "He, Karimireddy, Jaggi, 2022, arXiv 2202.01545; computed on two cliques with a bridge",
        _bottleneck,
    ),
)
