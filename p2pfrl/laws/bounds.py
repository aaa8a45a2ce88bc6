"""Laws of the terms of convergence bounds: what they predict, and what runs do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import Table, play

_EXACT: Table = {"id": "garnet", "kinds": 2, "opposed": True, "instances": 1}


def _bias() -> Iterator[Figure]:
    learner = {"kind": "quadratic", "dimension": 5, "lr": 0.05, "steps": 6}
    found = play(4, 120, mode="central", learner=learner)
    predicted = found.summary["bound"]["bias"]
    yield near("quadratics, 6 local steps: bias", predicted, found.metrics["error"][-1], 1e-10)
    yield at_least("and that is", 0.01, predicted)
    td: Table = {"kind": "td", "features": 4, "exact": True, "lr": 1.0, "steps": 200}
    record = play(
        4, 150, mode="central", learner=td, environment=_EXACT, evaluation={"episodes": 0}
    )
    predicted = record.summary["bound"]["bias"]
    yield near("TD, 200 local steps: bias", predicted, record.metrics["error"][-1], 1e-8)


def _rate() -> Iterator[Figure]:
    learner = {"kind": "quadratic", "dimension": 5, "lr": 0.05}
    found = play(4, 60, mode="central", learner=learner)
    error, rate = found.metrics["error"], 1.0 - 0.05 * found.summary["bound"]["mu"]
    factor = float((error[59] / error[39]) ** (1 / 20))
    yield near("error per round of plain descent", rate, factor, 1e-3)


def _disagreement() -> Iterator[Figure]:
    for kind, n, lr in (("ring", 6, 0.03), ("star", 7, 0.02), ("complete", 5, 0.05)):
        learner = {"kind": "quadratic", "dimension": 4, "lr": lr}
        found = play(
            n,
            60,
            learner=learner,
            topology={"kind": kind},
            exchange={"order": "combine_while_adapting"},
        )
        measured = float(found.metrics["consensus_distance"].max() * np.sqrt(n))
        bound = found.summary["bound"]["disagreement"]
        yield at_most(f"{kind} of {n}: disagreement over its bound", 1.0, measured / bound)
        yield at_least("and that is no empty bound", 0.03, measured / bound)


LAWS = (
    Law(
        "local_bias",
        "averages of local steps end as far from the optimum as the bound's bias says",
        "Mangold et al., NeurIPS 2024, arXiv 2402.04114",
        _bias,
    ),
    Law(
        "descent_rate",
        "plain descent on the mean problem gains 1 - lr mu per round",
        "Nesterov, Lectures on convex optimization, Springer, 2018",
        _rate,
    ),
    Law(
        "disagreement_bound",
        "agents that mix and descend stay within lr D / (1 - lambda_2) of their mean",
        "Yuan, Ling, Yin, SIAM J. Optimization 26(3), 2016, arXiv 1310.7063",
        _disagreement,
    ),
)
