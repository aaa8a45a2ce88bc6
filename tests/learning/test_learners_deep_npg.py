import numpy as np
import pytest
from learner_worlds import CONTINUOUS, DISCRETE, stack, task

from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.learners.deep_npg import DeepNPG
from p2pfrl.learning.natural import Fisher, NaturalDescent, Trust, solve
from p2pfrl.learning.networks import ACTIVATIONS, Network
from p2pfrl.learning.optimizers import SGD
from p2pfrl.learning.policies import policy_of
from p2pfrl.learning.trainer import Trainer

N = 5
SMALL = {"hidden": (7, 5), "steps": 16}


def fisher_of(problem, activation="tanh", samples=11, agents=2):
    """A Fisher information in float64 at random parameters.

    It comes with the network, policy, rows, observations and heads.
    """
    spec = problem.spec
    policy = policy_of(spec)
    network = Network(
        spec.observation,
        policy.outputs,
        hidden=(6, 5),
        activation=activation,
        log_std=policy.has_log_std,
        dtype="float64",
    )
    rng = np.random.default_rng(1)
    rows = network.layout.zeros(agents)
    network.layout.unpack(0.5 * rng.standard_normal((agents, network.layout.size)), rows)
    x = rng.standard_normal((agents, spec.observation, samples))
    out = np.empty((agents, network.outputs, samples))
    network.forward(rows, x, out)
    plan = DeepNPG(**SMALL).prepare(task(problem, agents)).plan
    descent = NaturalDescent(
        network,
        policy,
        SGD(1.0),
        plan,
        task(problem, agents),
        trust=Trust(0.1, 10, 0.0, 1.0),
        activation=ACTIVATIONS[activation],
    )
    head = np.ascontiguousarray(out[:, : policy.outputs])
    return Fisher(descent, rows, x, head), network, policy, rows, x, head


def dense(fisher, network, part, row, agents=2):
    """F of one agent, column by column, `(d, d)` of all parameters."""
    columns = []
    for k in range(network.layout.size):
        unit = np.zeros((agents, network.layout.size))
        unit[row, k] = 1.0
        change = network.layout.zeros(agents)
        network.layout.unpack(unit, change)
        change *= fisher.mask(part)
        columns.append(network.layout.pack(fisher.times(part, change))[row])
    return np.array(columns).T


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("problem", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_the_actors_fisher_information_is_the_curvature_of_the_divergence(problem, activation):
    fisher, network, policy, rows, x, head = fisher_of(problem, activation)
    F = dense(fisher, network, "actor", 1)
    assert np.allclose(F, F.T, atol=1e-12)
    assert np.linalg.eigvalsh(F).min() > -1e-12
    log_std, rng = network.log_std(rows).copy(), np.random.default_rng(2)

    def divergence(step):
        moved, out = rows.copy(), np.empty((2, network.outputs, x.shape[2]))
        change = network.layout.zeros(2)
        network.layout.unpack(step, change)
        moved += change
        network.forward(moved, x, out)
        other = out[:, : policy.outputs]
        return policy.divergence(head, log_std, other, network.log_std(moved)).mean(axis=1)[1]

    for _ in range(3):
        v = rng.standard_normal((2, network.layout.size))
        e = 1e-4
        curvature = (divergence(e * v) + divergence(-e * v)) / e**2
        assert v[1] @ F @ v[1] == pytest.approx(curvature, rel=1e-5)


def test_the_critics_is_that_of_a_normal_distribution_around_the_value():
    fisher, network, _, rows, x, _ = fisher_of(DISCRETE)
    F, e = dense(fisher, network, "critic", 0), 1e-6
    jacobian = []
    for k in range(network.layout.size):
        ends = []
        for sign in (1, -1):
            vector = network.layout.pack(rows)
            vector[0, k] += sign * e
            moved, out = network.layout.zeros(2), np.empty((2, network.outputs, x.shape[2]))
            network.layout.unpack(vector, moved)
            network.forward(moved, x, out)
            ends.append(out[0, -1].copy())
        jacobian.append((ends[0] - ends[1]) / (2 * e))
    J = np.array(jacobian)
    assert np.allclose(F, J @ J.T / x.shape[2], atol=1e-8)
    assert np.abs(F).max() > 0.1


@pytest.mark.parametrize("part", ["actor", "critic"])
def test_conjugate_gradients_solve_the_damped_system(part):
    fisher, network, *_ = fisher_of(CONTINUOUS)
    gradient = network.layout.zeros(2)
    network.layout.unpack(
        np.random.default_rng(3).standard_normal((2, network.layout.size)), gradient
    )
    gradient *= fisher.mask(part)
    w = network.layout.pack(solve(fisher, part, gradient, Trust(0.1, 60, 0.0, 1.0)))
    for row in range(2):
        F = dense(fisher, network, part, row)
        expected = np.linalg.solve(F + 0.1 * np.eye(len(F)), network.layout.pack(gradient)[row])
        assert np.allclose(w[row], expected, atol=1e-7)


@pytest.mark.parametrize("problem", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_a_step_stays_in_the_trust_region_and_uses_it(problem):
    learner = DeepNPG(hidden=(16,), steps=64, max_kl=0.02, damping=1e-3, iterations=20)
    bound = stack(learner, problem, N)
    trainer = Trainer(bound, N)
    for _ in range(3):
        before, state = trainer.parameters.copy(), {k: v.copy() for k, v in trainer.state.items()}
        obs = []
        original = bound.network.forward

        def spy(rows, x, out, chains=None, original=original, obs=obs):
            obs.append(np.array(x))
            original(rows, x, out, chains)

        bound.network.forward = spy
        trainer.update(range(N))
        bound.network.forward = original
        x = np.ascontiguousarray(max(obs, key=lambda a: a.shape[-1]))
        heads = []
        for rows in (before, trainer.parameters):
            out = np.empty((N, bound.network.outputs, x.shape[2]), dtype=rows.dtype)
            bound.network.forward(rows, x, out)
            heads += [out[:, : bound.policy.outputs].copy(), bound.network.log_std(rows).copy()]
        moved = bound.policy.divergence(*heads).mean(axis=1)
        assert state.keys() == trainer.state.keys()
        assert (moved < 0.02 + 1e-5).all()
        assert (moved > 0.3 * 0.02).any()


@pytest.mark.parametrize("problem", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_who_shares_the_batch_does_not_matter(problem):
    outcomes = []
    for groups in ([range(N)], [[4], [3], [2], [1], [0]], [[1, 3], [0, 2, 4]]):
        trainer = Trainer(stack(DeepNPG(**SMALL), problem, N), N)
        for _ in range(3):
            for group in groups:
                trainer.update(group)
        outcomes.append(trainer)
    first, *others = outcomes
    assert not np.array_equal(first.parameters[0], first.parameters[1])
    for other in others:
        assert np.array_equal(first.parameters, other.parameters)


def test_cartpole_is_learned():
    trainer = Trainer(stack(DeepNPG(), DISCRETE, 2), 2)
    first = np.mean([np.mean(update.returns) for update in trainer.update(range(2)).values()])
    for _ in range(16):
        updates = trainer.update(range(2))
    last = np.mean([np.mean(update.returns) for update in updates.values() if update.returns])
    assert first < 40
    assert last > 100


def test_distributions_are_not_for_natural_steps():
    with pytest.raises(ScenarioError, match="no logits to send"):
        stack(DeepNPG(**SMALL), DISCRETE, 2).exchange.offer_size("logits")
