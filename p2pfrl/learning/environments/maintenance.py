"""Maintenance: a machine that wears, in tables; run it, service it, or replace it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.tabular import Tables, Tabular

RUN, SERVICE, REPLACE = 0, 1, 2
_BACK, _SHOCK = 3, 3  # levels that a service undoes, and that a shock adds


@rule
class Maintenance(Tabular):
    """Run (0), service (1) or replace (2) a machine in each shift; the state is its wear x.

    Levels are 0 to levels - 1; at the last the machine has failed. Running earns income - slump x.
    It adds 1 to x with probability min(wear + ageing x, 1 - shock), and 3 with probability shock. A
    service costs `service` and takes 3 off x; replacing costs `replace` and leads to 0. A failed
    machine is repaired for `failure`, whatever the action. Each of these takes the shift. Episodes
    are 100 shifts and start with a new machine; the level is observed, the shift is not.

    Physics: wear .35, ageing .04, shock .02, income 1, slump .05, service .8, replace 4, failure
    12. Measures per shift: failures, available (the machine ran), spent. Baselines:
    `run_to_failure`, and `replace_in_time`, at three fifths of the levels. The optimum is by
    dynamic programming over the shifts. It knows how many are left, which agents do not observe.

    Reference: after Derman, "On optimal replacement rules when changes of state are Markovian", in
    Bellman (ed.), Mathematical Optimization Techniques, 1963; numbers as used here.

    Attributes:
        levels: of wear, the failed one included.
    """

    levels: int = Field(default=16, ge=5, le=256)
    max_steps: int = Field(default=100, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """A state per level, three actions."""
        return Spec(
            observation=self.levels,
            state=1,
            actions=3,
            reset_noise=1,
            step_noise=1,
            max_steps=self.max_steps,
            ranges={
                "wear": (0.0, 1.0),
                "ageing": (0.0, 1.0),
                "shock": (0.0, 1.0),
                "income": (-1000000.0, 1000000.0),
                "slump": (-1000000.0, 1000000.0),
                "service": (-1000000.0, 1000000.0),
                "replace": (-1000000.0, 1000000.0),
                "failure": (-1000000.0, 1000000.0),
            },
            states=self.levels,
            physics={
                "wear": 0.35,
                "ageing": 0.04,
                "shock": 0.02,
                "income": 1.0,
                "slump": 0.05,
                "service": 0.8,
                "replace": 4.0,
                "failure": 12.0,
            },
            measures=("failures", "available", "spent"),
            baselines={
                "run_to_failure": partial(_replace_from, self.levels),
                "replace_in_time": partial(_replace_from, round(0.6 * (self.levels - 1))),
            },
        )

    @property
    @override
    def successors(self) -> int:
        """Return 3: a run leaves the level as it is, or adds 1 or 3."""
        return 3

    @override
    def tables(self, seed: int, agent: int, row: Mapping[str, float]) -> Tables:
        n, last = self.levels, self.levels - 1
        transition, reward = np.zeros((n, 3, n)), np.zeros((n, 3))
        for x in range(last):
            shock = min(max(row["shock"], 0.0), 1.0)
            wears = min(max(row["wear"] + row["ageing"] * x, 0.0), 1.0 - shock)
            transition[x, RUN, x + 1] += wears
            transition[x, RUN, min(x + _SHOCK, last)] += shock
            transition[x, RUN, x] += 1.0 - wears - shock
            transition[x, SERVICE, max(x - _BACK, 0)] = 1.0
            transition[x, REPLACE, 0] = 1.0
            reward[x] = row["income"] - row["slump"] * x, -row["service"], -row["replace"]
        transition[last, :, 0] = 1.0
        reward[last] = -row["failure"]
        start = np.zeros(n)
        start[0] = 1.0
        return Tables(
            transition=transition,
            reward=reward,
            entry=np.zeros(n),
            start=start,
            terminal=np.zeros(n, dtype=np.bool_),
        )

    @override
    def measured(
        self,
        before: NDArray[np.intp],
        action: NDArray[Any],
        after: NDArray[np.intp],
        physics: Mapping[str, NDArray[Any]],
    ) -> dict[str, Array]:
        last = self.levels - 1
        failed, runs = before == last, (before < last) & (action == RUN)
        price = np.where(action == SERVICE, physics["service"], physics["replace"])
        spent = np.where(failed, physics["failure"], np.where(runs, 0.0, price))
        failures = (after == last).astype(np.float64)
        return {"failures": failures, "available": runs.astype(np.float64), "spent": spent}


def _replace_from(
    level: int, state: Array, physics: Mapping[str, NDArray[Any]], t: NDArray[np.int64]
) -> NDArray[np.int64]:
    return np.where(state[..., 0] >= level, REPLACE, RUN)
