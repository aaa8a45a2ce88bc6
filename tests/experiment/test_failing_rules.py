"""Rules of a user's own that raise: the error says whose round it was, and in which line."""

import re
from dataclasses import replace

import pytest

import p2pfrl
from p2pfrl.core.errors import AgentError

TEXT = """name = "bowl"
agents = 4
stop = {rounds = 6}
learner = {kind = "quadratic", dimension = 2}
"""


@p2pfrl.rule
class Fragile(p2pfrl.Gate):
    """Fails in round 3 of agent 2."""

    def decide(self, payload, turn, state):  # type: ignore[no-untyped-def]
        return turn.agent != 2 or turn.round < 2 or 1 / 0 > 0, state


@p2pfrl.rule
class Absent(p2pfrl.Aggregator):
    """Fails at once."""

    def aggregate(self, updates, model, memory):  # type: ignore[no-untyped-def]
        raise KeyError("weights")


def test_a_rule_of_an_agent_that_raises_is_named_with_agent_round_and_line() -> None:
    scenario = replace(p2pfrl.loads(TEXT), gate=Fragile())
    with pytest.raises(AgentError) as caught:
        p2pfrl.run(scenario)
    line = (
        r"agent 2, round 3, ZeroDivisionError: division by zero \(\S*test_failing_rules\.py:\d+\)"
    )
    assert re.fullmatch(line, str(caught.value))
    assert isinstance(caught.value.record, p2pfrl.Record)
    assert caught.value.record.summary["failure"] == str(caught.value)


def test_a_rule_of_a_coordinator_that_raises_is_named_with_its_round_and_line() -> None:
    scenario = p2pfrl.loads(TEXT, {"mode": "central"})
    broken = replace(scenario, coordinator=replace(scenario.coordinator, aggregator=Absent()))
    line = r"the coordinator, round 1, KeyError: 'weights' \(\S*test_failing_rules\.py:\d+\)"
    with pytest.raises(AgentError, match=line):
        p2pfrl.run(broken)
