"""Laws of asynchronous policy gradients: the effect of the look-ahead and of no barrier."""

from __future__ import annotations

from collections.abc import Iterator

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
    for times, gain, modes in (
        ([1.0, 1.0, 1.0, 4.0], 3.25, ("gossip", "central")),
        ([1.0, 2.0, 3.0, 4.0], 25 / 12, ("gossip",)),
        ([1.0, 1.0, 1.0, 20.0], 15.25, ("central",)),
    ):
        for mode in modes:
            fast, slow = (
                throughput(mode, kind, times, 120) for kind in ("asynchronous", "synchronous")
            )
            total = sum(1.0 / t for t in times)
            what = f"{mode}, seconds per update {times}"
            yield near(f"{what}: updates per second without a barrier", total, fast, 0.01 * total)
            yield near(f"{what}: with one / without", gain, fast / slow, 0.01 * gain)


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
)
