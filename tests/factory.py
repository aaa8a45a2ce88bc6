"""Synthetic records: the shapes and columns of real runs, from closed forms and a seed."""

from __future__ import annotations

import numpy as np

from p2pfrl.core.graph import Graph
from p2pfrl.core.rng import generator
from p2pfrl.results.record import METRICS, Event, Interval, Record

SPEEDS = {"gossip": 1.0, "central": 0.8, "independent": 2.2, "pooled": 0.7}
MESSAGES = {"gossip": 2.0, "central": 2.0, "independent": 0.0, "pooled": 1.0}


def ring(n: int) -> Graph:
    return Graph(tuple(tuple(sorted({(i - 1) % n, (i + 1) % n} - {i})) for i in range(n)))


def scatter(n: int, seed: int, degree: int = 4) -> Graph:
    rng = generator(seed, "graph")
    neighbors = [{(i + 1) % n, (i - 1) % n} - {i} for i in range(n)]
    for i, j in rng.integers(0, n, size=(n * (degree - 2) // 2, 2)).tolist():
        if i != j:
            neighbors[i].add(j)
            neighbors[j].add(i)
    return Graph(tuple(tuple(sorted(s)) for s in neighbors))


def record(
    n: int = 16,
    *,
    rounds: int = 60,
    mode: str = "gossip",
    seed: int = 1,
    quadratic: bool = False,
    vary: bool = False,
    agree: bool = False,
    trace: bool = False,
    graph: Graph | None = None,
    target: float = 475.0,
) -> Record:
    """Return what a run of `n` agents over `rounds` rounds could have left behind.

    Args:
        quadratic: a problem with a known optimum and no returns.
        vary: agents differ in difficulty.
        agree: the consensus distance is zero throughout.
        trace: with events.
    """
    rng = generator(seed, mode, "record")
    t = np.arange(1, rounds + 1, dtype=np.float64)
    lambda_2 = (
        None
        if mode != "gossip" or n == 1
        else (1.0 + 2.0 * np.cos(2 * np.pi / n)) / 3.0
        if n > 2
        else 1e-17
    )
    difficulty = 0.5 + 0.2 * np.arange(n) if vary else np.ones(n)
    pace = rounds / 5 * SPEEDS[mode] * (0.8 + 0.4 * rng.random(n)) * difficulty**0.5
    returns = (
        20
        + 470 / (1 + np.exp(-(t[:, None] - 2.2 * pace) / (pace * 0.5)))
        + rng.normal(0, 8, (rounds, n))
    )
    returns = np.where(np.isfinite(returns), np.clip(returns, 9, 500), np.nan)
    returns[: min(1, rounds - 1)] = np.nan
    bytes_per_round = 18_900.0 * MESSAGES[mode] * n * (n > 1)
    floor = 0.9 if mode == "independent" else 4e-3
    learned = (
        np.zeros(rounds)
        if quadratic
        else 0.4 * np.exp(-(((t - 0.3 * rounds) / (0.25 * rounds)) ** 2))
    )
    mixed = 3.0 * (lambda_2 or 0.9) ** t * quadratic
    distance = (
        np.zeros(rounds) if agree else mixed + learned + floor * (1 + 0.1 * rng.random(rounds))
    )
    metrics = {name: np.full(rounds, np.nan) for name in METRICS}
    metrics |= {
        "round": t,
        "virtual_seconds": t * (0.05 + 0.002 * n * (mode == "central"))
        + 0.001 * rng.random(rounds).cumsum(),
        "env_steps": t * 256 * n,
        "consensus_distance": distance,
        "mean_drift": np.abs(rng.normal(0, 1e-9, rounds)),
        "bytes_sent": t * bytes_per_round,
        "messages_dropped": np.zeros(rounds),
        "active": np.full(rounds, float(n)),
    }
    if quadratic:
        error = 4 * 0.93**t + 0.02
        metrics |= {"objective": 1.5 + error**2, "error": error}
    else:
        evaluated = (t % 10 == 0) | (t == rounds)
        metrics |= {
            "return_mean": returns.mean(axis=1),
            "return_min": returns.min(axis=1),
            "return_max": returns.max(axis=1),
            "evaluation_own": np.where(
                evaluated, np.nan_to_num(returns.mean(axis=1)) * 1.01, np.nan
            ),
            "evaluation_mean_parameters": np.where(
                evaluated, np.nan_to_num(returns.mean(axis=1)) * 1.02, np.nan
            ),
        }
    shape = (rounds, n)
    agents = {
        "round": np.repeat(np.arange(1, rounds + 1), n),
        "agent": np.tile(np.arange(n), rounds),
        "virtual_seconds": np.repeat(metrics["virtual_seconds"], n),
        "return": np.full(rounds * n, np.nan) if quadratic else returns.ravel(),
        "episodes": np.repeat(np.arange(1, rounds + 1) * 3, n),
        "loss": rng.random(rounds * n),
        "disagreement": (distance[:, None] * (0.5 + rng.random(shape))).ravel(),
        "bytes_sent": np.repeat((t * bytes_per_round / n).astype(np.int64), n),
        "staleness": np.zeros(rounds * n),
    }
    if vary:
        agents["physics_difficulty"] = np.tile(difficulty, rounds)
    reached = np.flatnonzero(metrics["return_mean"] >= target)
    first = int(reached[0]) if len(reached) else None
    final = returns[-1] if not quadratic else np.full(n, np.nan)
    summary = {
        "name": f"ring_{n}",
        "mode": mode,
        "seed": seed,
        "digest": "5f0c2a71d94e83b6",
        "rounds": rounds,
        "virtual_seconds": float(metrics["virtual_seconds"][-1]),
        "wall_seconds": 3.25,
        "env_steps": int(metrics["env_steps"][-1]),
        "messages_sent": int(rounds * MESSAGES[mode] * n),
        "messages_delivered": int(rounds * MESSAGES[mode] * n),
        "messages_dropped": 0,
        "messages_late": 0,
        "deadlines_expired": 0,
        "bytes_sent": int(metrics["bytes_sent"][-1]),
        "final_return": None
        if quadratic
        else {
            "mean": final.mean(),
            "min": final.min(),
            "max": final.max(),
            "iqm": float(np.median(final)),
        },
        "evaluation": {
            "own": metrics["evaluation_own"][-1],
            "mean_parameters": metrics["evaluation_mean_parameters"][-1],
        },
        "target_reached": first is not None,
        "time_to_target": None
        if first is None
        else {
            "rounds": int(t[first]),
            "env_steps": int(metrics["env_steps"][first]),
            "virtual_seconds": float(metrics["virtual_seconds"][first]),
            "bytes": int(metrics["bytes_sent"][first]),
        },
        "consensus_distance": float(distance[-1]),
        "mean_drift": 1e-9,
        "staleness": {"mean": 0.6, "p95": 2.0, "max": 4},
        "mean_batch": float(n),
        "versions": {"p2pfrl": "0.1.0", "python": "3.11", "numpy": "2.4", "torch": "2.13"},
    }
    timeline, clock = [], np.zeros(n)
    for _ in range(min(rounds, 8)):
        done = clock + 0.03 * (0.7 + 0.6 * rng.random(n))
        heard = np.maximum(np.maximum(np.roll(done, 1), np.roll(done, -1)), done) + 0.008
        for agent in range(n):
            timeline += [
                Interval(agent, "train", float(clock[agent]), float(done[agent])),
                Interval(agent, "send", float(done[agent]), float(done[agent] + 0.004)),
                Interval(agent, "wait", float(done[agent] + 0.004), float(heard[agent])),
            ]
        clock = heard
    events = tuple(
        event
        for k in range(2 * n)
        for event in (
            Event(1000 * k, "send", k % n, (k + 1) % n, k // n, 77 + k),
            Event(1000 * k + 400, "deliver", k % n, (k + 1) % n, k // n, 77 + k),
        )
    )
    return Record(
        scenario=(
            f'name = "ring_{n}"\nseed = {seed}\nagents = {n}\nmode = "{mode}"\n\n'
            f"[stop]\nrounds = {rounds}\ntarget_return = {target}\n"
        ),
        summary=summary,
        metrics=metrics,
        agents=agents,
        parameters=rng.normal(size=(n, 12)).astype(np.float64 if quadratic else np.float32),
        layout=(("actor.weight", (2, 4)), ("actor.bias", (2,)), ("critic.bias", (2,))),
        problem={"A": np.eye(3)[None].repeat(n, 0), "x_star": rng.normal(size=(n, 3))}
        if quadratic
        else {},
        graph=graph or (ring(n) if mode == "gossip" else Graph(((),) * n)),
        coordinators={-1: tuple(range(n))} if mode in ("central", "pooled") else {},
        lambda_2=None if lambda_2 is None else float(lambda_2),
        staleness=np.array([700, 310, 120, 40, 11], dtype=np.int64),
        timeline=tuple(timeline),
        heterogeneity={"difficulty_cv": float(difficulty.std() / difficulty.mean())}
        if vary
        else {},
        events=events if trace else None,
    )
