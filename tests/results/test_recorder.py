"""What the recorder computes does not depend on the order in which agents end a round."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import generator
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import Update
from p2pfrl.deploy.replay import Logged
from p2pfrl.learning.learners.base import Evaluator, Objective
from p2pfrl.results.recorder import Recorder


def rows_in_order(seed: int, agents: int) -> tuple[list[dict[str, float]], Vector]:
    """Return the rows of three rounds, and the plain drift.

    Agents finish in an order drawn from `seed`.
    """
    layout = Layout((Tensor("actor.w", (64,)),), "float64")
    judge = Logged(layout.zeros(agents), layout, Objective(), Evaluator())
    recorder = Recorder(
        layout=layout,
        agents=agents,
        start=layout.zeros(agents),
        judge=judge,
        now=lambda: 0,
        every=1,
        episodes=0,
        on_row=lambda row: False,
        mixes=True,
        tick=None,
    )
    recorder.traffic = Traffic()
    values, plain = generator(7, "values"), np.zeros(64)
    order = generator(seed, "order")
    for round in range(3):
        before, after = values.normal(size=(2, agents, 64)) * 10.0 ** values.uniform(
            -8, 2, size=(agents, 1)
        )
        for agent in order.permutation(agents).tolist():
            recorder.trained(agent, Update(agent, 1, 0.0, (float(agent),)))
            judge.rows[agent] = after[agent]
            recorder.mixed(agent, round, {}, before[agent], after[agent])
            plain += (after[agent] - before[agent]) / agents
    return recorder.rows, plain


def test_rows_are_the_same_bit_for_bit_in_any_order() -> None:
    first, _ = rows_in_order(0, 33)
    drifts = set()
    for seed in range(1, 20):
        rows, plain = rows_in_order(seed, 33)
        drifts.add(plain.tobytes())
        np.testing.assert_equal(rows, first)
        np.testing.assert_allclose(rows[-1]["mean_drift"], np.linalg.norm(plain), rtol=1e-12)
    assert len(drifts) > 1, "a plain sum depends on the order: else this test shows nothing"


@pytest.mark.parametrize("schedule", ['kind = "buffered"\nsize = 4', 'kind = "asynchronous"'])
@pytest.mark.parametrize(
    "network",
    ["", "network.loss = 0.1\ncompute.speed = {kind = 'linspace', low = 0.3, high = 2.0}"],
)
def test_rounds_of_an_asynchronous_coordinator_are_the_updates_that_it_applied(schedule, network):
    """What agents trained, and what was lost, is no round: the run stops where it should."""
    text = f"""
name = "rounds"
agents = 8
mode = "central"
stop.rounds = 10
learner.kind = "quadratic"
{network}
[schedule]
{schedule}
"""
    record = p2pfrl.run(p2pfrl.loads(text))
    assert record.summary["stopped_by"] == "rounds"
    assert record.summary["rounds"] == record.metrics["round"][-1] == 10
