"""Measures what privacy costs: returns against epsilon, and money against what a meter tells.

`PYTHONPATH=tests:tests/learning nice python tests/measure_privacy.py` measures tabular Q-learning
and CartPole against epsilon, the homes of `microgrid_ring` against the weight of `privacy_cost`,
and the error with which an observer reconstructs an observation from a gradient. It writes
docs/privacy.json and the figure docs/privacy_utility.png. With `--more` it measures only the seeds
that are not there, and `--table` prints the tables of what is there.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from learner_worlds import task

import p2pfrl
from p2pfrl.exchange.privacy.accountant import sigma_of
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.trainer import Trainer
from p2pfrl.results.statistics import estimate

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "privacy.json"
FIGURE = ROOT / "docs" / "privacy_utility.png"
SEEDS = tuple(range(1, 11))
EPSILONS = ("1", "3", "10", "infinity")
NOISES = ("1", "3", "10", "100", "1000", "infinity")
"""Epsilons of the releases that an observer reads; with infinity there is no noise."""
WEIGHTS = ("0", "0.02", "0.1")
"""Of `environment.privacy_weight`."""
METERS: Mapping[str, tuple[str, str]] = {
    "saved": ("saved, EUR", ".2f"),
    "privacy_cost": ("`privacy_cost`", ".3f"),
}
"""What is measured of a run -> row of the table, and format."""
SCENARIOS: Mapping[str, str] = {
    "tabular Q": "private_q",
    "CartPole": "private_cartpole",
}


def measure(name: str, epsilon: str, seed: int, **more: object) -> float:
    """Return the return of the final model in greedy episodes."""
    noise: dict[str, object] = {"privacy.target_epsilon": float(epsilon)}
    if epsilon == "infinity":
        noise = {"privacy": {"kind": "none"}}
    overrides = {"seed": seed, **noise, **more}
    with warnings.catch_warnings():  # without noise the other options of privacy have no effect
        warnings.simplefilter("ignore", p2pfrl.ScenarioWarning)
        scenario = p2pfrl.load(f"{SCENARIOS[name]}.toml", overrides=overrides)
    record = p2pfrl.run(scenario)
    return float(record.metrics["evaluation_mean_parameters"][-1])


def metered(weight: str, seed: int, **more: object) -> dict[str, float]:
    """Return the return of agents in greedy episodes, and what their meters tell.

    The latter is the mean of the measure `privacy_cost` over agents and the last ten rounds.
    """
    overrides = {"seed": seed, "environment.privacy_weight": float(weight), **more}
    record = p2pfrl.run(p2pfrl.load("microgrid_ring.toml", overrides=overrides))
    rows, rounds = record.agents, record.metrics["round"][-1]
    told = rows["privacy_cost"][rows["round"] > rounds - 10]
    return {
        "saved": float(record.summary["evaluation"]["own"]),
        "privacy_cost": float(np.nanmean(told)),
    }


def inversion(epsilon: str, seed: int = 1, agents: int = 200) -> float:
    """Return the median error with which an observer reconstructs an observation from a gradient.

    Every agent takes one step in CartPole and sends the policy gradient of this one sample, clipped
    to norm 1, with the noise of one release. The gradient by weight (j, i) of the first layer is
    that by bias j times number i of the observation, so the observer takes x = sum_j b_j W_j
    / sum_j b_j^2. It is the case of batch size 1 of Zhu, Liu, Han, Deep leakage from gradients,
    NeurIPS 2019, arXiv 1906.08935, where layers have biases. The error is ||x - obs|| / ||obs||.
    """
    kept = replace(task(CartPole(), agents, instances=1, seed=seed), gradient_only=True)
    learner = REINFORCE(
        hidden=(16,),
        steps=1,
        baseline="none",
        max_grad_norm=0.0,
        optimizer="sgd",
        reward_scale=10.0,
    )
    trainer = Trainer(learner.prepare(kept), agents)
    obs = trainer.stack.simulator.observe(range(agents), trainer.state)[:, 0]  # type: ignore[attr-defined]
    trainer.update(range(agents))
    gradient = trainer.state["gradient"].astype(np.float64)
    gradient *= np.minimum(1.0, 1.0 / np.linalg.norm(gradient, axis=1, keepdims=True))
    if epsilon != "infinity":
        sigma = sigma_of(float(epsilon), 1e-5)
        gradient += sigma * np.random.default_rng(seed).standard_normal(gradient.shape)
    layout = trainer.stack.layout
    places = dict(zip((one.name for one in layout.tensors), layout.offsets, strict=True))
    bias, weight = (
        gradient[:, places[f"actor.0.{name}"] :][:, :size]
        for name, size in (("bias", 16), ("weight", 64))
    )
    found = np.einsum("bj,bji->bi", bias, weight.reshape(-1, 16, 4))
    found /= np.square(bias).sum(axis=1, keepdims=True)
    error = np.linalg.norm(found - obs, axis=1) / np.linalg.norm(obs, axis=1)
    return float(np.median(error))


def shown(values: Sequence[float]) -> str:
    """Return the mean over seeds and its 95% interval, with three digits."""
    found = estimate(values)
    return f"{found.mean:.3g} ({found.low:.3g} to {found.high:.3g})"


def spanned(values: Sequence[float], form: str) -> str:
    """Return the mean and the range over seeds."""
    mean, low, high = (format(one, form) for one in (np.mean(values), min(values), max(values)))
    return f"{mean} ({low} to {high})"


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the tables of the page: of returns, and of errors of reconstructions."""
    yield f"| epsilon | {' | '.join(EPSILONS)} |"
    yield f"|---|{'---|' * len(EPSILONS)}"
    for name in SCENARIOS:
        yield f"| {name} | {' | '.join(shown(found[name][one]) for one in EPSILONS)} |"
    errors = found["inversion"]
    yield ""
    yield f"| epsilon of one release | {' | '.join(errors)} |"
    yield f"|---|{'---|' * len(errors)}"
    yield f"| error of the reconstruction | {' | '.join(f'{one:.2g}' for one in errors.values())} |"


def meter_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of the page on homes and their meters."""
    yield f"| lambda | {' | '.join(WEIGHTS)} |"
    yield f"|---|{'---|' * len(WEIGHTS)}"
    for key, (row, form) in METERS.items():
        runs = [[run[key] for run in found["meters"][weight]] for weight in WEIGHTS]
        yield f"| {row} | {' | '.join(spanned(one, form) for one in runs)} |"


def draw(found: Mapping[str, Any]) -> None:
    """Draw a panel per task: the mean over seeds, its interval, and single runs as dots."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(SCENARIOS)), SCENARIOS, strict=True):
        for place, epsilon in enumerate(EPSILONS):
            values = found[name][epsilon]
            one = estimate(values)
            axes.vlines(place, one.low, one.high, color="C0")
            axes.scatter([place] * len(values), values, s=7, color="0.5")
        axes.plot([estimate(found[name][one]).mean for one in EPSILONS], "o-", color="C0")
        axes.set_xticks(range(len(EPSILONS)), EPSILONS)
        axes.set_xlabel("epsilon")
        axes.set_ylabel("greedy return")
        axes.set_title(name)
    figure.savefig(FIGURE, dpi=120)


def write(found: Mapping[str, Any]) -> None:
    """Write what was measured so far."""
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, draw, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the table; measure nothing")
    parser.add_argument("--more", action="store_true", help="measure only what is not there")
    options = parser.parse_args()
    if options.table:
        known = json.loads(FILE.read_text())
        print(*lines(known), "", *meter_lines(known), sep="\n")
        return
    found: dict[str, Any] = json.loads(FILE.read_text()) if options.more else {}
    for name in SCENARIOS:
        for one in EPSILONS:
            runs = found.setdefault(name, {}).setdefault(one, [])
            for seed in SEEDS[len(runs) :]:
                runs.append(measure(name, one, seed))
                write(found)
    for weight in WEIGHTS:
        rows = found.setdefault("meters", {}).setdefault(weight, [])
        for seed in SEEDS[len(rows) :]:
            rows.append(metered(weight, seed))
            write(found)
    found["inversion"] = {one: inversion(one) for one in NOISES}
    write(found)
    draw(found)
    print(*lines(found), "", *meter_lines(found), sep="\n")


if __name__ == "__main__":
    main()
