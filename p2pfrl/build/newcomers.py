"""Newcomers: agents that took no part in a run, and what its model is worth to them.

They have physics of their own, drawn as those of further agents would be. After the run they play
with the learned model, and once more after each of some local updates of their own. Beside that
stands what the same updates reach from scratch, on the same episodes.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from p2pfrl.build.beside import beside
from p2pfrl.core.errors import AgentError
from p2pfrl.core.parameters import Vector
from p2pfrl.learning.corrections.base import Uncorrected
from p2pfrl.learning.learners.base import Evaluator, Stack
from p2pfrl.learning.personal.base import PART as PERSONAL
from p2pfrl.learning.trainer import Trainer
from p2pfrl.results.record import LEARNED, PHYSICS, SCRATCH
from p2pfrl.results.recorder import Evaluation
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import learning
from p2pfrl.scenario.sections import Exchange

Table = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Newcomers:
    """What newcomers reach.

    Attributes:
        table: the columns of `newcomers.csv`, a row per update and newcomer.
        failure: why a curve ends early; "" if none does.
    """

    table: Table
    failure: str

    @property
    def summary(self) -> dict[str, Any]:
        """What the summary of a run says of them."""
        table = self.table
        last = int(table["update"].max())
        found: dict[str, Any] = {
            "agents": len(np.unique(table["agent"])),
            "updates": last,
            **{name: _ends(table[name], table["update"], last) for name in (LEARNED, SCRATCH)},
        }
        for name in ("optimum", *(name for name in table if name.startswith("baseline_"))):
            if name in table:
                found[name] = _finite(table[name][table["update"] == 0].mean())
        return {**found, "failure": self.failure} if self.failure else found


def _ends(values: NDArray[np.float64], update: NDArray[np.int64], last: int) -> dict[str, Any]:
    """Return the mean before and after the updates, and the worst newcomer after them."""
    before, after = values[update == 0], values[update == last]
    ends = {"before": before.mean(), "after": after.mean(), "worst": after.min()}
    return {name: _finite(value) for name, value in ends.items()}


def _finite(value: np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None


def newcomers(
    scenario: Scenario, stack: Stack, parameters: Vector, evaluation: Evaluation | None
) -> Newcomers | None:
    """Return what newcomers reach with the model of a run; None if there are none.

    Args:
        scenario: of the run.
        stack: its learner.
        parameters: `(n, d)`, the final ones.
        evaluation: the last one of the run, whose episodes newcomers play; None: nothing was
            evaluated.
    """
    n, m, k = scenario.agents, scenario.evaluation.newcomers, scenario.evaluation.adaptation
    if not m or evaluation is None:
        return None
    ids = range(n, n + m)
    own, failures = held_out(scenario), list[str]()
    with closing(learning(own)) as found, threadpool_limits(1, "blas"):
        rows = stack.layout.zeros(n)
        stack.layout.unpack(parameters, rows)
        model = _model(stack, rows[list(evaluation.agents)])
        curves: dict[str, NDArray[np.float64]] = {}
        for name, start in ((LEARNED, model), (SCRATCH, None)):
            trainer = Trainer(found.stack, ids, same_start=scenario.learner.same_start)
            if start is not None:
                trainer.parameters[:] = start
            curves[name], failure = _curve(trainer, k, scenario, evaluation.index)
            failures += [f"{name}: {failure}"] if failure else []
        played = Evaluation(evaluation.index, tuple(ids), curves[LEARNED][0])
        others = beside(
            found, played, n + m, episodes=scenario.evaluation.episodes, seed=scenario.seed
        )
        columns = {
            PHYSICS + name: values[n:].astype(np.float64)
            for name, values in found.physics.items()
            if values.ndim == 1 and np.ptp(values.astype(np.float64)) > 0
        }
    if others is not None:
        columns |= {f"baseline_{name}": values[n:] for name, values in others.baselines.items()}
        if np.isfinite(others.optimum[n:]).any():
            columns["optimum"] = others.optimum[n:]
    table: Table = {
        "update": np.repeat(np.arange(k + 1), m),
        "agent": np.tile(np.arange(n, n + m), k + 1),
        **{name: values.ravel() for name, values in curves.items()},
        **{name: np.tile(values, k + 1) for name, values in columns.items()},
    }
    return Newcomers(table, "; ".join(failures))


def held_out(scenario: Scenario) -> Scenario:
    """Return the scenario with its newcomers as further agents, who learn alone and plainly."""
    plain = replace(scenario.evaluation, newcomers=0, adaptation=0)
    return replace(
        scenario,
        agents=scenario.agents + scenario.evaluation.newcomers,
        mode="independent",
        start=None,
        correction=Uncorrected(),
        exchange=Exchange(),
        evaluation=plain,
    )


def _model(stack: Stack, rows: Vector) -> Vector:
    """Return the mean of the agents' rows `(1, stride)`.

    Statistics that agents keep to themselves are averaged too, because newcomers have none. Their
    personal model begins at the shared one.
    """
    model = Evaluator.average(Evaluator(), (), rows)[:1]
    layout = stack.layout
    at = dict(zip((t.name for t in layout.tensors), layout.offsets, strict=True))
    for tensor in layout.tensors:
        if tensor.part == PERSONAL:
            own, shared = at[tensor.name], at[tensor.name.removeprefix(f"{PERSONAL}.")]
            model[:, own : own + tensor.size] = model[:, shared : shared + tensor.size]
    return model


def _curve(
    trainer: Trainer, updates: int, scenario: Scenario, index: int
) -> tuple[NDArray[np.float64], str]:
    """Return the mean returns `(updates + 1, m)` after each update, and why they end early."""
    agents, episodes = trainer.agents, scenario.evaluation.episodes
    curve = np.full((updates + 1, len(agents)), np.nan)
    evaluate = trainer.stack.evaluator.evaluate
    try:
        for update in range(updates + 1):
            if update:
                trainer.update(agents)
            found = evaluate(agents, trainer.parameters, episodes, index)
            assert found is not None, "checked by scenario/checks/sections.py"
            curve[update] = found
    except AgentError as error:
        return curve, str(error)
    return curve, ""
