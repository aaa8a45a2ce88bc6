"""A round that an agent sat out is behind it, after a restart too."""

from __future__ import annotations

import pytest

from p2pfrl.agent import Agent
from p2pfrl.core.types import Action, Mix
from p2pfrl.laws.runs import play


def test_a_restart_does_not_go_back_to_rounds_that_were_sat_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds: list[int] = []
    perform = Agent.perform

    def seen(agent: Agent, action: Action) -> None:
        if isinstance(action, Mix) and agent.id == 5:
            rounds.append(action.round)
        perform(agent, action)

    monkeypatch.setattr(Agent, "perform", seen)
    play(
        6,
        8,
        seed=20006,
        learner={"dimension": 32, "lr": 0.05},
        compute={"seconds_per_env_step": 0.002},
        availability={"dropout": 0.5},
        faults=(
            {"kind": "crash", "at": 0.01723, "agents": [5]},
            {"kind": "restart", "at": 0.02075, "agents": [5]},
        ),
    )
    assert rounds == sorted(set(rounds))
    assert rounds[-1] == 7
