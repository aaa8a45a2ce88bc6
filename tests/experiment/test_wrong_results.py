"""Rules of a user's own that return the wrong thing: whose, in which round, and what it should be.

The checkers say the same of them, as a `ContractError`.
"""

import re
from dataclasses import replace

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.errors import AgentError, ContractError, P2PFRLError, TopologyError

TEXT = """name = "bowl"
agents = 4
stop = {rounds = 2}
learner = {kind = "quadratic", dimension = 2}
"""


def wrong(contract, method, value, **others):
    """Return a rule whose method returns `value`."""
    body = {method: lambda self, *_, **__: value, **others}
    return p2pfrl.rule(type("Wrong", (contract,), body))()


def rows(self, graph):
    """Return the rows of a mixing matrix of equal weights."""
    found = ({i, *graph.predecessors[i]} for i in range(graph.n))
    return tuple({j: 1.0 / len(row) for j in sorted(row)} for row in found)


def first(self, received, model, state):
    return received[0].vector.copy(), state


TARGET = {
    "target": lambda self, model, aggregate: aggregate,
    "modes": None,
}
CODEC = {
    "encoding": "raw",
    "limit": lambda self, size, itemsize: size * itemsize,
    "decode": lambda self, data, size, dtype: np.frombuffer(data, dtype),
}
PAIR, ANSWER = r"expected \(array, state\), got ", r"expected \(True or False, state\), got "
AGENTS = [
    (p2pfrl.Mixing, "mix", None, {"weights": rows}, PAIR + "None"),
    (
        p2pfrl.Mixing,
        "mix",
        (np.zeros(2), None),
        {"weights": rows},
        PAIR + r"\(an array \(2,\) of f",
    ),
    (p2pfrl.Mixing, "mix", (None, ()), {"weights": rows}, r"expected an array \(2,\) of float64"),
    (p2pfrl.Mixing, "prepare", None, {"weights": rows}, "expected a state, got None"),
    (p2pfrl.Mixing, "payload", None, {"weights": rows}, "expected a vector, got None"),
    (p2pfrl.Mixing, "init", None, {"weights": rows}, "expected a state, got None"),
    (p2pfrl.Gate, "decide", None, {}, ANSWER + "None"),
    (p2pfrl.Gate, "decide", True, {}, ANSWER + "True"),
    (p2pfrl.Gate, "decide", ("yes", ()), {}, ANSWER + r"\('yes', \(\)\)"),
    (p2pfrl.Compressor, "encode", None, CODEC, "expected an Encoded: .*, got None"),
]
AXES = {p2pfrl.Mixing: "mixing", p2pfrl.Gate: "gate", p2pfrl.Compressor: "compressor"}
PAYLOADS = [(p2pfrl.Payload, "extract", None, TARGET, "")]
COORDINATORS = [
    (p2pfrl.Aggregator, "aggregate", None, {}, r"expected \(array, memory\), got None"),
    (p2pfrl.Aggregator, "aggregate", np.zeros(2), {}, r"expected \(array, memory\), got an array"),
    (p2pfrl.Aggregator, "prefer", None, {"aggregate": first}, "expected positions .*, got None"),
    (p2pfrl.ServerOptimizer, "step", None, {}, PAIR + "None"),
    (p2pfrl.ServerOptimizer, "step", np.zeros(2), {}, PAIR + r"an array \(2,\) of float64"),
    (
        p2pfrl.Participation,
        "choose",
        None,
        {},
        "expected at least one of the 4 agents .*, got None",
    ),
    (p2pfrl.Participation, "choose", [9], {}, "expected at least one of the 4 agents .*"),
    (p2pfrl.Participation, "choose", [], {}, "expected at least one of the 4 agents .*"),
]
PARTS = {
    p2pfrl.Aggregator: "aggregator",
    p2pfrl.ServerOptimizer: "server_optimizer",
    p2pfrl.Participation: "participation",
}
CHECKS = {
    p2pfrl.Mixing: p2pfrl.check_mixing,
    p2pfrl.Gate: p2pfrl.check_gate,
    p2pfrl.Compressor: p2pfrl.check_compressor,
    p2pfrl.Payload: p2pfrl.check_payload,
    p2pfrl.Aggregator: p2pfrl.check_aggregator,
    p2pfrl.ServerOptimizer: p2pfrl.check_server_optimizer,
    p2pfrl.Participation: p2pfrl.check_participation,
    p2pfrl.Topology: p2pfrl.check_topology,
    p2pfrl.Learner: p2pfrl.check_learner,
    p2pfrl.Environment: p2pfrl.check_environment,
}


@pytest.mark.parametrize(("contract", "method", "value", "others", "says"), AGENTS)
def test_what_a_rule_of_an_agent_returned_is_said_with_agent_and_round(
    contract, method, value, others, says
):
    rule = wrong(contract, method, value, **others)
    scenario = replace(p2pfrl.loads(TEXT), **{AXES[contract]: rule})
    place = "" if method == "init" else ", round 1"
    with pytest.raises(AgentError, match=rf"^agent \d{place}, Wrong\.{method}: {says}"):
        p2pfrl.run(scenario)


@pytest.mark.parametrize(("contract", "method", "value", "others", "says"), COORDINATORS)
def test_what_a_rule_of_a_coordinator_returned_is_said_with_the_round(
    contract, method, value, others, says
):
    scenario = p2pfrl.loads(TEXT, {"mode": "central"})
    rule = wrong(contract, method, value, **others)
    rules = replace(scenario.coordinator, **{PARTS[contract]: rule})
    with pytest.raises(AgentError, match=rf"^the coordinator, round 1, Wrong\.{method}: {says}"):
        p2pfrl.run(replace(scenario, coordinator=rules))


@pytest.mark.parametrize(
    ("contract", "method", "value", "others", "says"), [*AGENTS, *COORDINATORS, *PAYLOADS]
)
def test_the_checkers_say_the_same(contract, method, value, others, says):
    del says
    with pytest.raises(ContractError, match=rf"^Wrong\.{method}: "):
        CHECKS[contract](wrong(contract, method, value, **others))


@pytest.mark.parametrize("contract", CHECKS)
def test_a_checker_refuses_a_class_a_name_and_a_rule_of_another_axis(contract):
    check = CHECKS[contract]
    start = rf"^{check.__name__}: expected a rule, an instance of {contract.__name__}, got "
    # Of environments names are taken, too.
    is_named = contract is p2pfrl.Environment
    name = r"^environment\.id: expected one of .*got " if is_named else start
    with pytest.raises(P2PFRLError if is_named else ContractError, match=name + "'metropolis'"):
        check("metropolis")
    with pytest.raises(ContractError, match=start + "object"):
        check(object())
    fix = rf"the class {contract.__name__}; write {check.__name__}\({contract.__name__}\("
    with pytest.raises(ContractError, match=start + fix):
        check(contract)


def test_a_learner_that_returns_no_outcome_is_named(monkeypatch):
    from p2pfrl.learning.learners.quadratic import Quadratic, QuadraticStack

    update = QuadraticStack.update
    expected = "QuadraticStack.update: expected an Outcome .*, got "
    monkeypatch.setattr(QuadraticStack, "update", lambda self, batch: None)
    with pytest.raises(AgentError, match=rf"^agent 0, round 1, {expected}None"):
        p2pfrl.run(p2pfrl.loads(TEXT))
    with pytest.raises(ContractError, match=f"^{expected}None"):
        p2pfrl.check_learner(Quadratic())
    short = lambda self, batch: replace(update(self, batch), loss=np.zeros(1))  # noqa: E731
    monkeypatch.setattr(QuadraticStack, "update", short)
    with pytest.raises(AgentError, match=f"{expected}Outcome"):
        p2pfrl.run(p2pfrl.loads(TEXT))


def test_keys_of_weights_may_come_in_any_order():
    unsorted = lambda self, graph: tuple(  # noqa: E731
        {j: row[j] for j in reversed(row)} for row in rows(self, graph)
    )
    p2pfrl.check_mixing(p2pfrl.rule(type("Own", (p2pfrl.Mixing,), {"weights": unsorted}))())


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (lambda self, graph: tuple({i: 2.0} for i in range(graph.n)), "row 0 sums to 2"),
        (lambda self, graph: None, "expected a row for each of 4 agents, got None"),
        (
            lambda self, graph: tuple({i: 1.0} for i in range(2)),
            "expected a row for each of 4 agents",
        ),
        (lambda self, graph: tuple({9: 1.0} for i in range(graph.n)), "row 0: expected keys"),
    ],
)
def test_weights_that_are_no_mixing_matrix_are_refused_before_the_run(weights, says):
    own = p2pfrl.rule(type("Own", (p2pfrl.Mixing,), {"weights": weights}))()
    with pytest.raises(TopologyError, match=re.escape(f"Own.weights: {says}")):
        p2pfrl.run(p2pfrl.loads(TEXT), mixing=own)
