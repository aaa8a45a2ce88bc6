"""TD of a given policy: where the policy comes from, its samples, and what is refused."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import p2pfrl
from p2pfrl.build.policy import RecordedPolicy
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.softmax import log_softmax
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.maintenance import Maintenance
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.target_policies import Baseline, SavedPolicy, Table, Uniform
from p2pfrl.learning.learners.td import TD
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads

GARNET = Garnet(states=4, actions=2, kinds=2)
ROWS = ((0.9, 0.1), (0.0, 1.0), (0.5, 0.5), (0.3, 0.7))
CONTROL = """
name = "control"
agents = 2
[stop]
rounds = 3
[environment]
id = "garnet"
states = 4
actions = 2
instances = 2
max_steps = 10
[evaluation]
episodes = 1
"""


def simulator(environment=GARNET, agents=2, instances=2, **physics):
    columns = {
        name: np.asarray(physics.get(name, np.full(agents, default)), dtype=np.float64)
        for name, default in environment.spec.physics.items()
    }
    made = environment.physics(3, range(agents), columns)
    return environment.simulator(made, instances, 3)


def test_a_table_has_a_row_per_state_or_one_for_all_and_the_default_is_uniform():
    assert np.array_equal(Table(rows=ROWS).chances(simulator())[0], np.array(ROWS))
    assert np.array_equal(Table(rows=((0.2, 0.8),)).chances(simulator()), [[[0.2, 0.8]] * 4])
    assert np.array_equal(Uniform().chances(simulator()), np.full((1, 4, 2), 0.5))


def test_a_baseline_acts_in_each_agents_own_physics(monkeypatch):
    machine = Maintenance(levels=6)
    found = Baseline(name="replace_in_time").chances(simulator(machine))
    assert np.array_equal(found.argmax(axis=-1), [[0, 0, 0, 2, 2, 2]] * 2)
    own = {"thrifty": lambda state, physics, t: np.where(physics["wear"] > state[..., 0], 1, 0)}
    spec = machine.spec
    object.__setattr__(spec, "baselines", own)
    monkeypatch.setattr(Maintenance, "spec", property(lambda self: spec))
    unlike = Baseline(name="thrifty").chances(simulator(machine, wear=[0.5, 2.5]))
    assert np.array_equal(unlike.argmax(axis=-1), [[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]])
    object.__setattr__(spec, "baselines", {"late": lambda state, physics, t: (t > 1) * 1})
    with pytest.raises(ScenarioError, match="acts by the time in the episode"):
        Baseline(name="late").chances(simulator(machine))


@pytest.mark.parametrize("samples", ["stationary", "trajectory"])
def test_samples_of_a_given_policy_have_the_frequencies_of_its_mean_field(samples):
    learner = TD(features=3, steps=10_000, samples=samples, lr=0.0, policy=Table(rows=ROWS))
    stack = learner.prepare(Task(3, 2, simulator(instances=12)))
    trainer = Trainer(stack, 2)
    trainer.freeze(0)
    trainer.freeze(1)
    A, b, count, phi = np.zeros((2, 3, 3)), np.zeros((2, 3)), 0, stack.features
    for before, after, reward in stack._samples(trainer._gather([0, 1]), np.arange(2)):
        A += np.einsum("btmp,btmq->bpq", phi[before], phi[before] - 0.95 * phi[after])
        b += np.einsum("btmp,btm->bp", phi[before], reward)
        count += before[0].size
    np.testing.assert_allclose(A / count, stack.system[0], atol=0.004)
    np.testing.assert_allclose(b / count, stack.system[1], atol=0.006)
    uniform = TD(features=3, policy=Uniform()).prepare(Task(3, 2, simulator()))
    assert np.abs(uniform.system[1] - stack.system[1]).max() > 0.05


@pytest.mark.parametrize("kind", ["tabular_q", "softmax_pg", "tabular_ac"])
def test_the_policy_of_a_run_is_evaluated(kind, tmp_path):
    options = {"same_start": False} if kind == "tabular_q" else {}
    scenario = loads(CONTROL, {"mode": "independent", "learner": {"kind": kind, **options}})
    control = p2pfrl.run(scenario, out=tmp_path / "control")
    policy = {"kind": "saved", "path": str(tmp_path / "control")}
    learner = {"kind": "td", "features": 0, "exact": True, "policy": policy}
    found = p2pfrl.run(loads(CONTROL, {"learner": learner}), out=tmp_path / "value")
    table = control.parameters[:, :8].mean(axis=0).reshape(4, 2)
    expected = (
        np.eye(2)[table.argmax(axis=1)] if kind == "tabular_q" else np.exp(log_softmax(table))
    )
    np.testing.assert_allclose(found.problem["policy"][0], expected, atol=1e-12)
    (tmp_path / "control" / "parameters.safetensors").unlink()
    assert p2pfrl.verify(tmp_path / "value").is_equal


def test_the_policy_of_a_network_is_evaluated_as_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learner = {"kind": "reinforce", "hidden": [3], "steps": 8}
    control = p2pfrl.run(loads(CONTROL, {"learner": learner}), out="control")
    saved = SavedPolicy(path="control")
    with pytest.raises(ScenarioError, match=r"no table q, actor or policy; .*record.policy\(0\)"):
        saved.chances(simulator())
    table = control.policy(0).table()
    assert np.array_equal(table.argmax(axis=1), control.policy(0).act(np.eye(4)))
    np.savetxt("policy.csv", table, delimiter=",")
    assert np.array_equal(SavedPolicy(path="policy.csv").chances(simulator())[0], table)
    save_file({"policy": np.array(ROWS)}, "policy.safetensors")
    assert np.array_equal(SavedPolicy(path="policy.safetensors").chances(simulator())[0], ROWS)


def test_an_environment_without_a_list_of_states_has_no_table_of_a_policy():
    text = CONTROL.replace('id = "garnet"\nstates = 4\nactions = 2', 'id = "cartpole"')
    learner = {"kind": "reinforce", "hidden": [3], "steps": 8}
    record = p2pfrl.run(loads(text, {"learner": learner}))
    with pytest.raises(p2pfrl.core.errors.RecordError, match="no states that could be listed"):
        RecordedPolicy(record, 0).table()


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"kind": "table", "rows": [[0.5, 0.5]] * 3}, "expected 4 rows of 2 probabilities, got 3"),
        ({"kind": "table", "rows": [[0.5, 0.5], [1.0]] * 2}, "rows of different lengths"),
        ({"kind": "table", "rows": [[0.5, 0.6]]}, r"probabilities that sum to 1, got \[0.5, 0.6\]"),
        ({"kind": "baseline", "name": "best"}, "no baseline 'best'; the environment has none"),
        ({"kind": "saved", "path": "none"}, "none: No such file"),
        ({"kind": "saved", "path": "words.csv"}, "words.csv: not a table of numbers"),
        ({"kind": "saved", "path": "sums.csv"}, r"row 1 is \[0.5, 0.4\]"),
        ({"kind": "saved", "path": "few.csv"}, "expected 4 rows of 2 probabilities, got 2 x 2"),
        ({"kind": "greedy"}, "no 'greedy' among target_policies"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_reason(policy, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.csv").write_text("left,right\n", encoding="utf-8")
    (tmp_path / "sums.csv").write_text("0.5,0.5\n0.5,0.4\n" * 2, encoding="utf-8")
    (tmp_path / "few.csv").write_text("0.5,0.5\n" * 2, encoding="utf-8")
    with pytest.raises(ScenarioError, match=says):
        loads(CONTROL, {"learner": {"kind": "td", "policy": policy}})
