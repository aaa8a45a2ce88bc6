import numpy as np
import pytest
from learner_worlds import task

from p2pfrl.commands.summaries import describe
from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.consensus.aggregators.natural import Natural
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rng import Streams
from p2pfrl.core.softmax import log_softmax, natural
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.laws.runs import play
from p2pfrl.learning.corrections import RULES as CORRECTIONS
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.crossing import Crossing
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.gridworld import GridWorld
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.npg import NPG, SoftmaxPG
from p2pfrl.learning.learners.softmax import Exact, Sampled, Sought, walk
from p2pfrl.learning.trainer import Trainer

N = 5


def bind(learner, environment=None, agents=N, instances=4, perturbation=0.5, **options):
    environment = environment or Garnet(states=5, actions=3, branching=2)
    column = columns(environment, {}, 3, range(agents), agents)
    if "perturbation" in column:
        column |= {name: np.full(agents, perturbation) for name in column}
    physics = environment.physics(3, range(agents), column)
    simulator = environment.simulator(physics, instances, 3)
    return learner.prepare(
        Task(3, agents, simulator, environment.simulator(physics, 400, 3), **options)
    )


def logits_of(stack, seed=0):
    return np.random.default_rng(seed).standard_normal((len(stack.processes), *stack.shape))


def value(stack, i, logits, gamma, entropy):
    """J of agent i, by following the distribution of states through 400 steps."""
    p, pi = stack.processes, np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    here, total = p.start[i].copy(), 0.0
    for t in range(400):
        total += gamma**t * sum(
            here[s] * pi[s, a] * (p.reward[i, s, a] - entropy * np.log(pi[s, a]))
            for s in range(len(pi))
            for a in range(pi.shape[1])
        )
        here = np.einsum("s,sa,sat->t", here, pi, p.transition[i]) * p.goes_on[i]
    return total


@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize(
    "environment", [Garnet(states=4, actions=3, branching=2), GridWorld(rows=2, columns=2)]
)
def test_the_exact_gradient_is_that_of_the_value(environment, entropy):
    stack = bind(SoftmaxPG(), environment)
    logits, gamma = logits_of(stack), 0.8
    slope = Exact(stack.processes, np.arange(N), Sought(gamma, entropy))(logits)
    for i in (0, N - 1):
        assert slope.value[i] == pytest.approx(
            value(stack, i, logits[i], gamma, entropy), abs=1e-12
        )
        for s, a in ((0, 0), (1, 2), (stack.shape[0] - 1, 1)):
            step = np.zeros(stack.shape)
            step[s, a] = 1e-5
            ends = [value(stack, i, logits[i] + sign * step, gamma, entropy) for sign in (1, -1)]
            assert slope.gradient[i, s, a] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-8)


def dense_fisher(visits, policy):
    """F of all logits together, `(S A, S A)`."""
    states, actions = policy.shape
    full = np.zeros((states * actions, states * actions))
    for s in range(states):
        block = slice(s * actions, (s + 1) * actions)
        full[block, block] = visits[s] * (np.diag(policy[s]) - np.outer(policy[s], policy[s]))
    return full


def centered(table):
    """A table without what a softmax does not see."""
    return table - table.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize("damping", [0.0, 0.01])
def test_the_natural_direction_solves_the_dense_system(damping):
    stack = bind(SoftmaxPG())
    logits = logits_of(stack)
    slope = Exact(stack.processes, np.arange(N), Sought(0.8, 0.0))(logits)
    policy = np.exp(log_softmax(logits))
    ours = natural(slope.gradient, slope.visits, policy, damping)
    for i in range(N):
        full = dense_fisher(slope.visits[i], policy[i])
        theirs = np.linalg.pinv(full + damping * np.eye(len(full))) @ slope.gradient[i].ravel()
        assert np.allclose(centered(ours[i]), centered(theirs.reshape(stack.shape)), atol=1e-9)


def test_an_exact_natural_step_multiplies_the_policy_by_exponentials_of_the_advantage():
    stack = bind(NPG(gamma=0.8, lr=0.5))
    trainer = Trainer(stack, N)
    trainer.parameters[:, : stack.layout.size] = logits_of(stack).reshape(N, -1)
    before = stack._tables(trainer.parameters).copy()
    slope = Exact(stack.processes, np.arange(N), stack.sought)(before)
    trainer.update(range(N))
    expected = np.exp(log_softmax(before)) * np.exp(0.5 * slope.advantage / (1 - 0.8))
    expected /= expected.sum(axis=-1, keepdims=True)
    assert np.allclose(np.exp(log_softmax(stack._tables(trainer.parameters))), expected, atol=1e-12)


@pytest.mark.parametrize(
    "environment", [Garnet(states=4, actions=3, branching=2), GridWorld(rows=2, columns=2)]
)
def test_trajectories_estimate_value_gradient_and_frequencies(environment):
    stack, sought = bind(SoftmaxPG(), environment, agents=2), Sought(0.7, 0.1)
    logits, agents = logits_of(stack), np.arange(2)
    exact = Exact(stack.processes, agents, sought)(logits)
    found = []
    for repetition in range(30):
        streams = Streams.of(repetition, [0, 1], "test")
        found.append(
            Sampled(walk(stack.processes, agents, logits, streams, 400, 40), sought)(logits)
        )
    for name in ("value", "gradient", "visits"):
        draws = np.array([getattr(slope, name) for slope in found])
        error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws)) + 1e-6
        assert (np.abs(draws.mean(axis=0) - getattr(exact, name)) < 5 * error).all(), name


def test_trajectories_of_one_policy_estimate_the_gradient_of_another():
    stack, sought = bind(SoftmaxPG(), agents=2), Sought(0.1, 0.1)
    acting, agents = logits_of(stack), np.arange(2)
    other = acting + 0.4 * logits_of(stack, 1)
    exact = Exact(stack.processes, agents, sought)(other)
    draws = np.array(
        [
            Sampled(
                walk(stack.processes, agents, acting, Streams.of(k, [0, 1], "test"), 4000, 6),
                sought,
            )(other).gradient
            for k in range(60)
        ]
    )
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    apart = np.abs(draws.mean(axis=0) - exact.gradient)
    assert (apart < 5 * error + 1e-5).all()
    elsewhere = Exact(stack.processes, agents, sought)(acting).gradient
    assert (np.abs(draws.mean(axis=0) - elsewhere) > 10 * error).any()


LEARNERS = {
    "exact": SoftmaxPG(steps=3, entropy=0.1),
    "natural": NPG(steps=2, lr=0.1),
    "sampled": SoftmaxPG(exact=False, horizon=15, steps=2, bound=5.0),
    "sampled natural": NPG(exact=False, horizon=15, lr=0.05),
}


@pytest.mark.parametrize("correction", ["none", "prox", "storm"])
@pytest.mark.parametrize("name", LEARNERS)
def test_who_shares_the_batch_does_not_matter(name, correction):
    outcomes = []
    for groups in ([range(N)], [[4], [3], [2], [1], [0]], [[1, 3], [0, 2, 4]]):
        rule = CORRECTIONS[correction]()
        trainer = Trainer(
            bind(LEARNERS[name], GridWorld(rows=3, columns=3), correction=rule), N, same_start=False
        )
        for _ in range(3):
            for group in groups:
                trainer.update(group)
        outcomes.append(trainer)
    first, *others = outcomes
    assert not np.array_equal(first.parameters[0], first.parameters[1])
    for other in others:
        assert np.array_equal(first.parameters, other.parameters)
        assert all(np.array_equal(values, other.state[key]) for key, values in first.state.items())


def test_with_payload_gradient_nothing_moves_and_the_coordinator_takes_the_same_step():
    stack = bind(SoftmaxPG(), gradient_only=True)
    trainer = Trainer(stack, N)
    trainer.update(range(N))
    assert not trainer.parameters.any()
    world = {"id": "garnet", "states": 6, "actions": 3, "vary": {"perturbation": 0.5}}
    common = {"mode": "central", "environment": world, "evaluation": {"episodes": 0}}
    for kind in ("softmax_pg", "npg"):
        learner = {"kind": kind, "gamma": 0.9, "lr": 0.5}
        own = play(4, 12, learner=learner, **common)
        server = {"server_optimizer": {"kind": "sgd", "lr": 0.5}}
        theirs = play(
            4, 12, learner=learner, exchange={"payload": "gradient"}, coordinator=server, **common
        )
        assert np.abs(own.parameters).max() > 0.1
        assert np.allclose(own.parameters, theirs.parameters, atol=1e-12)


def test_the_coordinators_natural_step_divides_sums_and_is_not_the_mean_of_the_agents_own():
    stack = bind(SoftmaxPG(gamma=0.8), gradient_only=True, perturbation=1.0)
    trainer, logits = Trainer(stack, N), logits_of(stack)[0]
    trainer.parameters[:, : stack.layout.size] = logits.ravel()
    trainer.update(range(N))
    offered = [trainer.offer(i, "fisher") for i in range(N)]
    assert (
        stack.exchange.offer_size("fisher") == len(offered[0]) == stack.layout.size + stack.shape[0]
    )
    arrived = [Arrived(i, vector, 1.0) for i, vector in enumerate(offered)]
    direction = Natural().aggregate(arrived, logits.ravel(), {})[0].reshape(stack.shape)
    policy = np.exp(log_softmax(logits))
    gradients = [vector[: logits.size] for vector in offered]
    fishers = [dense_fisher(vector[logits.size :], policy) for vector in offered]
    together = np.linalg.pinv(np.sum(fishers, axis=0)) @ np.sum(gradients, axis=0)
    apart = np.mean(
        [np.linalg.pinv(F) @ g for F, g in zip(fishers, gradients, strict=True)], axis=0
    )
    assert np.allclose(centered(direction), centered(together.reshape(stack.shape)), atol=1e-9)
    distance = np.abs(centered((together - apart).reshape(stack.shape))).max()
    assert distance > 0.05 * np.abs(together).max()
    damped = Natural(damping=0.1).aggregate(arrived, logits.ravel(), {})[0]
    full = np.mean(fishers, axis=0) + 0.1 * np.eye(logits.size)
    assert np.allclose(damped, np.linalg.solve(full, np.mean(gradients, axis=0)), atol=1e-9)


def test_the_last_messages_of_all_agents_make_the_natural_step_without_rounds():
    stack = bind(SoftmaxPG(gamma=0.8), gradient_only=True, perturbation=1.0)
    trainer, shape, size = Trainer(stack, N), stack.shape, stack.layout.size
    trainer.parameters[:, :size] = logits_of(stack)[0].ravel()
    trainer.update(range(N))
    plain = [Arrived(i, trainer.offer(i, "fisher"), 1.0) for i in range(N)]
    own = [Arrived(i, trainer.offer(i, "fisher_policy"), 1.0) for i in range(N)]
    assert stack.offer_size("fisher_policy") == len(own[0].vector) == 2 * size + shape[0]
    model, rule = trainer.parameters[0, :size], Natural(latest=True)
    known = {}
    for arrived in own:  # one after the other, as without rounds
        found, known = rule.aggregate([arrived], model, known)
    assert np.allclose(found, Natural().aggregate(plain, model, {})[0], atol=1e-12)
    first = rule.aggregate(own[:1], model, {})[0]
    assert not np.allclose(first, found)
    newest = Arrived(0, own[1].vector, 1.0)
    again = rule.aggregate([newest], model, known)[0]
    assert np.allclose(again, rule.aggregate([newest, *own[1:]], model, {})[0], atol=1e-14)


def test_a_stale_message_counts_by_its_factor_in_both_sums():
    gradient, visits, policy = np.array([1.0, -1.0]), np.array([0.5]), np.array([0.25, 0.75])
    vector = np.concatenate([gradient, visits, policy])
    half = PAYLOADS["fisher_policy"]().scaled(vector, np.zeros(2), 0.5)
    assert half.tolist() == [0.5, -0.5, 0.25, 0.25, 0.75]
    rule, other = Natural(latest=True), np.array([-3.0, 3.0, 0.5, 0.5, 0.5])
    one = rule.aggregate([Arrived(0, vector, 1.0)], np.zeros(2), {})[0]
    assert np.allclose(one, rule.aggregate([Arrived(0, half, 1.0)], np.zeros(2), {})[0])
    both, _ = rule.aggregate([Arrived(0, half, 1.0), Arrived(1, other, 1.0)], np.zeros(2), {})
    seen = 0.25 * policy + 0.5 * np.array([0.5, 0.5])
    total = np.array([0.5 - 3.0, -0.5 + 3.0])
    fisher = np.diag(seen) - np.outer(seen, seen) / seen.sum()
    assert np.allclose(both, np.linalg.pinv(fisher) @ total)


def test_where_agents_are_alike_both_natural_steps_are_the_same():
    world = {"id": "garnet", "states": 6, "actions": 3}
    common = {"mode": "central", "environment": world, "evaluation": {"episodes": 0}}
    server = {"kind": "sgd", "lr": 0.5}
    one = play(
        3,
        8,
        learner={"kind": "npg"},
        exchange={"payload": "gradient"},
        coordinator={"server_optimizer": server},
        **common,
    )
    other = play(
        3,
        8,
        learner={"kind": "softmax_pg"},
        exchange={"payload": "fisher"},
        coordinator={"server_optimizer": server, "aggregator": {"kind": "natural"}},
        **common,
    )
    assert np.allclose(
        log_softmax(one.parameters.reshape(3, 6, 3)), log_softmax(other.parameters.reshape(3, 6, 3))
    )


def test_with_entropy_the_natural_steps_reach_the_soft_optimum():
    record = play(
        1,
        60,
        mode="independent",
        environment={"id": "garnet", "states": 8, "actions": 3},
        learner={"kind": "npg", "gamma": 0.8, "entropy": 0.2},
        evaluation={"episodes": 0},
    )
    assert record.metrics["error"][0] > 1e-3
    assert abs(record.metrics["error"][-1]) < 1e-10
    assert np.exp(log_softmax(record.parameters[0].reshape(8, 3))).min() > 1e-3


def test_logits_start_where_they_are_put_and_stay_within_the_bound():
    stack = bind(SoftmaxPG(logits=(2.0, 0.0), bound=2.5, lr=100.0), Crossing(), agents=2)
    trainer = Trainer(stack, 2)
    assert stack._tables(trainer.parameters)[1].tolist() == [[2.0, 0.0], [2.0, 0.0]]
    trainer.update([0, 1])
    assert np.abs(stack._tables(trainer.parameters)).max() == 2.5
    assert stack.traits.rate == 0.0


def test_a_policy_is_evaluated_as_it_is_not_as_its_most_likely_actions():
    stack = bind(SoftmaxPG(), Crossing(max_steps=8), agents=2)
    rows = stack.layout.zeros(2)
    coin = stack.evaluator.evaluate([0, 1], rows, 400, 1)
    assert np.allclose(coin, 1 - 2.0**-8, atol=5 * 2.0**-4 / 20)
    stack._tables(rows)[:] = (50.0, 0.0)
    assert stack.evaluator.evaluate([0, 1], rows, 400, 1).tolist() == [1.0, 0.0]


def test_the_record_and_the_summary_say_that_actions_of_an_evaluation_were_drawn():
    options = {"environment": {"id": "crossing", "max_steps": 8}, "evaluation": {"episodes": 4}}
    drawn = play(2, 1, mode="independent", learner={"kind": "softmax_pg"}, **options)
    assert drawn.summary["evaluation"]["actions"] == "drawn"
    assert "evaluation, drawn" in describe(drawn.summary)
    greedy = play(2, 1, mode="independent", learner={"kind": "tabular_q"}, **options)
    assert "actions" not in greedy.summary["evaluation"]
    assert "greedy evaluation" in describe(greedy.summary)


def test_the_crossing_lets_every_second_agent_out_to_the_left():
    stack = bind(SoftmaxPG(gamma=0.9), Crossing(), agents=4)
    left = np.zeros((4, 2, 2))
    left[:, 0, 0] = 50.0
    assert np.allclose(
        Exact(stack.processes, np.arange(4), stack.sought)(left).value, [1, 0, 1, 0], atol=1e-12
    )
    coin = Exact(stack.processes, np.arange(4), stack.sought)(np.zeros((4, 2, 2))).value
    assert np.allclose(coin, 1 / 1.1, atol=1e-12)


@pytest.mark.parametrize(
    ("learner", "reason"),
    [
        (SoftmaxPG(logits=(1.0,)), "expected 3 numbers"),
        (SoftmaxPG(steps=2), "must be 1 with exchange.payload = 'gradient'"),
    ],
)
def test_what_does_not_fit_is_refused(learner, reason):
    with pytest.raises(ScenarioError, match=reason):
        bind(learner, gradient_only=True)


def test_natural_gradients_are_not_divided_again():
    with pytest.raises(ScenarioError, match="softmax_pg"):
        bind(NPG()).exchange.offer_size("fisher")


def test_an_environment_without_tables_is_refused():
    with pytest.raises(ScenarioError, match="given by tables"):
        NPG().prepare(task(CartPole(), 2))
