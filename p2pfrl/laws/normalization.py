"""Laws of normalization: statistics of all agents, and agents whose sensors differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import play
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.normalization import PART, Moments
from p2pfrl.results.record import Record
from p2pfrl.scenario import loads
from p2pfrl.scenario.bind import outline


@rule
class Sensors(CartPole):
    """CartPole whose sensors have a gain and an offset: an agent observes gain x + offset."""

    @property
    @override
    def spec(self) -> Spec:
        known = super().spec
        return replace(known, physics={**known.physics, "gain": 1.0, "offset": 0.0})

    @override
    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        gain, offset = physics["gain"][..., None], physics["offset"][..., None]
        shown: NDArray[np.float32] = gain * super().observe(state, physics) + offset
        return shown.astype(np.float32)


def sensed(seed: int, statistics: str | None, rounds: int = 40) -> Record:
    """Run six agents with unlike sensors that share a policy, by PPO."""
    learner: dict[str, Any] = {"kind": "ppo", "hidden": [32, 32]}
    if statistics is not None:
        learner |= {"normalize_observations": True, "statistics": statistics}
    vary = {
        "gain": {"kind": "lognormal", "median": 1.0, "sigma": 1.0},
        "offset": {"kind": "normal", "mean": 0.0, "std": 3.0},
    }
    return play(
        6,
        rounds,
        mode="central",
        seed=seed,
        environment={"id": f"{__name__}:Sensors", "instances": 4, "vary": vary},
        learner=learner,
        evaluation={"episodes": 20},
    )


def _sensors() -> Iterator[Figure]:
    for seed in (1, 2, 3):
        found = {
            kind: float(sensed(seed, kind).summary["evaluation"]["own"])
            for kind in (None, "personal", "averaged", "merged")
        }
        personal = found.pop("personal")
        what = f"seed {seed}: return with personal statistics / best of averaged, merged, none"
        yield at_least(what, 1.5, personal / max(found.values()))


def walked(mode: str, statistics: str, agents: int = 4) -> NDArray[np.float64]:
    """Return number, first and second of the observations of agents that act at random."""
    tables: dict[str, Any] = {
        "environment": {
            "id": "CartPole-v1",
            "instances": 1,
            "vary": {"gravity": {"kind": "linspace", "low": 5.0, "high": 15.0}},
        },
        "learner": {
            "kind": "dqn",
            "hidden": [4],
            "steps": 32,
            "epsilon_end": 1.0,
            "normalize_observations": True,
            "statistics": statistics,
        },
    }
    record = play(agents, 6, mode=mode, **tables)
    layout = outline(loads(record.scenario)).layout
    rows = layout.zeros(agents)
    layout.unpack(record.parameters, rows)
    return layout.pack(rows, [PART]).astype(np.float64)


def _merged() -> Iterator[Figure]:
    alone, found = walked("independent", "personal"), walked("central", "merged")
    size = (alone.shape[1] - 1) // 2
    one = [Moments(row[:1], row[None, 1 : 1 + size], row[None, 1 + size :]) for row in alone]
    pooled = one[0]
    for other in one[1:]:
        pooled = pooled.joined(other)
    mean = found[:, 1 : 1 + size] / found[:, :1]
    variance = found[:, 1 + size :] / found[:, :1] - np.square(mean)
    apart = np.abs(mean - pooled.mean) / np.sqrt(pooled.variance)
    yield at_most("distance of means, in standard deviations", 1e-5, float(apart.max()))
    ratio = np.abs(variance / pooled.variance - 1.0)
    yield at_most("distance of variances, relative", 1e-5, float(ratio.max()))


LAWS = (
    Law(
        "merged_statistics",
        "merged statistics of observations are those of all agents' observations together, in float32",
        "after Chan, Golub, LeVeque, report STAN-CS-79-773, 1979; computed",
        _merged,
    ),
    Law(
        "personal_statistics",
        "agents whose sensors have unlike gains and offsets learn one policy with personal statistics alone",
        "after Pang et al., IJCNN 2025, arXiv 2605.27385, where dynamics differ and not sensors; computed",
        _sensors,
        is_slow=True,
    ),
)
