"""The public checkers: every member of every axis passes.

A rule that breaks one law is named.
"""

from dataclasses import replace

import numpy as np
import pytest

from p2pfrl import (
    Aggregator,
    Compressor,
    ContractError,
    Gate,
    Graph,
    Mixing,
    P2PFRLError,
    Participation,
    Payload,
    ServerOptimizer,
    Topology,
    check_aggregator,
    check_compressor,
    check_gate,
    check_learner,
    check_mixing,
    check_participation,
    check_payload,
    check_server_optimizer,
    check_topology,
    load,
    rule,
    run,
)
from p2pfrl.consensus.aggregators import RULES as AGGREGATORS
from p2pfrl.consensus.mixing import RULES as MIXING
from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.consensus.participation import RULES as PARTICIPATION
from p2pfrl.consensus.participation.base import All
from p2pfrl.consensus.server_optimizers import RULES as SERVER_OPTIMIZERS
from p2pfrl.consensus.server_optimizers.base import Replace
from p2pfrl.consensus.topologies import RULES as TOPOLOGIES
from p2pfrl.consensus.topologies.lines import Ring
from p2pfrl.exchange.compressors import RULES as COMPRESSORS
from p2pfrl.exchange.compressors.base import Encoded, Raw
from p2pfrl.exchange.gates import RULES as GATES
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.gridworld import GridWorld
from p2pfrl.learning.environments.junction import Junction
from p2pfrl.learning.environments.matrix_game import MatrixGame
from p2pfrl.learning.environments.networked_mdp import NetworkedMDP
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Outcome
from p2pfrl.learning.learners.npg import NPG, GameStack
from p2pfrl.learning.learners.quadratic import Quadratic, QuadraticStack
from p2pfrl.learning.learners.tabular_q import TabularQ

OPTIONS = {
    "every": {"tau": 2},
    "norm": {"threshold": 1.0},
    "performance": {"threshold": 1.0},
    "reached": {"value": 1.0},
    "lag": {"alpha": 0.1, "agents": 4},
}


@pytest.mark.parametrize("kind", [kind for kind, rule in MIXING.items() if not rule.is_robust])
def test_every_mixing_rule_keeps_its_contract(kind):
    check_mixing(MIXING[kind]())


@pytest.mark.parametrize("kind", ["mean", "preferred", "latest"])
def test_every_aggregator_of_vectors_keeps_its_contract(kind):
    check_aggregator(AGGREGATORS[kind]())


@pytest.mark.parametrize("kind", SERVER_OPTIMIZERS)
def test_every_server_optimizer_keeps_its_contract(kind):
    check_server_optimizer(SERVER_OPTIMIZERS[kind]())


@pytest.mark.parametrize("kind", [kind for kind in PARTICIPATION if kind != "lag"])
def test_every_participation_rule_keeps_its_contract(kind):
    check_participation(PARTICIPATION[kind]())


@pytest.mark.parametrize("kind", [kind for kind in TOPOLOGIES if kind != "file"])
def test_every_topology_keeps_its_contract(kind):
    check_topology(TOPOLOGIES[kind]())


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_every_compressor_keeps_its_contract(kind):
    check_compressor(COMPRESSORS[kind]())


@pytest.mark.parametrize("kind", GATES)
def test_every_gate_keeps_its_contract(kind):
    check_gate(GATES[kind](**OPTIONS.get(kind, {})))


@pytest.mark.parametrize("kind", ["parameters", "delta", "gradient"])
def test_every_payload_of_parameters_keeps_its_contract(kind):
    check_payload(PAYLOADS[kind]())


@pytest.mark.parametrize(
    ("learner", "environment"),
    [
        (Quadratic(dimension=3, noise=0.1), None),
        (A2C(hidden=(8,), steps=4), CartPole()),
        (TabularQ(), GridWorld()),
        (A2C(hidden=(4,), steps=3), Junction(members=3, max_steps=4)),
        (NPG(exact=False, horizon=3), NetworkedMDP(members=2, states=2)),
    ],
    ids=["quadratic", "a2c", "tabular_q", "a2c in shared worlds", "npg in shared worlds"],
)
def test_learners_keep_their_contract(learner, environment):
    check_learner(learner, environment)


class Undecorated(Metropolis):
    """A rule without the decorator, which a run refuses."""


@rule
class Looks(Metropolis):
    def mix(self, turn, received, weights, state):
        return received[99], state


@rule
class InPlace(Metropolis):
    def mix(self, turn, received, weights, state):
        turn.own[:] = 0.0
        return turn.own.copy(), state


@pytest.mark.parametrize(
    ("mixing", "message"),
    [
        (Undecorated(), "Undecorated is no rule; decorate class Undecorated with @p2pfrl.rule"),
        (Looks(), r"Looks.mix raised KeyError: 99 \(.*test_checkers.py:\d+\); tables by agent"),
        (InPlace(), r"InPlace.mix raised ValueError: .*read-only .*; inputs are not changed: make"),
    ],
)
def test_what_a_rule_raises_has_its_name_and_the_fix(mixing, message):
    with pytest.raises(ContractError, match=message):
        check_mixing(mixing)


def test_a_rule_cannot_write_its_inputs_in_a_run():
    scenario = load("consensus_ring.toml", {"stop.rounds": 1})
    with pytest.raises(
        P2PFRLError, match=r"agent 2, round 1, ValueError: .* read-only \(.*checkers"
    ):
        run(scenario, mixing=InPlace())


class Wrong(Metropolis):
    """Metropolis mixing with one law broken."""


@rule
class Scales(Wrong):
    def mix(self, turn, received, weights, state):
        mixed, state = super().mix(turn, received, weights, state)
        return mixed * turn.own.dtype.type(0.99), state


@rule
class WritesToInputs(Wrong):
    def mix(self, turn, received, weights, state):
        mixed, state = super().mix(turn, received, weights, state)
        for vector in received.values():
            vector.setflags(write=True)
            vector += 1
        return mixed, state


@rule
class ReturnsFloat64(Wrong):
    def mix(self, turn, received, weights, state):
        mixed, state = super().mix(turn, received, weights, state)
        return mixed.astype(np.float64), state


@rule
class ReturnsItsInput(Wrong):
    def mix(self, turn, received, weights, state):
        return turn.own, state


@rule
class DrawsAtRandom(Wrong):
    def mix(self, turn, received, weights, state):
        mixed, state = super().mix(turn, received, weights, state)
        noise = np.random.Generator(np.random.PCG64()).standard_normal(len(mixed))
        return (mixed + 1e-9 * noise).astype(mixed.dtype), state


@rule
class SendsToOneOnly(Wrong):
    def payload(self, turn, state, to):
        return turn.own if to % 2 else turn.own + turn.own.dtype.type(1)


@rule
class SumsToMore(Wrong):
    def weights(self, graph):
        return tuple({j: 1.1 * w for j, w in row.items()} for row in super().weights(graph))


@rule
class ForgetsAnAgent(Wrong):
    def weights(self, graph):
        return super().weights(graph)[1:]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Scales, r"Scales\.mix: agents that agree moved by"),
        (WritesToInputs, r"WritesToInputs\.mix: changed its inputs"),
        (ReturnsFloat64, r"expected an array \(3,\) of float32, got \(3,\) of float64"),
        (ReturnsItsInput, "shares memory with turn.own"),
        (DrawsAtRandom, "two results for equal inputs"),
        (SendsToOneOnly, "neighbors get different payloads; set is_per_neighbor"),
        (SumsToMore, "row 0 sums to 1.1"),
        (ForgetsAnAgent, "expected a row for each of 7 agents, got 6"),
    ],
)
def test_a_mixing_rule_that_breaks_a_law_is_caught_by_name(wrong, says):
    with pytest.raises(ContractError, match=says):
        check_mixing(wrong())


def test_a_rule_that_does_not_keep_the_mean_may_say_so():
    graph = TOPOLOGIES["star"]().at(5, 0, 0)
    uniform = MIXING["uniform"]()
    with pytest.raises(ContractError, match="pass keeps_mean=False"):
        check_mixing(uniform, graph)
    check_mixing(uniform, graph, keeps_mean=False)


@rule
class Largest(Aggregator):
    def aggregate(self, received, model, state):
        return np.max([a.vector for a in received], axis=0) * 2, state


@rule
class FirstItself(Aggregator):
    def aggregate(self, received, model, state):
        return received[0].vector, state


@pytest.mark.parametrize(
    ("wrong", "says"),
    [(Largest, "does not lie between"), (FirstItself, "shares memory with a payload")],
)
def test_an_aggregator_that_breaks_a_law_is_caught(wrong, says):
    with pytest.raises(ContractError, match=says):
        check_aggregator(wrong())


@rule
class Drifts(ServerOptimizer):
    def step(self, model, target, factor, state):
        return target + target.dtype.type(0.1), state


@rule
class Nobody(Participation):
    def choose(self, round, present, standing):
        return ()


@rule
class Strangers(Participation):
    def choose(self, round, present, standing):
        return (99,)


@rule
class TwoIslands(Topology):
    def at(self, n, seed, round):
        return Graph(tuple(() for _ in range(n)))


@rule
class Says(Gate):
    def decide(self, payload, turn, state):
        return 1.5, state


@rule
class Halves(Payload):
    def extract(self, turn):
        return turn.own / 2

    def target(self, model, aggregate):
        return aggregate


@rule
class Forgets(Raw):
    def decode(self, data, size, dtype):
        return np.frombuffer(data, dtype)[::-1].copy()


@rule
class TooLong(Raw):
    def encode(self, vector, turn, state):
        return Encoded(np.concatenate([vector, vector]), vector, state)


@pytest.mark.parametrize(
    ("check", "wrong", "says"),
    [
        (check_server_optimizer, Drifts, "a model at its target moved"),
        (check_participation, Nobody, "chose nobody"),
        (check_participation, Strangers, "are present"),
        (check_topology, TwoIslands, "disconnected"),
        (check_gate, Says, r"expected \(True or False, state\), got \(1.5, \(\)\)"),
        (check_payload, Halves, "away from the agent"),
        (check_compressor, Forgets, "is not what the sender says"),
        (check_compressor, TooLong, "bytes for 1 numbers"),
    ],
)
def test_a_rule_that_breaks_a_law_is_caught(check, wrong, says):
    with pytest.raises(ContractError, match=says):
        check(wrong())


def test_a_learner_whose_rows_depend_on_the_batch_is_caught(monkeypatch):
    update = QuadraticStack.update

    def mixed_up(self, batch):
        outcome: Outcome = update(self, batch)
        return replace(outcome, parameters=outcome.parameters + len(batch.agents))

    monkeypatch.setattr(QuadraticStack, "update", mixed_up)
    with pytest.raises(ContractError, match="rows must not depend on the batch"):
        check_learner(Quadratic(dimension=3))


def test_a_learner_whose_rows_depend_on_other_worlds_is_caught(monkeypatch):
    update = GameStack.update

    def mixed_up(self, batch):
        outcome: Outcome = update(self, batch)
        return replace(outcome, parameters=outcome.parameters + len(batch.agents))

    monkeypatch.setattr(GameStack, "update", mixed_up)
    with pytest.raises(ContractError, match=r"batches .*\[8, 9\].*rows must not depend on"):
        check_learner(NPG(), MatrixGame())


def test_a_learner_that_takes_more_steps_than_it_promises_exactly_is_caught(monkeypatch):
    update = QuadraticStack.update

    def longer(self, batch):
        outcome: Outcome = update(self, batch)
        return replace(outcome, env_steps=outcome.env_steps + 1)

    monkeypatch.setattr(QuadraticStack, "update", longer)
    with pytest.raises(ContractError, match="min_steps is 1, but an update took 2"):
        check_learner(Quadratic(dimension=3))


def test_rules_of_the_package_are_of_the_public_contracts():
    assert isinstance(Metropolis(), Mixing)
    assert isinstance(Raw(), Compressor)
    assert isinstance(All(), Participation)
    assert isinstance(Replace(), ServerOptimizer)
    assert isinstance(Ring(), Topology)
