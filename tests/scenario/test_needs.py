"""A rule says what it needs and what it breaks, and one loop refuses the rest.

Rules of a user's own are included.
"""

import ast
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

import p2pfrl
from p2pfrl.catalog import TABLES, table
from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.needs import Breaks, By, Composable, Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.gates.base import Gate, State
from p2pfrl.laws.runs import text
from p2pfrl.scenario import Scenario, checks, loads
from p2pfrl.simulator.faults.base import Fault


@rule
class Proud(Metropolis):
    """Mixing that needs every message."""

    needs: ClassVar[Needs] = (Need.EVERY_MESSAGE,)


@rule
class Picky(Metropolis):
    """Mixing that needs another payload."""

    needs: ClassVar[Needs] = (OneOf("exchange.payload", ("logits",), "it reads chances"),)


@rule
class Torn(Metropolis):
    """Mixing with an option that breaks the order."""

    own: bool = False

    @property
    def breaks(self) -> Breaks:
        return (Need.ORDER.of("own"),) if self.own else ()


@rule
class Shy(Gate):
    """A gate that closes, and says nothing of what it breaks."""

    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        return False, state


@rule
class Storm(Fault):
    """A fault that says nothing of what it breaks."""

    def strike(self, world: object) -> None:
        pass


def scenario(**tables: object) -> Scenario:
    return loads(text(4, 3, **tables))


def refused(one: Scenario, **rules: object) -> str:
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.run(one, **rules)
    (problem,) = caught.value.problems
    return problem


def test_a_users_own_rule_is_refused_by_its_needs():
    where = "network.loss: mixing '" + f"{Proud.__module__}:Proud' needs every message in its round"
    assert refused(scenario(network={"loss": 0.1}), mixing=Proud()).startswith(where)
    assert p2pfrl.run(scenario(), mixing=Proud()).summary["rounds"] == 3
    reason = "needs exchange.payload 'logits', because it reads chances; got 'parameters'"
    assert reason in refused(scenario(), mixing=Picky())


def test_what_a_users_own_rule_breaks_is_refused_beside_what_needs_it():
    combined = scenario(exchange={"order": "combine_while_adapting"})
    assert p2pfrl.run(combined, mixing=Torn()).summary["rounds"] == 3
    assert "has an order of its own" in refused(combined, mixing=Torn(own=True))


def test_a_rule_that_says_nothing_is_taken_to_break_what_its_axis_can_break():
    extra = scenario(mixing={"kind": "extra"})
    assert refused(replace(extra, gate=Shy())).startswith("gate.kind: mixing 'extra' needs every")
    assert refused(replace(extra, faults=(Storm(at=1.0),))).startswith("faults.0: mixing 'extra'")
    assert p2pfrl.run(replace(scenario(), gate=Shy())).summary["rounds"] == 3


def test_what_its_axis_implies_is_needed_beside_what_a_rule_declares():
    gated = scenario(gate={"kind": "norm", "threshold": 0.1, "max_silence": 2})
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.run(gated, mixing=Proud(on_loss="symmetric"))
    ends, message = caught.value.problems
    assert "with on_loss = 'symmetric' needs both ends" in ends.replace('"', "'")
    assert "needs every message" in message


IDLE = {
    "top-k of parameters that stay": {"mode": "independent", "compressor": {"kind": "topk"}},
    "differences where nobody hears": {
        "mode": "pooled",
        "compressor": {"kind": "difference"},
        "network": {"loss": 0.1},
    },
    "own control variates with a gate, alone": {
        "mode": "independent",
        "correction": {"kind": "residual_variate"},
        "gate": {"kind": "every", "tau": 2},
    },
    "silence without a coordinator": {
        "gate": {"kind": "lag", "alpha": 0.1},
        "schedule": {"kind": "asynchronous"},
    },
    "mixing that a coordinator has no use for": {
        "mode": "central",
        "mixing": {"kind": "extra"},
        "network": {"loss": 0.1},
    },
}


@pytest.mark.parametrize("name", IDLE)
def test_a_need_that_a_mode_has_no_use_for_refuses_nothing(name):
    scenario(**IDLE[name])


def test_an_agent_that_comes_back_answers_again():
    """An agent is missing from the sum only where it does not come back.

    See test_scenario_compositions.py.
    """
    crash = {"at": "1s", "kind": "crash", "agents": [1]}
    restart = {"at": "2s", "kind": "restart", "agents": [1]}
    variates = {"mode": "central", "correction": {"kind": "residual_variate"}}
    scenario(**variates, faults=[crash, restart])
    with pytest.raises(ScenarioError, match=r"faults\.2: .*lack the share"):
        scenario(**variates, faults=[crash, restart, {**crash, "at": "3s"}])


RULES = {(axis, kind): cls for axis in TABLES for kind, cls in table(axis).items()}


def declared(cls: type, name: str) -> tuple[object, ...]:
    """Return what a class declares, where options do not decide."""
    found = getattr(cls, name)
    return found if isinstance(found, tuple) else ()


@pytest.mark.parametrize("key", [key for key in RULES if issubclass(RULES[key], Composable)])
def test_needs_and_breaks_are_what_they_are_declared_to_be(key):
    cls = RULES[key]
    assert all(isinstance(one, Need | By | OneOf) for one in declared(cls, "needs"))
    assert all(isinstance(one, Need | By) for one in declared(cls, "breaks"))


def test_all_axes_but_those_of_numbers_are_composable():
    others = {axis for (axis, _), cls in RULES.items() if not issubclass(cls, Composable)}
    assert others == {"environments", "drifts", "learners", "distributions"}


KINDS = {kind for (axis, kind) in RULES if axis not in ("payloads", "distributions")}
CHECKS = sorted(Path(checks.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_no_check_asks_for_a_rule_by_name(path):
    """A new rule changes no check: what rules need and break stands in their own classes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            named = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            assert not named & KINDS, f"{path.name}:{node.lineno}"


def test_needs_are_told_beside_a_learner_that_does_not_fit():
    tables = {
        "mixing": {"kind": "extra"},
        "network": {"loss": 0.1},
        "learner": {"kind": "ucbvi", "lr": 0.5},
    }
    with pytest.raises(ScenarioError) as caught:
        scenario(**tables, environment={"id": "garnet"})
    keys = {problem.split(": ")[1] for problem in caught.value.problems}
    assert keys == {"learner.lr", "network.loss"}
