"""Invariants that hold in any world, whatever goes wrong.

Random small worlds are checked from outside while they run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfrl.agent import Agent
from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.core.types import COORDINATOR, Action, Adopt, Mix
from p2pfrl.laws.runs import play
from p2pfrl.results.record import Record

N, ROUNDS = 6, 12
TOPOLOGIES = ["ring", "star", "complete", "one_peer_exponential", "random_matchings"]


class Watch:
    """Sees every round that ends and every payload that is applied."""

    def __init__(self) -> None:
        self.applied: Counter[tuple[int, int, int, int]] = Counter()
        self.rounds: defaultdict[int, list[int]] = defaultdict(list)
        self.lags: list[int] = []

    def mix(self, who: int, action: Mix) -> None:
        """A round of `who` ends with these messages."""
        for message, tau in (
            zip(action.received, action.staleness, strict=True) if action.active else ()
        ):
            self.applied[who, message.sender, message.incarnation, message.sequence] += 1
            self.lags.append(tau)
        self.rounds[who].append(action.round)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand between agents and what they do."""
        perform, carry_out = Agent.perform, Coordinator.perform

        def of_agent(agent: Agent, action: Action) -> None:
            if isinstance(action, Mix):
                self.mix(agent.id, action)
            elif isinstance(action, Adopt):
                self.rounds[agent.id].append(action.round)
            perform(agent, action)

        def of_coordinator(coordinator: Coordinator, action: Action) -> None:
            if isinstance(action, Mix):
                self.mix(COORDINATOR, action)
            carry_out(coordinator, action)

        patch.setattr(Agent, "perform", of_agent)
        patch.setattr(Coordinator, "perform", of_coordinator)


@st.composite
def timelines(draw: st.DrawFn) -> tuple[dict[str, Any], ...]:
    """Faults that can happen, by agent and network.

    Agent 1 crashes and may restart, 2 straggles, 3 leaves, 4 joins, and the network breaks.
    """

    def at(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    faults: list[dict[str, Any]] = []
    if draw(st.booleans()):
        time = at(1, 400)
        faults.append({"at": f"{time}ms", "kind": "crash", "agents": [1]})
        if draw(st.booleans()):
            faults.append({"at": f"{time + at(1, 400)}ms", "kind": "restart", "agents": [1]})
    if draw(st.booleans()):
        faults.append(
            {"at": f"{at(1, 300)}ms", "kind": "straggle", "agents": [2], "factor": at(2, 30)}
        )
    if draw(st.booleans()):
        faults.append({"at": f"{at(1, 500)}ms", "kind": "leave", "agents": [3]})
    if draw(st.booleans()):
        faults.append({"at": f"{at(1, 300)}ms", "kind": "join", "agents": [4]})
    if draw(st.booleans()):
        time = at(1, 300)
        faults.append({"at": f"{time}ms", "kind": "partition", "groups": [[0, 1, 2], [3, 4]]})
        faults.append({"at": f"{time + at(1, 300)}ms", "kind": "heal"})
    if draw(st.booleans()):
        time = at(1, 300)
        faults.append(
            {
                "at": f"{time}ms",
                "kind": "loss",
                "probability": draw(st.sampled_from([0.1, 0.5, 1.0])),
            }
        )
        faults.append({"at": f"{time + at(1, 200)}ms", "kind": "loss", "probability": 0.0})
    return tuple(faults)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Tables of a scenario."""
    is_synchronous = draw(st.booleans())
    schedule: dict[str, Any] = {"kind": "synchronous" if is_synchronous else "asynchronous"}
    schedule["every"] = draw(st.sampled_from([1, 2]))
    if is_synchronous:
        schedule |= {"deadline": "80ms", "suspect_after": draw(st.integers(1, 3))}
    else:
        schedule["max_staleness"] = draw(st.sampled_from([0, 2, 50]))
    return {
        "mode": draw(st.sampled_from(["gossip", "gossip", "central"])),
        "seed": draw(st.integers(0, 10**6)),
        "schedule": schedule,
        "topology": {"kind": draw(st.sampled_from(TOPOLOGIES))},
        "mixing": {
            "kind": "uniform",
            "on_loss": draw(st.sampled_from(["fold", "renormalize", "last_known"])),
        },
        "network": {
            "latency": {"kind": "uniform", "low": "1ms", "high": "20ms"},
            "jitter": draw(st.sampled_from(["0s", "30ms"])),
            "loss": draw(st.sampled_from([0.0, 0.0, 0.2])),
            "duplicate": draw(st.sampled_from([0.0, 0.3])),
            "peer_timeout": draw(st.sampled_from(["20ms", "1h"])),
            "bandwidth": "10Mbit/s",
        },
        "compute": {
            "seconds_per_env_step": "5ms",
            "speed": draw(st.sampled_from([1.0, [1, 2, 0.5, 1, 3, 1]])),
        },
        "availability": {"dropout": draw(st.sampled_from([0.0, 0.2]))},
        "faults": draw(timelines()),
        "learner": {"dimension": 3, "lr": 0.02},
    }


def count(run: Record, duplicates: bool) -> None:
    """Compare the record's counters with the trace: sent = delivered + dropped + in flight."""
    assert run.events is not None
    kinds = Counter(event.kind for event in run.events)
    summary = run.summary
    assert kinds["send"] == summary["messages_sent"]
    assert kinds["drop"] == summary["messages_dropped"]
    assert (
        kinds["deliver"] >= summary["messages_delivered"]
        if duplicates
        else kinds["deliver"] == summary["messages_delivered"]
    )
    open_sends: defaultdict[tuple[int, int, int, int], list[int]] = defaultdict(list)
    for event in run.events:
        key = (event.sender, event.receiver, event.sequence, event.crc)
        if event.kind == "send":
            open_sends[key].append(event.time_ns)
        elif event.kind in ("deliver", "drop") and open_sends[key]:
            open_sends[key].pop(0)
    in_flight = [time for times in open_sends.values() for time in times]
    assert (
        len(in_flight)
        == summary["messages_sent"] - summary["messages_delivered"] - summary["messages_dropped"]
    )
    assert all(time >= summary["virtual_seconds"] * 1e9 - 0.2e9 for time in in_flight)


def there_at_the_end(faults: tuple[dict[str, Any], ...], end: float) -> set[int]:
    """Return the agents that are there at `end` seconds."""
    there = set(range(N)) - {4 for fault in faults if fault["kind"] == "join"}
    for fault in sorted(faults, key=lambda f: int(f["at"][:-2])):
        if int(fault["at"][:-2]) / 1e3 <= end:
            change = {
                "crash": there.difference,
                "leave": there.difference,
                "restart": there.union,
                "join": there.union,
            }
            if fault["kind"] in change:
                there = change[fault["kind"]](fault["agents"])
    return there


@given(world=worlds())
@settings(max_examples=15, derandomize=True, deadline=None)
def test_invariants_hold_in_random_worlds(world: dict[str, Any]) -> None:
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        watch.install(patch)
        run = play(N, ROUNDS, trace=True, **world)
    count(run, duplicates=world["network"]["duplicate"] > 0)
    assert run.summary["stopped_by"] == "rounds"
    assert np.isfinite(run.parameters).all()
    assert not watch.applied or max(watch.applied.values()) == 1
    bound = world["schedule"].get("max_staleness", ROUNDS)
    assert max(watch.lags, default=0) <= bound
    assert run.staleness.sum() == len(watch.lags)
    assert len(run.staleness) <= bound + 1
    for rounds in watch.rounds.values():
        assert rounds == sorted(rounds if world["mode"] == "central" else set(rounds))
    if world["schedule"]["kind"] == "synchronous" and world["mode"] == "gossip":
        for agent in there_at_the_end(world["faults"], run.summary["virtual_seconds"]):
            assert watch.rounds[agent][-1] == ROUNDS - 1


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_while_adapting"])
@pytest.mark.parametrize(
    ("kind", "dropout"), [("ring", 0.5), ("random_matchings", 0.0), ("one_peer_exponential", 0.5)]
)
def test_where_nothing_goes_wrong_whoever_is_overtaken_is_awaited_and_nobody_leaves_a_round_out(
    kind: str, dropout: float, order: str
) -> None:
    tables = {
        "topology": {"kind": kind},
        "mixing": {"kind": "uniform"},
        "exchange": {"order": order},
        "availability": {"dropout": dropout},
        "network": {"latency": "0s", "jitter": "30ms"},
    }
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        watch.install(patch)
        for seed in range(3):
            watch.rounds.clear()
            run = play(4, 20, seed=seed, **tables)
            assert (run.summary["messages_late"], run.summary["deadlines_expired"]) == (0, 0)
            assert all(watch.rounds[agent] == list(range(20)) for agent in range(4))
