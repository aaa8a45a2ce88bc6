"""Groups: agents of different make in one run share what they have in common, and nothing else."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.core.errors import ScenarioError
from p2pfrl.laws.runs import toml
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads, resolved
from p2pfrl.scenario.bind import learning

CARTPOLE = {
    "environment": {"id": "CartPole-v1", "instances": 2},
    "learner": {"kind": "ppo", "steps": 16, "num_minibatches": 4, "hidden": [16, 16]},
    "evaluation": {"episodes": 2, "every": 1},
}
ACTOR = {"kind": "reinforce", "steps": 20, "hidden": [4], "baseline": "none"}
SMALLER = {"agents": [0, 2], "learner": {"hidden": [16, 8]}}


def scenario(*groups, agents=4, rounds=3, mode="gossip", **tables):
    tables = {**CARTPOLE, **tables}
    lines = [
        'name = "grouped"',
        "seed = 3",
        f"agents = {agents}",
        f'mode = "{mode}"',
        f"stop = {{rounds = {rounds}}}",
    ]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    for group in groups:
        lines += ["[[groups]]", *(f"{key} = {toml(value)}" for key, value in group.items())]
    return loads("\n".join(lines) + "\n")


@pytest.mark.parametrize("mode", ["gossip", "central", "independent"])
def test_groups_that_are_all_alike_are_no_groups(mode):
    plain = p2pfrl.run(scenario(mode=mode))
    record = p2pfrl.run(scenario({"agents": [0, 3]}, {"agents": [1]}, mode=mode))
    assert np.array_equal(record.parameters, plain.parameters)
    assert record.layout == plain.layout
    for name in set(plain.metrics) - {"policy_kl"}:  # from the mean policy of a group, not of all
        assert np.array_equal(record.metrics[name], plain.metrics[name], equal_nan=True), name


def test_what_has_the_same_name_and_shape_travels_and_the_rest_stays():
    record = p2pfrl.run(scenario(SMALLER, mode="central"))
    names = [name for name, shape in record.layout for _ in range(int(np.prod(shape)))]
    part = np.array([name.split(".")[0] for name in names])
    assert {name for name, _ in record.layout if not name.startswith("group")} == {
        "actor.0.weight",
        "actor.0.bias",
        "actor.head.bias",
        "critic.0.weight",
        "critic.0.bias",
        "critic.head.bias",
    }
    common = np.isin(part, ("actor", "critic"))
    assert np.ptp(record.parameters[:, common], axis=0).max() == 0.0
    for group, members in (("group0", [0, 2]), ("group1", [1, 3])):
        others = [agent for agent in range(4) if agent not in members]
        assert not record.parameters[np.ix_(others, part == group)].any()
        assert np.ptp(record.parameters[np.ix_(members, part == group)], axis=0).max() > 0
    assert preview(scenario(SMALLER))["travels"] == ["actor", "critic"]
    frame = float(record.summary["bytes_sent"]) / float(record.summary["messages_sent"])
    assert 4 * common.sum() < frame < 4 * common.sum() + 256


def test_a_group_learns_what_it_would_learn_in_a_run_of_its_own_until_it_mixes():
    grouped = Trainer(learning(scenario(SMALLER)).stack, 4)
    kinds = {"small": {**CARTPOLE["learner"], "hidden": [16, 8]}, "large": CARTPOLE["learner"]}
    alone = {
        name: Trainer(learning(scenario(learner=learner)).stack, 4)
        for name, learner in kinds.items()
    }
    for agent in range(4):  # starts differ where networks do: begin all at the grouped one's
        trainer = alone["small" if agent in (0, 2) else "large"]
        row = grouped.stack._narrow(grouped.parameters, [agent], agent % 2)[0]
        trainer.write(agent, trainer.stack.layout.pack(row))
    for _ in range(3):
        grouped.update(range(4))
        for trainer in alone.values():
            trainer.update(range(4))
    for agent in range(4):
        expected = alone["small" if agent in (0, 2) else "large"].parameters[agent]
        assert np.array_equal(
            grouped.stack._narrow(grouped.parameters, [agent], agent % 2)[0], expected
        )


def test_an_agent_does_not_notice_who_shares_its_batch():
    groups = (
        SMALLER,
        {
            "agents": [4],
            "environment": {"vary": {"gravity": 5.0}},
            "learner": {"kind": "a2c", "steps": 7},
        },
    )
    bound = scenario(*groups, agents=6)
    together, apart = (Trainer(learning(bound).stack, 6) for _ in range(2))
    for _ in range(3):
        together.update(range(6))
        for some in ([5, 0], [4], [1, 2, 3]):
            apart.update(some)
    assert np.array_equal(together.parameters, apart.parameters)
    for name, values in together.state.items():
        assert np.array_equal(values, apart.state[name]), name


def test_an_update_takes_each_group_its_own_time():
    longer = {"agents": [1, 3], "learner": {"steps": 48}}
    bound = scenario(longer, schedule={"kind": "asynchronous"}, rounds=6)
    assert learning(bound).stack.traits.min_steps == 32
    assert not learning(bound).stack.traits.fixed_steps
    record = p2pfrl.run(bound)
    trained = {
        agent: [i.end - i.start for i in record.timeline if (i.agent, i.kind) == (agent, "train")]
        for agent in range(4)
    }
    assert all(t == pytest.approx(32e-4) for agent in (0, 2) for t in trained[agent])
    assert all(t == pytest.approx(96e-4) for agent in (1, 3) for t in trained[agent])
    assert len(trained[0]) > 2 * len(trained[1])


def test_gridworlds_of_other_sizes_share_what_does_not_depend_on_the_size():
    tables = {
        "environment": {"id": "gridworld", "rows": 3, "columns": 3, "instances": 2},
        "evaluation": {"episodes": 1},
    }
    larger = {"agents": [0], "environment": {"rows": 4, "columns": 4}}
    record = p2pfrl.run(scenario(larger, agents=3, **tables))
    shapes = dict(record.layout)
    assert shapes["group0.actor.0.weight"] == (16, 16)
    assert shapes["group1.actor.0.weight"] == (16, 9)
    assert shapes["actor.1.weight"] == (16, 16)
    assert {"group0.P", "group1.P"} <= set(record.problem)


def test_poles_of_other_lengths_are_recorded_per_agent():
    record = p2pfrl.run(scenario({"agents": [1], "environment": {"vary": {"length": 1.5}}}))
    lengths = dict(zip(record.agents["agent"], record.agents["physics_length"], strict=True))
    assert lengths == {0: 0.5, 1: 1.5, 2: 0.5, 3: 0.5}


def test_another_kind_of_learner_and_another_environment():
    other = {
        "agents": [0],
        "learner": {"kind": "reinforce", "steps": 20, "hidden": [16, 16], "baseline": "none"},
        "environment": {"id": "Acrobot-v1"},
    }
    record = p2pfrl.run(scenario(other, agents=3))
    assert np.isfinite(record.parameters).all()
    steps = np.diff(record.metrics["env_steps"])
    assert (steps == 2 * 20 + 2 * 32).all()


def test_moments_are_reset_in_every_group_and_corrections_reach_all():
    tables = {
        "learner": {**CARTPOLE["learner"], "moments": "reset"},
        "correction": {"kind": "prox", "mu": 0.5},
    }
    bound = scenario(SMALLER, mode="central", **tables)
    record = p2pfrl.run(bound)
    free = p2pfrl.run(scenario(SMALLER, mode="central", learner=tables["learner"]))
    assert not np.array_equal(record.parameters, free.parameters)
    trainer = Trainer(learning(bound).stack, 4)
    trainer.update(range(4))
    for agent in range(4):
        trainer.reset_moments(agent)
    assert not any(
        trainer.state[name].any()
        for name in (*trainer.stack.traits.moments, *trainer.stack.traits.counts)
    )
    assert len(trainer.stack.traits.moments) == 4


def test_quadratics_with_other_rates_have_one_problem():
    tables = {"learner": {"kind": "quadratic", "dimension": 4, "lr": 0.05}}
    bound = [
        f"[{name}]\n" + "\n".join(f"{k} = {toml(v)}" for k, v in table.items())
        for name, table in tables.items()
    ]
    head = 'name = "q"\nagents = 3\nmode = "central"\nstop = {rounds = 400}\n'
    record = p2pfrl.run(
        loads(head + "\n".join(bound) + "\n[[groups]]\nagents = [0]\nlearner = {lr = 0.1}\n")
    )
    A, x_star = record.problem["A"], record.problem["x_star"]
    weighted = (
        np.array([2.0, 1.0, 1.0])[:, None, None] * A
    )  # the fixed point counts an agent by its rate
    point = np.linalg.solve(weighted.sum(axis=0), np.einsum("nij,nj->i", weighted, x_star))
    assert np.abs(record.parameters - point).max() < 1e-10
    assert np.isfinite(record.metrics["error"]).all()


def test_personal_models_of_groups():
    record = p2pfrl.run(scenario(SMALLER, mode="central", personal={"kind": "apfl"}))
    assert {name.split(".")[0] for name, _ in record.layout} == {
        "actor",
        "critic",
        "group0",
        "group1",
        "personal",
    }
    plain = p2pfrl.run(scenario(SMALLER, mode="central"))
    assert np.array_equal(record.parameters[:, : plain.parameters.shape[1]], plain.parameters)


def test_networks_with_nothing_in_common_can_still_tell_each_other_what_they_would_do():
    learner = {
        "kind": "dqn",
        "hidden": [16],
        "steps": 16,
        "learn_start": 16,
        "batch_size": 16,
        "train_every": 4,
    }
    group = {"agents": [0, 1], "learner": {"hidden": [8]}}
    tables = {"learner": learner, "exchange": {"payload": "logits"}, "mode": "gossip"}
    record = p2pfrl.run(scenario(group, **tables))
    alone = p2pfrl.run(scenario(group, **{**tables, "mode": "independent"}))
    assert record.summary["bytes_sent"] > 0
    assert not np.array_equal(record.parameters, alone.parameters)


@pytest.mark.parametrize(
    ("groups", "tables", "words"),
    [
        ([{"agents": [0, 4]}], {}, "expected an agent below 4, got 4"),
        ([{"agents": [0]}, {"agents": [1, 0]}], {}, "agent 0 is in group 0 already"),
        ([{"agents": []}], {}, "agents"),
        ([{"agents": [0], "learner": {"hiden": [4]}}], {}, "did you mean 'hidden'"),
        ([{"agents": [0], "learner": {"moments": "reset"}}], {}, "is one for all agents"),
        ([{"agents": [0], "environment": {"id": "CartPol-v1"}}], {}, "groups.0.environment.id"),
        (
            [{"agents": [0], "environment": {"vary": {"gravitas": 1.0}}}],
            {},
            "has nothing of this name",
        ),
        (
            [{"agents": [0], "learner": {"kind": "quadratic"}}],
            {},
            "learners of float32 and float64",
        ),
        (
            [SMALLER],
            {"learner": {**CARTPOLE["learner"], "moments": "average"}},
            "cannot be averaged",
        ),
        ([SMALLER], {"exchange": {"shared": ["actor", "group1"]}}, "'group1' never travels"),
        ([SMALLER], {"mode": "pooled"}, "one learner for all agents"),
        (
            [{"agents": [0], "learner": ACTOR, "environment": {"id": "Acrobot-v1"}}],
            {},
            "nothing would travel",
        ),
    ],
)
def test_what_cannot_be_is_refused(groups, tables, words):
    with pytest.raises(ScenarioError) as error:
        scenario(*groups, **tables)
    assert words in str(error.value)


def test_a_resolved_scenario_reads_back_as_itself():
    gravity = {"kind": "uniform", "low": 8.0, "high": 9.0}
    bound = scenario(
        SMALLER,
        {"agents": [1], "environment": {"vary": {"gravity": gravity}}},
        personal={"kind": "ditto"},
    )
    assert loads(resolved(bound)) == bound


def test_groups_know_which_of_their_moments_are_squares():
    scenario = loads(
        """
name = "squares"
agents = 2
stop.rounds = 1
environment = {id = "CartPole-v1", instances = 1}
learner = {kind = "a2c", hidden = [2], steps = 2}
groups = [{agents = [1], learner = {lr = 0.1}}]
"""
    )
    squares = learning(scenario).stack.traits.squares
    assert [name.partition(".")[0] for name in squares] == ["group0", "group1"]
