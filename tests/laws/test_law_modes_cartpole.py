"""Gossip, central and independent learning of CartPole at equal samples: talking to two neighbors is nearly enough."""

from __future__ import annotations

import pytest

from p2pfrl.bench.laws.runs import Table, play
from p2pfrl.results.record import Record

WAYS: dict[str, tuple[str, dict[str, Table]]] = {
    "ring": ("gossip", {}),
    "lossy ring": ("gossip", {"network": {"loss": 0.3}}),
    "central": ("central", {}),
    "independent": ("independent", {}),
}


def learn(way: str, seed: int, rounds: int) -> Record:
    """Run 8 agents of 2 instances x 32 steps per round: too few samples to learn fast alone."""
    mode, tables = WAYS[way]
    return play(
        8, rounds, mode=mode, seed=seed, environment={"id": "CartPole-v1", "instances": 2},
        learner={"kind": "ppo", "lr": 3e-3, "steps": 32}, evaluation={"episodes": 5, "every": 1000}, **tables,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_ring_learns_like_a_coordinator_and_faster_than_agents_alone(seed: int) -> None:
    runs = {way: learn(way, seed, 100) for way in WAYS}
    area = {way: float(run.metrics["return_mean"][5:].mean()) for way, run in runs.items()}
    final = {way: float(run.metrics["evaluation_own"][-1]) for way, run in runs.items()}
    apart = {way: float(run.metrics["consensus_distance"][-1]) for way, run in runs.items()}
    for way in WAYS:
        print(f"seed {seed} {way}: mean return {area[way]:.0f}, final {final[way]:.0f}, distance {apart[way]:.2f}")
    assert len({run.summary["env_steps"] for run in runs.values()}) == 1
    assert area["ring"] >= 1.15 * area["independent"]
    assert final["ring"] >= final["independent"] + 50
    assert area["ring"] == pytest.approx(area["central"], rel=0.1)
    assert area["lossy ring"] > 1.05 * area["independent"]
    assert final["lossy ring"] >= 400
    assert apart["central"] < 1e-5 < apart["ring"] < 0.2 * apart["independent"]


def test_disagreement_is_least_with_a_coordinator_and_most_alone() -> None:
    apart = {way: float(learn(way, 4, 12).metrics["consensus_distance"][-1]) for way in WAYS}
    assert apart["central"] < 1e-5 < apart["ring"] < apart["lossy ring"] < 0.5 * apart["independent"]
