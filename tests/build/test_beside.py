from dataclasses import replace

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import ArraySimulator, Environment, Spec
from p2pfrl.learning.environments.check import check_environment
from p2pfrl.learning.environments.crossing import Crossing
from p2pfrl.learning.environments.drift import Drift
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.rollout import play, play_baselines, play_measured
from p2pfrl.results.fairness import fairness
from p2pfrl.results.groups import group
from p2pfrl.results.plots.evaluation import beside
from p2pfrl.scenario import loads


def toward(state, physics, t):
    return ((state[..., 0] < 0) + 2 * (state[..., 1] < 0)).astype(np.int64)


@rule
class Home(Drift):
    """Drift with a policy that goes home and one that alternates, and nan in every other step."""

    @property
    def spec(self) -> Spec:
        policies = {"home": toward, "alternate": lambda s, p, t: (t % 2) * 3}
        return replace(super().spec, baselines=policies, measures=("even",), max_steps=10)

    def step(self, state, action, physics, noise):
        out, reward, terminated, _ = super().step(state, action, physics, noise)
        even = np.where(state[..., 0] < 0, np.nan, 1.0)
        return out, reward, terminated, {"even": even}


def simulator(environment: Environment, agents: int, instances: int) -> ArraySimulator:
    physics = environment.physics(
        3, range(agents), columns(environment, {}, 3, range(agents), agents)
    )
    return ArraySimulator(environment, physics, instances, 3)


def run(**tables):
    text = """name = "t"
agents = 3
stop = {rounds = 2}
learner = {kind = "tabular_q"}
"""
    return p2pfrl.run(replace(loads(text + tables.pop("text")), **tables))


def test_baselines_play_the_episodes_of_the_learned_policy():
    made = simulator(Home(), 3, 4)
    learned = play(
        made, lambda kept: lambda obs: toward(obs, {}, 0), agents=[0, 2], episodes=4, index=1
    )
    found = play_baselines(made, agents=[0, 2], episodes=4, index=1)
    assert np.array_equal(found["home"].returns, learned)
    assert (found["alternate"].returns < learned).all()
    again = play_measured(
        made, lambda kept: lambda obs: toward(obs, {}, 0), agents=[0, 2], episodes=4, index=1
    )
    assert np.array_equal(again.returns, learned)
    assert again.measures["even"].tolist() == found["home"].measures["even"].tolist() == [1.0, 1.0]


def test_an_environment_with_baselines_and_nan_measures_keeps_the_contract():
    check_environment(Home())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"baselines": {"b": lambda s, p, t: np.full(s.shape[:2], 4)}}, "integers from 0 to 3"),
        ({"baselines": {"b": lambda s, p, t: s[..., 0]}}, "integers from 0 to 3"),
        ({"baselines": {"b": lambda s, p, t: t + (len(s) == 5)}}, "baseline 'b': rows of agents"),
        ({"baselines": {"own": toward}}, "'own' is no name for a baseline"),
    ],
)
def test_the_checker_refuses_invalid_baselines(changes, complaint):
    @rule
    class Bad(Home):
        @property
        def spec(self) -> Spec:
            return replace(super().spec, **changes)

    with pytest.raises(p2pfrl.P2PFRLError, match=complaint):
        check_environment(Bad())


def test_the_checker_refuses_an_infinite_measure_and_an_optimum_of_the_batch():
    @rule
    class Infinite(Home):
        def step(self, state, action, physics, noise):
            *out, _ = super().step(state, action, physics, noise)
            return *out, {"even": np.full(state.shape[:2], np.inf)}

    @rule
    class Batch(Home):
        def optimum(self, physics):
            return physics["noise"] * len(physics["noise"])

    with pytest.raises(p2pfrl.P2PFRLError, match="measure 'even': not finite"):
        check_environment(Infinite())
    with pytest.raises(p2pfrl.P2PFRLError, match="optimum: that of an agent depends"):
        check_environment(Batch())


def test_the_optimum_of_tables_is_that_of_backward_induction():
    assert Crossing().optimum(simulator(Crossing(), 3, 1).physics).tolist() == [1.0] * 3
    environment = Garnet(states=4, actions=2, branching=2, max_steps=6)
    physics = simulator(environment, 2, 1).physics
    found = environment.optimum(physics)
    for agent in range(2):
        value = np.zeros(4)
        for _ in range(6):
            value = np.array(
                [
                    max(
                        physics["R"][agent, s, a] + physics["P"][agent, s, a] @ value
                        for a in range(2)
                    )
                    for s in range(4)
                ]
            )
        assert found[agent] == pytest.approx(value.mean(), rel=1e-12)


def test_a_record_has_learned_policy_baselines_and_optimum_per_agent():
    text = 'environment = {id = "crossing", max_steps = 5}\nevaluation = {episodes = 4}'
    record = run(text=text)
    last = record.agents["round"] == 2
    assert record.agents["evaluation_optimum"][last].tolist() == [1.0] * 3
    assert np.isnan(record.agents["evaluation_optimum"][~last]).all()
    own = record.agents["evaluation_own"][last].mean()
    assert record.summary["evaluation"] == {
        "own": pytest.approx(own),
        "mean_parameters": record.summary["evaluation"]["mean_parameters"],
        "baselines": {},
        "optimum": 1.0,
    }
    drawing = beside(group([record]))
    assert drawing is not None
    assert [label.get_text() for label in drawing.figure.axes[0].get_xticklabels()] == [
        "gossip",
        "optimum",
    ]
    assert "baselines" not in run(text=text.replace("= 4", "= 0")).summary["evaluation"]


@rule
class Counted(Home):
    """Home that ends after the first step in every second copy, and counts steps by measure."""

    def step(self, state, action, physics, noise):
        out, reward, _, _ = super().step(state, action, physics, noise)
        ends = np.broadcast_to(np.arange(state.shape[1]) % 2 == 0, state.shape[:2])
        return out, reward, ends, {"even": np.where(ends, 1.0, 3.0)}


def test_measures_of_an_evaluation_are_those_of_the_steps_that_count():
    played = play_baselines(simulator(Counted(), 2, 4), agents=[0, 1], episodes=4, index=0)
    assert played["home"].measures["even"].tolist() == [(2 * 1 + 20 * 3) / 22] * 2


@pytest.mark.parametrize(
    ("kind", "environment", "who"),
    [
        ("ppo", "junction", {"own", "full_throttle", "first_come_first_served"}),
        ("tabular_ac", "networked_mdp", {"best_joint"}),  # its actions are drawn
    ],
)
def test_the_summary_has_the_measures_of_the_learned_policy_and_the_baselines(
    kind, environment, who
):
    text = f"""name = "t"
agents = 3
stop = {{rounds = 1}}
learner = {{kind = "{kind}", steps = 8}}
environment = {{id = "{environment}", members = 3, max_steps = 8, instances = 2}}
evaluation = {{episodes = 2}}
"""
    found = p2pfrl.run(loads(text)).summary["evaluation"]["measures"]
    assert set(found) == who
    assert all(0 <= value < 100 for own in found.values() for value in own.values())
    assert all(any(own.values()) for own in found.values())


def test_fairness_is_that_of_the_definitions():
    x = np.array([4.0, 1.0, 2.0, np.nan])
    found, known = fairness(x), x[:3]
    assert found["worst"] == 1.0
    assert found["p10"] == pytest.approx(np.percentile(known, 10))
    assert found["jain"] == pytest.approx(known.sum() ** 2 / (3 * (known**2).sum()))
    apart = np.abs(known[:, None] - known).sum()
    assert found["gini"] == pytest.approx(apart / (2 * 9 * known.mean()))
    assert fairness(-x)["jain"] is None
    assert fairness(np.zeros(2))["gini"] is None
    assert fairness(np.array([np.nan]))["worst"] is None
