"""What the recorder computes does not depend on the order in which agents end a round."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.errors import RecordError
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import generator
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import Update
from p2pfrl.deploy.replay import Logged
from p2pfrl.learning.learners.base import Evaluator, Objective
from p2pfrl.results.recorder import Recorder


def recorder_of_rounds(layout: Layout, agents: int, judge: Logged) -> Recorder:
    """Return the recorder of a synchronous run."""
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
    return recorder


def rows_in_order(seed: int, agents: int) -> tuple[list[dict[str, float]], Vector]:
    """Return the rows of three rounds, and the plain drift.

    Agents finish in an order drawn from `seed`.
    """
    layout = Layout((Tensor("actor.w", (64,)),), "float64")
    judge = Logged(layout.zeros(agents), layout, Objective(), Evaluator())
    recorder = recorder_of_rounds(layout, agents, judge)
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


SLOW = """
name = "slow"
agents = 8
mode = "{mode}"
stop.rounds = 9
learner.kind = "quadratic"
evaluation = {{every = 1, episodes = 1}}
compute = {{seconds_per_env_step = 1e-3, speed = {{kind = "linspace", low = 0.1, high = 1.0}}}}
[schedule]
kind = "asynchronous"
"""


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_an_asynchronous_run_has_a_row_per_round_and_every_agent_its_own_updates(mode: str) -> None:
    record = p2pfrl.run(p2pfrl.loads(SLOW.format(mode=mode)))
    rounds = record.metrics["round"]
    assert (np.diff(rounds) > 0).all()
    assert rounds[-1] == 9
    assert record.metrics["virtual_seconds"][-1] == record.summary["virtual_seconds"]
    last = record.agents["round"] == 9
    assert record.agents["agent"][last].tolist() == list(range(8))
    updates = record.agents["updates"][last]
    assert 3 * updates[0] < updates[-1]  # the speeds are 1:10
    counted = sum(record.staleness) if mode == "central" else updates.sum()
    assert counted == 8 * 9
    assert (np.diff(record.agents["updates"][record.agents["agent"] == 7]) >= 0).all()


def recorder_of_two(every: int, rounds: list[dict[str, float]]) -> Recorder:
    """Return the recorder of an asynchronous run of two agents, which judge each other."""
    layout = Layout((Tensor("actor.w", (1,)),), "float64")
    judge = Logged(layout.zeros(2), layout, Objective(), Evaluator())
    recorder = Recorder(
        layout=layout,
        agents=2,
        start=layout.zeros(2),
        judge=judge,
        now=lambda: 10**9 * len(rounds),
        every=every,
        episodes=0,
        on_row=lambda row: bool(rounds.append(row)),
        mixes=True,
        tick=10**9,
        judges=True,
    )
    recorder.traffic = Traffic()
    recorder.follow_clock(lambda *args: None, lambda: True, None, lambda: None)
    return recorder


def test_the_last_look_at_a_round_replaces_its_row_and_keeps_who_was_judged() -> None:
    looks: list[dict[str, float]] = []
    recorder = recorder_of_two(1, looks)
    none, one = np.zeros(1), np.ones(1)
    for agent in (0, 1):
        recorder.mixed(agent, 0, {}, none, one)
    recorder.judged(0, {1: (4.0, 0.5)})
    recorder.tick(10**9, 0)
    recorder.mixed(0, 1, {}, one, none)
    recorder.judged(1, {1: (2.0, 0.5)})
    recorder.tick(10**9, 2)  # three updates of two agents: still round 1
    assert [row["round"] for row in looks] == [1, 1]
    assert len(recorder.rows) == 1
    assert recorder.rows[0]["virtual_seconds"] == 0.0
    recorder.finish()
    [row] = recorder.rows
    assert (row["round"], row["virtual_seconds"]) == (1, 2.0)
    table = recorder.agent_rows.columns()
    assert table["updates"].tolist() == [2, 1]
    assert table["suspicion"][1] == 3.0  # the median of both
    assert recorder.updates_by == [2, 1]


class StackOfVectors(Logged):
    """A judge that takes the vectors with which rounds end."""

    def parameters(self, agent: int, shared: Vector | None) -> Vector:
        assert shared is not None
        return shared


def test_of_a_round_that_a_restarted_agent_ends_again_the_last_end_counts() -> None:
    layout = Layout((Tensor("actor.w", (1,)),), "float64")
    judge = StackOfVectors(layout.zeros(2), layout, Objective(), Evaluator())
    recorder = recorder_of_rounds(layout, 2, judge)
    for value in (1.0, 2.0):
        recorder.trained(0, Update(0, 1, 10.0 * value, (value,)))
        recorder.mixed(0, 0, {1: 0}, np.zeros(1), np.full(1, value))
    saved = recorder.save()
    recorder = recorder_of_rounds(layout, 2, judge)
    recorder.restore(saved)
    recorder.trained(1, Update(1, 1, 7.0))
    recorder.mixed(1, 0, {}, np.zeros(1), np.zeros(1))
    [row] = recorder.rows
    assert (row["active"], row["env_steps"], row["return_mean"]) == (2, 3, 1.5)
    assert recorder.parameters().tolist() == [[2.0], [0.0]]
    columns = recorder.agent_rows.columns()
    assert columns["agent"].tolist() == [0, 1]
    assert columns["loss"].tolist() == [20.0, 7.0]
    np.testing.assert_equal(columns["return"], [1.5, np.nan])
    np.testing.assert_equal(columns["staleness"], [0.0, np.nan])


def test_a_state_of_another_version_is_refused() -> None:
    layout = Layout((Tensor("actor.w", (1,)),), "float64")
    judge = Logged(layout.zeros(2), layout, Objective(), Evaluator())
    recorder = recorder_of_rounds(layout, 2, judge)
    state = {name: value for name, value in recorder.save().items() if name != "latest"}
    with pytest.raises(RecordError, match="another version"):
        recorder.restore(state)
