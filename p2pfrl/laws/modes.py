"""Law of modes: gossip, central and independent learning of CartPole at equal samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import play
from p2pfrl.results.record import Record

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "ring": ("gossip", {}),
    "lossy ring": ("gossip", {"network": {"loss": 0.3}}),
    "central": ("central", {}),
    "independent": ("independent", {}),
}


def learn(way: str, seed: int, rounds: int) -> Record:
    """Run 8 agents with 2 instances x 32 steps per round, few samples for a single agent."""
    mode, tables = WAYS[way]
    return play(
        8,
        rounds,
        mode=mode,
        seed=seed,
        environment={"id": "CartPole-v1", "instances": 2},
        learner={"kind": "ppo", "lr": 3e-3, "steps": 32},
        evaluation={"episodes": 5, "every": 1000},
        **tables,
    )


def _modes() -> Iterator[Figure]:
    """Yield ratios of means over seeds: a single seed says little, and differs by processor."""
    areas: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in (1, 2, 3):
        runs = {way: learn(way, seed, 100) for way in WAYS}
        for way, run in runs.items():
            areas[way].append(float(run.metrics["return_mean"][5:].mean()))
        apart = {way: float(run.metrics["consensus_distance"][-1]) for way, run in runs.items()}
        yield at_most(f"seed {seed}: consensus distance, central", 1e-5, apart["central"])
        yield at_most(
            f"seed {seed}: consensus distance, ring", 0.2 * apart["independent"], apart["ring"]
        )
    area = {way: sum(found) / len(found) for way, found in areas.items()}
    alone = area["independent"]
    what = "mean return over three seeds"
    yield at_least(f"{what}, ring / independent", 1.15, area["ring"] / alone)
    yield at_least(f"{what}, ring with 30% loss / independent", 1.05, area["lossy ring"] / alone)


def _apart() -> Iterator[Figure]:
    apart = {way: float(learn(way, 4, 6).metrics["consensus_distance"][-1]) for way in WAYS}
    yield at_most("consensus distance, central", 1e-5, apart["central"])
    yield at_most("consensus distance, ring", apart["lossy ring"], apart["ring"])
    yield at_most(
        "consensus distance, ring with 30% loss", 0.5 * apart["independent"], apart["lossy ring"]
    )


LAWS = (
    Law(
        "modes_cartpole",
        "a ring learns CartPole faster than agents alone, on average over seeds, even with 30% loss",
        "computed",
        _modes,
        is_slow=True,
    ),
    Law(
        "modes_apart",
        "agents are closest with a coordinator, then on a ring, then on a ring with 30% loss, then alone",
        "computed",
        _apart,
    ),
)
