"""Coordinators crash and come back at any moment, on links that lose messages.

They crash alone and together with agents.

That nothing changes but time where nothing else goes wrong is a law of `p2pfrl bench laws`.
"""

import numpy as np
import pytest

from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.restarts import DOWN, outages
from p2pfrl.laws.runs import Table, play, text
from p2pfrl.laws.watch import watched
from p2pfrl.scenario import loads

TREE: dict[str, Table] = {"hierarchy": {"edges": 2, "edge_rounds": 2}}
KINDS: dict[str, tuple[str, dict[str, Table]]] = {
    "central": ("central", {"schedule": {"deadline": "300ms"}}),
    "quorum": ("central", {"schedule": {"deadline": "300ms", "quorum": 0.5}}),
    "asynchronous": ("central", {"schedule": {"kind": "asynchronous"}}),
    "buffered": ("central", {"schedule": {"kind": "buffered", "size": 4}}),
    "hierarchical": ("hierarchical", {"schedule": {"deadline": "300ms"}, **TREE}),
}


def timeline(seed: int, names: tuple[object, ...]) -> tuple[Table, ...]:
    """Return crashes and restarts of each of `names`, at times of its own."""
    rng = np.random.default_rng(seed)
    faults: list[Table] = []
    for name in names:
        times = np.sort(rng.uniform(0.0, 2.0, 4))
        faults += [
            {"at": f"{at:.3f}s", "kind": "restart" if number % 2 else "crash", "agents": [name]}
            for number, at in enumerate(times)
        ]
    return tuple(faults)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_whoever_crashes_and_comes_back_whenever(kind: str, seed: int) -> None:
    mode, tables = KINDS[kind]
    names = ("coordinator", 0, 3, *(("edge0", "edge1") if mode == "hierarchical" else ()))
    lossy = {**DOWN, "network": {**DOWN["network"], "loss": 0.1, "duplicate": 0.1}}
    scenario = loads(
        text(6, 80, mode=mode, seed=seed, faults=timeline(seed, names), **lossy, **tables)
    )
    record = simulate(scenario)
    assert record.summary["rounds"] >= 79, "the last model may be lost for an agent"
    assert record.summary["virtual_seconds"] < 60.0
    if seed == 0:
        assert record.summary["digest"] == simulate(scenario).summary["digest"]


def test_the_model_is_the_mean_of_all_who_were_asked_though_the_coordinator_crashed() -> None:
    faults = outages("coordinator")
    with watched(Mean, "aggregate") as calls:
        play(6, 30, mode="central", seed=3, faults=faults, **DOWN)
    done = {number: arguments[0] for number, (arguments, _) in enumerate(calls)}
    assert [sorted(arrived.sender for arrived in received) for received in done.values()] == [
        list(range(6))
    ] * 30


def test_agents_whose_coordinator_does_not_come_back_end_after_ten_deadlines() -> None:
    crash = ({"at": "305ms", "kind": "crash", "agents": ["coordinator"]},)
    run = play(6, 100, mode="central", faults=crash, schedule={"deadline": "1s"}, **DOWN)
    assert 10.3 < run.summary["virtual_seconds"] < 10.6
    assert run.summary["deadlines_expired"] == 6
    assert 0 < run.summary["rounds"] < 20
    parted = play(
        6,
        100,
        mode="hierarchical",
        faults=({**crash[0], "agents": ["edge0"]},),
        schedule={"deadline": "1s"},
        **DOWN,
        **TREE,
    )
    assert parted.summary["deadlines_expired"] == 3
    assert 300 < parted.summary["env_steps"] < 330, "the other edge and its agents went on"
