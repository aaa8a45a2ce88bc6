import numpy as np
import pytest

from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.consensus.aggregators.optimistic import Optimistic
from p2pfrl.core.errors import ScenarioError
from p2pfrl.laws.runs import play
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.gridworld import GridWorld
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.grouped import Group, GroupedStack
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.ucbvi import UCBVI
from p2pfrl.learning.trainer import Trainer

N, HORIZON = 3, 4
GARNET = Garnet(states=4, actions=3, branching=3)
GRID = GridWorld(rows=2, columns=3, start=(0, 0))
FED = {
    "mode": "central",
    "exchange": {"payload": "statistics"},
    "gate": {"kind": "news"},
    "coordinator": {"aggregator": {"kind": "optimistic"}},
}


def bind(learner, environment=GARNET, agents=N, instances=1):
    column = columns(environment, {}, 3, range(agents), agents)
    column |= {name: np.zeros(agents) for name in column if name == "step_reward"}
    column |= {name: np.full(agents, 0.3) for name in column if name.endswith("perturbation")}
    physics = environment.physics(3, range(agents), column)
    return learner.prepare(Task(3, agents, environment.simulator(physics, instances, 3)))


def rounds(stack, trainer, count):
    """Play rounds as coordinator and agents would; yield (stage before, model after) of each."""
    model = stack.layout.pack(trainer.parameters[0])
    for _ in range(count):
        before = int(model[0])
        trainer.update(range(N))
        arrived = [
            Arrived(i, trainer.offer(i, "statistics"), 1.0)
            for i in range(N)
            if trainer.offer(i, "news")[0]
        ]
        if arrived:
            model, _ = Optimistic().aggregate(arrived, model, {})
            stack.layout.unpack(np.broadcast_to(model, (N, len(model))), trainer.parameters)
        yield before, model


def tables(stack, model):
    """(stage, Q, n) of a model."""
    size = (len(model) - 1) // 2
    shape = (HORIZON, *stack._size[1:])
    return model[0], model[1 : 1 + size].reshape(shape), model[1 + size :].reshape(shape)


def value_iteration(counts, rewards):
    """Return Q (H, S, A) of all agents, computed number by number.

    It follows from their counts (N, H, S, A, S) and sums of rewards.
    """
    _, horizon, states, actions, _ = counts.shape
    q = np.full((horizon, states, actions), float(horizon))
    after = np.zeros(states)
    for h in reversed(range(horizon)):
        for s in range(states):
            for a in range(actions):
                n = counts[:, h, s, a].sum()
                if n <= 1:
                    continue
                estimate = mean = square = 0.0
                for i in range(len(counts)):
                    own = counts[i, h, s, a].sum()
                    if own:
                        p = counts[i, h, s, a] / own
                        estimate += own * (rewards[i, h, s, a] / own + p @ after) / n
                        mean += own * (p @ after) / n
                        square += own * (p @ after**2) / n
                bonus = horizon / n + np.sqrt(max(square - mean**2, 0.0) / n)
                q[h, s, a] = min(estimate + bonus, horizon)
        after = q[h].max(axis=-1)
    return q


@pytest.mark.parametrize("environment", [GARNET, GRID])
def test_a_synchronization_is_optimistic_value_iteration_on_what_all_have_seen(environment):
    stack = bind(UCBVI(horizon=HORIZON), environment)
    trainer, checked, stages = Trainer(stack, N), 0, []
    for before, model in rounds(stack, trainer, 400):
        stages.append(before)
        if before == 1:
            stage, q, n = tables(stack, model)
            counts, rewards = trainer.state["counts"], trainer.state["rewards"]
            assert stage == 0
            assert np.array_equal(n, counts.sum(axis=(0, -1)))
            assert np.allclose(q, value_iteration(counts, rewards), atol=1e-12)
            assert stages[-HORIZON:] == [4, 3, 2, 1]
            checked += 1
    assert checked > 20
    assert q.min() < HORIZON - 1
    assert (trainer.state["tallies"][:, 1] == checked).all()


def test_regret_is_what_the_policies_that_were_played_fall_short_of_the_best():
    stack = bind(UCBVI(horizon=HORIZON), instances=2)
    trainer, p, expected = Trainer(stack, N), stack.processes, np.zeros(N)

    def worth(i, best):
        """The value of a policy (H, S), or with None the greatest, of agent i."""
        values = np.zeros(stack._size[1])
        for h in reversed(range(HORIZON)):
            q = p.reward[i] + p.transition[i] @ values
            values = q.max(axis=-1) if best is None else q[np.arange(len(q)), best[h]]
        return p.start[i] @ values

    q = tables(stack, stack.layout.pack(trainer.parameters[0]))[1]
    for before, model in rounds(stack, trainer, 150):
        if before == 0:
            expected += [2 * (worth(i, None) - worth(i, q.argmax(axis=-1))) for i in range(N)]
        q = tables(stack, model)[1].copy()
    assert expected.min() > 1
    assert np.allclose(trainer.state["tallies"][:, 0], expected, atol=1e-9)


def test_there_is_news_when_an_own_count_has_doubled():
    stack = bind(
        UCBVI(horizon=1, condition="own"), Garnet(states=2, actions=2, branching=1), agents=1
    )
    trainer, sent, seen = Trainer(stack, 1), {}, {}
    for _ in range(200):
        trainer.update([0])
        counts = dict(np.ndenumerate(trainer.state["counts"][0].sum(axis=-1)))
        (moved,) = [cell for cell in counts if counts[cell] != seen.get(cell, 0)]
        is_news = counts[moved] >= 2 * sent.get(moved, 0)
        assert bool(trainer.offer(0, "news")[0]) == is_news
        if is_news:
            sent = counts
            trainer.state["sent"][:] = trainer.state["counts"].sum(axis=-1)
        seen = counts
    assert sum(seen.values()) == 200


def test_there_is_news_when_the_count_of_all_must_be_guessed_to_have_doubled():
    stack = bind(
        UCBVI(horizon=1, condition="all"), Garnet(states=2, actions=2, branching=1), agents=N
    )
    trainer = Trainer(stack, N)
    stack._common(trainer.parameters).n[:] = 12.0
    before, opened = 0.0, []
    for _ in range(12):
        trainer.update([1])
        now = trainer.state["counts"][1].sum(axis=-1)
        opened.append(bool(trainer.offer(1, "news")[0]))
        assert opened[-1] == (N * now[now != before][0] >= 12.0)
        before = now
    assert set(opened) == {False, True}


def test_the_threshold_is_that_of_the_paper():
    learner = UCBVI(horizon=4, episodes=1000, heterogeneity=0.1, confidence=0.05)
    beta = np.log(6 * 25 * 4 / 0.05) + np.log(6 * np.e * 2001)
    assert learner.threshold(10, 25) == pytest.approx(14 * 0.1 * 1000 * 4 * 10 + 182 * 10 * beta)
    assert UCBVI(condition="all").threshold(10, 25) == 0.0
    assert UCBVI(condition="own").threshold(10, 25) == np.inf


def test_a_message_holds_sums_and_no_transition_probabilities():
    stack = bind(UCBVI(horizon=HORIZON))
    trainer = Trainer(stack, N)
    assert (
        stack.exchange.offer_size("statistics") == 4 * 4 * 3 == len(trainer.offer(0, "statistics"))
    )
    assert not trainer.offer(0, "statistics").any()
    with pytest.raises(ScenarioError):
        stack.exchange.offer_size("logits")


@pytest.mark.parametrize("environment", [GARNET, GRID])
def test_who_shares_the_batch_does_not_matter(environment):
    outcomes = []
    for groups in ([[0, 1, 2]], [[2], [1], [0]], [[0, 2], [1]]):
        stack = bind(UCBVI(horizon=HORIZON), environment, instances=2)
        trainer = Trainer(stack, N)
        for k in range(30):
            for group in groups:
                trainer.update(group)
            stack._common(trainer.parameters).stage[:] = (k % 3 == 0, k % 5 == 0, 0.0)
        outcomes.append(trainer)
    first, *others = outcomes
    for other in others:
        assert all(
            np.array_equal(values, other.state[name]) for name, values in first.state.items()
        )


def test_who_is_asked_plays_nothing_and_takes_no_steps():
    stack = bind(UCBVI(horizon=HORIZON), instances=3)
    trainer = Trainer(stack, N)
    stack._common(trainer.parameters).stage[1] = 2.0
    updates = trainer.update(range(N))
    assert [updates[i].env_steps for i in range(N)] == [12, 0, 12]
    assert [len(updates[i].returns) for i in range(N)] == [3, 0, 3]
    assert not trainer.state["counts"][1].any()


def test_a_run_synchronizes_only_when_there_is_news_and_ends_near_the_best_policy():
    record = play(
        2,
        None,
        environment={
            "id": "gridworld",
            "rows": 2,
            "columns": 2,
            "start": [0, 0],
            "instances": 1,
            "vary": {"slip": 0.0, "step_reward": 0.0},
        },
        learner={"kind": "ucbvi", "horizon": 3},
        stop={"env_steps": 2 * 3 * 150},
        evaluation={"episodes": 1},
        **FED,
    )
    last = record.agents["round"] == record.agents["round"].max()
    synchronizations = record.agents["synchronizations"][last]
    assert record.metrics["round"][-1] == 150 + 3 * synchronizations[0]
    assert 5 < synchronizations[0] < 150
    assert record.metrics["error"][0] == pytest.approx(1.0)
    assert record.metrics["error"][-1] == pytest.approx(0.0)
    assert record.metrics["evaluation_own"][-1] == pytest.approx(1.0)
    assert (record.parameters[:, 0] >= 0).all()


def test_several_updates_a_round_are_one_synchronization():
    given = {
        "environment": {"id": "garnet", "states": 3, "instances": 1},
        "evaluation": {"episodes": 0},
        **FED,
    }
    record = play(
        2,
        50,
        learner={"kind": "ucbvi", "horizon": 4},
        schedule={"every": 3},
        **{**given, "gate": {}},
    )
    assert record.metrics["env_steps"][-1] == 2 * 4 * 10 * 3
    assert record.agents["synchronizations"][-1] == 10


def test_without_a_gate_agents_synchronize_after_every_episode():
    record = play(
        2,
        50,
        environment={"id": "garnet", "states": 3, "instances": 1},
        evaluation={"episodes": 0},
        learner={"kind": "ucbvi", "horizon": 4},
        **{**FED, "gate": {"kind": "none"}},
    )
    assert record.metrics["env_steps"][-1] == 2 * 4 * 10
    assert record.agents["synchronizations"][-1] == 10


ENVIRONMENT = {"id": "garnet", "states": 3, "instances": 1}
ALONE = {"mode": "independent", "coordinator": {}, "gate": {}}


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"environment": {"id": "gridworld"}}, "rewards in .0, 1."),
        ({"schedule": {"kind": "asynchronous"}}, "use kind = 'synchronous'"),
        (
            {"coordinator": {"aggregator": {"kind": "mean"}}},
            "needs coordinator.aggregator 'optimistic'",
        ),
        (
            {
                "coordinator": {
                    "aggregator": {"kind": "optimistic"},
                    "server_optimizer": {"kind": "sgd"},
                }
            },
            "use kind = 'replace'",
        ),
        ({"correction": {"kind": "lookahead"}}, "leave it out"),
        ({"learner": {"kind": "tabular_q"}}, "'tabular_q' has none: use another gate"),
        ({"learner": {"kind": "tabular_q"}, "gate": {"kind": "none"}}, "no statistics to send"),
        ({"mode": "gossip", "coordinator": {}}, "has no meaning in mode gossip"),
        (
            {"mode": "gossip", "coordinator": {}, "exchange": {"payload": "parameters"}},
            "use this payload, in mode",
        ),
        (
            {"mode": "independent", "coordinator": {}},
            "learns from the aggregate of its 'statistics'",
        ),
        (
            {**ALONE, "personal": {"kind": "finetune"}},
            "learns from the aggregate of its 'statistics'",
        ),
        (
            {"exchange": {"payload": "parameters"}},
            "'optimistic' needs exchange.payload 'statistics'",
        ),
    ],
)
def test_what_cannot_be_is_refused(tables, reason):
    given = {
        "environment": ENVIRONMENT,
        "learner": {"kind": "ucbvi"},
        "evaluation": {"episodes": 0},
        **FED,
        **tables,
    }
    with pytest.raises(ScenarioError, match=reason):
        play(2, 5, **given)


def test_groups_of_agents_need_their_payload_too():
    groups = [Group(frozenset({agent}), bind(UCBVI(), agents=2)) for agent in range(2)]
    assert GroupedStack(groups).traits.only_payload == "statistics"


def test_after_its_end_an_episode_earns_nothing():
    stack = bind(
        UCBVI(horizon=8), GridWorld(rows=1, columns=2, start=(0, 0)), agents=2, instances=3
    )
    trainer = Trainer(stack, 2)
    q = stack._common(trainer.parameters).q
    q[..., 1] = 9.0  # always to the right: at the goal at once, most of the time
    returns = [
        total
        for _ in range(20)
        for update in trainer.update([0, 1]).values()
        for total in update.returns
    ]
    assert set(returns) == {1.0}
    assert not trainer.state["rewards"][:, :, 1].any()
    assert trainer.state["counts"][:, 1:, 1].sum() > 100
    assert np.allclose(stack.best, 1.0, atol=1e-2)


def test_with_a_smaller_bonus_what_was_seen_once_is_still_worth_everything():
    sums = np.array(
        [[1.0, 4.0], [0.5, 2.0], [0.0, 0.0], [0.0, 0.0]]
    ).ravel()  # n, n Q, n P V, n P V^2
    model = np.array([1.0, 2.0, 2.0, 0.0, 0.0])  # stage 1, one state, two actions, H = 1
    after, _ = Optimistic(bonus=0.1).aggregate([Arrived(0, sums, 1.0)], model, {})
    assert after.tolist() == [0.0, 1.0, 0.5 + 0.1 / 4.0, 1.0, 4.0]
