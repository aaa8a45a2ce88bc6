"""Laws of asynchronous policy gradients: the effect of the look-ahead and of no barrier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from p2pfrl.consensus.server_optimizers.momentum import NormalizedMomentum
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import FLAT, Array, Table, play
from p2pfrl.laws.watch import watched

_STEP = 0.01
_NEARLY_NOTHING: Table = {"latency": "1us", "bandwidth": "100Gbit/s"}


def momentum_errors(
    agents: int, kind: str, alpha: float, steps: int, *, looks_ahead: bool, seed: int = 1
) -> Array:
    """Return d_k + grad J(x_k) per step, `(steps, d)`: estimate minus gradient.

    Gradients are fresh and exact: there is one agent, or all agents are in step.
    """
    with watched(NormalizedMomentum, "step") as calls:
        record = play(
            agents,
            steps,
            mode="central",
            seed=seed,
            exchange={"payload": "gradient"},
            schedule={"kind": kind},
            learner={"curvature": [1.0, 10.0]},
            coordinator={
                "server_optimizer": {"kind": "normalized_momentum", "alpha": alpha, "lr": 0.05}
            },
            correction={"kind": "lookahead", "alpha": alpha if looks_ahead else 1.0},
        )
    A, x_star = record.problem["A"], record.problem["x_star"]
    out = []
    for (model, _, _, _), (_, (direction,)) in calls:
        gradient = np.einsum("nij,nj->i", A, model - x_star) / agents
        out.append(direction + gradient)
    return np.array(out)


def _transport() -> Iterator[Figure]:
    ways = ((1, "asynchronous", 0.1, 60), (1, "asynchronous", 0.3, 15), (4, "synchronous", 0.1, 60))
    for agents, kind, alpha, steps in ways:
        errors = momentum_errors(agents, kind, alpha, steps, looks_ahead=True)
        sizes = np.linalg.norm(errors, axis=1)
        ratio = sizes[1:] / sizes[:-1]
        worst = float(ratio[np.argmax(np.abs(ratio - (1.0 - alpha)))])
        what = f"{agents} agent{'s' * (agents > 1)}, {kind}, alpha = {alpha}"
        yield near(f"{what}: e_k / e_(k-1)", 1.0 - alpha, worst, 1e-10)
        rest = np.abs(errors[1:] - (1.0 - alpha) * errors[:-1]).max()
        yield at_most(
            f"{what}: largest coordinate of e_k - (1 - alpha) e_(k-1)", 1e-10, float(rest)
        )
    ahead, behind = (
        np.linalg.norm(momentum_errors(1, "asynchronous", 0.1, 60, looks_ahead=way)[-1])
        for way in (True, False)
    )
    yield at_least("e_59 without look-ahead / with", 20.0, float(behind / ahead))


def throughput(mode: str, kind: str, times: list[float], steps: int) -> float:
    """Return the updates per STEP of agents whose local updates take `times` STEPs."""
    run = play(
        len(times),
        None,
        mode=mode,
        stop={"virtual_time": (steps + 0.5) * _STEP},
        learner=FLAT,
        schedule={"kind": kind},
        topology={"kind": "complete"},
        compute={"seconds_per_env_step": _STEP, "speed": [1.0 / t for t in times]},
        network=_NEARLY_NOTHING,
    )
    assert run.metrics["consensus_distance"][-1] < 1e-3 * run.summary["initial_consensus_distance"]
    assert run.staleness.sum() > 0
    return float(run.summary["env_steps"] / steps)


def _throughput() -> Iterator[Figure]:
    for times, gain in (
        ([1.0, 1.0, 1.0, 4.0], 3.25),
        ([1.0, 2.0, 3.0, 4.0], 25 / 12),
        ([1.0, 1.0, 1.0, 100.0], 75.25),
    ):
        for mode in ("gossip", "central"):
            fast, slow = (
                throughput(mode, kind, times, 600) for kind in ("asynchronous", "synchronous")
            )
            total = sum(1.0 / t for t in times)
            what = f"{mode}, seconds per update {times}"
            yield near(f"{what}: updates per second without a barrier", total, fast, 0.01 * total)
            yield near(f"{what}: with one / without", gain, fast / slow, 0.01 * gain)


_CARTPOLE: dict[str, Any] = {
    "environment": {"id": "CartPole-v1", "instances": 1},
    "learner": {"kind": "reinforce", "episodes": 4, "hidden": [16, 16], "baseline": "none"},
    "exchange": {"payload": "gradient"},
    "coordinator": {"server_optimizer": {"kind": "normalized_momentum", "alpha": 0.2, "lr": 0.05}},
    "compute": {"speed": [1.0, 1.0, 1.0, 0.25]},
    "evaluation": {"episodes": 0},
}


def seconds_to_400(seed: int, kind: str, alpha: float) -> float:
    """Return the virtual seconds to a mean return of 400 for four agents, one of them slow."""
    record = play(
        4,
        1000,
        mode="central",
        seed=seed,
        schedule={"kind": kind},
        correction={"kind": "lookahead", "alpha": alpha},
        stop={"target_return": 400.0},
        **_CARTPOLE,
    )
    assert record.summary["stopped_by"] == "target_return", record.summary["stopped_by"]
    return float(record.metrics["virtual_seconds"][-1])


def _cartpole() -> Iterator[Figure]:
    ratios = []
    for seed in range(1, 6):
        barrier, none = (
            seconds_to_400(seed, kind, alpha)
            for kind, alpha in (("synchronous", 1.0), ("asynchronous", 0.2))
        )
        ratios.append(barrier / none)
        yield at_least(f"seed {seed}: seconds to 400 with a barrier / without", 1.0, barrier / none)
    yield at_least("median of five", 2.5, float(np.median(ratios)))


LAWS = (
    Law(
        "lookahead",
        "from look-ahead points the error of the momentum shrinks by 1 - alpha a step, exactly, on a quadratic",
        "Lan et al., ICLR 2025, arXiv 2404.08003; Arnold et al., NeurIPS 2019, arXiv 1906.03532",
        _transport,
    ),
    Law(
        "throughput",
        "without a barrier agents make sum 1 / t_i updates a second, with one n / max t_i",
        "Lan et al., ICLR 2025, arXiv 2404.08003",
        _throughput,
    ),
    Law(
        "afedpg_cartpole",
        "asynchronous policy gradients of four agents, one four times slower, reach a CartPole return of 400 sooner",
        "Lan et al., ICLR 2025, arXiv 2404.08003",
        _cartpole,
        is_slow=True,
    ),
)
