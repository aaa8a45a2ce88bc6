"""The timeline of a run: when agents train, send and wait."""

from __future__ import annotations

import pytest

from p2pfrl.core.units import SECOND
from p2pfrl.experiment.run import simulate
from p2pfrl.results import timeline as module
from p2pfrl.results.record import Interval
from p2pfrl.results.timeline import Timeline
from p2pfrl.scenario.loader import loads

SLOW = """name = "slow"
extends = "ad_psgd"
agents = 4
stop = {rounds = 20}
learner = {kind = "quadratic", dimension = 2}
network = {latency = "20ms"}
compute = {seconds_per_env_step = 0.1, speed = [1.0, 0.1, 1.0, 1.0]}
"""


def test_an_agent_that_answers_while_it_trains_does_not_wait():
    record = simulate(loads(SLOW, {}))
    sends = [i for i in record.timeline if (i.agent, i.kind) == (1, "send")]
    trains = [i for i in record.timeline if (i.agent, i.kind) == (1, "train")]
    assert any(t.start < s.start < t.end for s in sends for t in trains), "it answers meanwhile"
    assert sum(t.end - t.start for t in trains) == pytest.approx(record.summary["virtual_seconds"])
    assert not [i for i in record.timeline if (i.agent, i.kind) == (1, "wait")]
    for interval in record.timeline:
        assert interval.start < interval.end
        if interval.kind == "wait":
            own = [t for t in record.timeline if t.agent == interval.agent and t.kind == "train"]
            assert not any(t.start < interval.end and interval.start < t.end for t in own)


def test_an_update_that_the_end_of_the_run_cuts_off_is_training_up_to_then():
    record = simulate(loads(SLOW, {"stop.virtual_time": 0.75}))
    assert record.summary["stopped_by"] == "virtual_time"
    assert [i for i in record.timeline if i.agent == 1 and i.kind != "send"] == [
        Interval(1, "train", 0.0, 0.75)
    ]
    last = {agent: max(i.end for i in record.timeline if i.agent == agent) for agent in range(4)}
    assert last == dict.fromkeys(range(4), 0.75)


def test_an_agent_waits_before_within_and_after_its_updates_but_not_during_them():
    timeline = Timeline(lambda: 0)
    for kind, start, end in (
        ("send", 2, 3),  # before the first update
        ("send", 12, 13),  # during it
        ("train", 10, 20),
        ("send", 25, 26),  # during the second one, which comes after a wait of 2 s
        ("train", 22, 30),
        ("send", 31, 32),
    ):
        timeline.interval(0, kind, start * SECOND, end * SECOND)
    assert [i[1:] for i in timeline.intervals] == [
        ("wait", 0.0, 2.0),
        ("send", 2.0, 3.0),
        ("wait", 3.0, 10.0),
        ("send", 12.0, 13.0),
        ("train", 10.0, 20.0),
        ("wait", 20.0, 22.0),
        ("send", 25.0, 26.0),
        ("train", 22.0, 30.0),
        ("wait", 30.0, 31.0),
        ("send", 31.0, 32.0),
    ]
    again = Timeline(lambda: 0)
    again.restore(timeline.save())
    assert again.intervals == timeline.intervals


def test_an_update_that_began_before_the_timeline_was_full_is_in_it(monkeypatch):
    monkeypatch.setattr(module, "_MAX_INTERVALS", 4)
    timeline = Timeline(lambda: 0)
    for second in range(6):
        timeline.interval(0, "train", second * SECOND, (second + 1) * SECOND)
    timeline.interval(1, "train", 0, 6 * SECOND)
    timeline.interval(0, "train", 6 * SECOND, 7 * SECOND)
    assert [(i.agent, i.start, i.end) for i in timeline.intervals] == [
        (0, 0.0, 1.0),
        (0, 1.0, 2.0),
        (0, 2.0, 3.0),
        (0, 3.0, 4.0),
        (1, 0.0, 6.0),
    ]
