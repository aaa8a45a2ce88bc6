"""Faults in real runs: agents, codec, network and trainer together."""

from itertools import pairwise

import pytest

import p2pfrl
from p2pfrl.consensus.schedules.gossip import Gossip
from p2pfrl.core.errors import DeadlockError
from p2pfrl.core.types import Expired, PeerLost
from p2pfrl.results.record import Record
from p2pfrl.scenario import loads

RUN = """
name = "faults"
agents = {agents}
mode = "{mode}"
{faults}
[stop]
rounds = {rounds}
[learner]
kind = "quadratic"
dimension = 4
[schedule]
kind = "{schedule}"
{deadline}
[topology]
kind = "ring"
[network]
latency = "10ms"
peer_timeout = "500ms"
loss = {loss}
[compute]
seconds_per_env_step = 0.1
"""


def play(
    *faults: str,
    agents: int = 4,
    mode: str = "gossip",
    rounds: int = 20,
    schedule: str = "synchronous",
    loss: float = 0.0,
) -> Record:
    lines = "\n".join(f"[[faults]]\n{fault}" for fault in faults)
    deadline = 'deadline = "1s"' if schedule == "synchronous" else ""
    head, _, tail = RUN.partition("{faults}")
    text = (head + tail).format(
        agents=agents, mode=mode, rounds=rounds, schedule=schedule, deadline=deadline, loss=loss
    )
    return p2pfrl.run(loads(text + lines + "\n"), trace=True)


def fault(kind: str, at: float, **options: object) -> str:
    return "\n".join(
        [
            f'kind = "{kind}"',
            f"at = {at}",
            *(f"{name} = {value}" for name, value in options.items()),
        ]
    )


def trainings(record: Record, agent: int) -> list[float]:
    assert record.events is not None
    return [
        event.time_ns / 1e9
        for event in record.events
        if event.kind == "train" and event.sender == agent
    ]


def check_books(record: Record) -> None:
    assert record.events is not None
    s = record.summary
    kinds = [event.kind for event in record.events]
    assert s["messages_sent"] == kinds.count("send")
    assert s["messages_dropped"] == kinds.count("drop")
    assert s["messages_delivered"] == kinds.count("deliver")
    assert s["messages_sent"] >= s["messages_delivered"] + s["messages_dropped"]


def test_without_faults_nothing_is_late_and_every_message_arrives_in_the_end():
    run = play()
    check_books(run)
    assert (
        run.summary["messages_late"]
        == run.summary["deadlines_expired"]
        == run.summary["messages_dropped"]
        == 0
    )
    assert run.summary["messages_sent"] == 4 * 2 * 20


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_one_crash_costs_less_than_one_deadline(mode):
    calm, run = play(mode=mode), play(fault("crash", 1.05, agents=[2]), mode=mode)
    check_books(run)
    assert run.summary["rounds"] == 20
    assert run.summary["deadlines_expired"] == 0
    assert run.summary["virtual_seconds"] < calm.summary["virtual_seconds"] + 1.0


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_an_agent_that_joins_later_costs_at_most_the_time_to_notice_that_it_is_not_there(mode):
    run = play(fault("join", 1.0, agents=[1]), mode=mode)
    check_books(run)
    assert run.summary["deadlines_expired"] == 0
    assert min(trainings(run, 1)) >= 1.0
    assert run.summary["rounds"] == 20
    assert run.summary["virtual_seconds"] < 20 * 0.2 + 1.0


@pytest.mark.parametrize("mode", ["gossip", "central", "independent"])
def test_a_power_cut_of_everyone_is_survived(mode):
    everyone = [0, 1, 2, 3]
    run = play(
        fault("crash", 1.05, agents=everyone), fault("restart", 3.0, agents=everyone), mode=mode
    )
    check_books(run)
    assert run.summary["rounds"] == 20
    assert run.summary["virtual_seconds"] > 3.0
    assert all(max(trainings(run, agent)) > 3.0 for agent in everyone)


def test_a_crash_of_everyone_for_good_ends_the_run():
    run = play(fault("crash", 1.05, agents=[0, 1, 2, 3]), fault("straggle", 1.5, agents=[0]))
    assert run.summary["virtual_seconds"] == pytest.approx(1.5)
    assert run.summary["rounds"] < 20


def test_two_neighbors_that_crash_together_know_each_other_again_after_their_restart():
    run = play(
        fault("crash", 1.05, agents=[0]),
        fault("crash", 1.06, agents=[1]),
        fault("restart", 2.0, agents=[1]),
        fault("restart", 2.5, agents=[0]),
    )
    check_books(run)
    assert run.summary["rounds"] == 20


def test_a_restarted_agent_does_not_wait_a_deadline_for_neighbors_that_are_still_down():
    run = play(fault("crash", 1.05, agents=[0, 1]), fault("restart", 2.5, agents=[0]), rounds=40)
    assert run.summary["deadlines_expired"] == 0


@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
@pytest.mark.parametrize("heal", [1.3, 3.0])
def test_a_coordinator_that_is_cut_off_from_everyone_goes_on_after_the_heal(schedule, heal):
    run = play(
        fault("leave", 0.55, agents=[0]),
        fault("partition", 1.0, groups=[[0], [1, 2, 3]]),
        fault("heal", heal),
        mode="central",
        schedule=schedule,
    )
    check_books(run)
    assert all(max(trainings(run, agent)) > heal for agent in range(1, 4))
    assert run.summary["env_steps"] >= 40


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_a_partition_that_is_never_healed_ends_all_the_same(mode):
    run = play(fault("partition", 1.0, groups=[[0, 1], [2, 3]]), mode=mode)
    check_books(run)
    assert run.summary["messages_dropped"] > 0


def test_a_partition_in_place_of_another_reports_the_links_that_are_restored():
    run = play(
        fault("partition", 0.5, groups=[[0, 1], [2, 3]]),
        fault("partition", 2.0, groups=[[0, 3], [1, 2]]),
        rounds=30,
    )
    assert run.events is not None
    late = [(e.sender, e.receiver) for e in run.events if e.kind == "deliver" and e.time_ns > 2.5e9]
    assert {tuple(sorted(pair)) for pair in late} == {(0, 3), (1, 2)}
    assert run.summary["deadlines_expired"] <= 4


@pytest.mark.parametrize(
    "at", [1.85, 2.0, *(pytest.param(at, marks=pytest.mark.slow) for at in (1.75, 1.95))]
)
@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
def test_a_short_partition_or_a_restart_around_the_end_hangs_nobody(at, schedule):
    cut = (fault("partition", at, groups=[[0], [1, 2, 3]]), fault("heal", at + 0.1))
    again = (fault("crash", at, agents=[3]), fault("restart", at + 0.2, agents=[3]))
    for faults in (cut, again):
        run = play(*faults, mode="central", rounds=10, schedule=schedule)
        assert run.summary["virtual_seconds"] < 400


@pytest.mark.parametrize("mode", ["gossip", "central"])
@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
def test_heavy_losses_delay_and_hang_nobody(mode, schedule):
    run = play(mode=mode, schedule=schedule, loss=0.4, rounds=30)
    check_books(run)
    assert run.summary["messages_dropped"] > 20
    assert run.summary["rounds"] >= 29


def test_a_straggler_slows_its_neighbors_down_from_its_next_update_on():
    run = play(fault("straggle", 1.0, agents=[1], factor=5.0), rounds=20)
    times = trainings(run, 1)
    gaps = [b - a for a, b in pairwise(times)]
    assert all(
        gap == pytest.approx(0.11, abs=0.01)
        for gap, end in zip(gaps, times[1:], strict=True)
        if end <= 1.0
    )
    assert all(gap >= 0.5 for gap, end in zip(gaps, times[1:], strict=True) if end > 1.6)


def test_losses_by_a_fault_last_until_the_next_one():
    run = play(fault("loss", 1.0, probability=1.0), fault("loss", 2.0, probability=0.0), rounds=30)
    assert run.events is not None
    dropped = [event.time_ns / 1e9 for event in run.events if event.kind == "drop"]
    assert min(dropped) >= 1.0
    assert max(dropped) < 2.0
    sent = [e.time_ns for e in run.events if e.kind == "send" and 1.0 < e.time_ns / 1e9 < 2.0]
    assert len(sent) == len(dropped)


def test_same_seed_same_digest_with_everything_going_wrong_at_once():
    faults = (
        fault("crash", 1.0, agents=[0]),
        fault("partition", 1.5, groups=[[1], [2, 3]]),
        fault("heal", 2.5),
        fault("restart", 3.0, agents=[0]),
        fault("leave", 3.5, agents=[2]),
    )
    first, second = play(*faults, loss=0.1, rounds=40), play(*faults, loss=0.1, rounds=40)
    assert first.summary["digest"] == second.summary["digest"]
    assert first.events == second.events
    check_books(first)


def test_a_deadlock_names_who_waits_for_whom(monkeypatch):
    """With two bugs planted: neither deadlines nor lost links end a wait."""
    handle = Gossip.handle
    monkeypatch.setattr(
        Gossip,
        "handle",
        lambda self, event, now: (
            () if type(event) in (Expired, PeerLost) else handle(self, event, now)
        ),
    )
    with pytest.raises(
        DeadlockError, match="agent 1 waits in round 9 for 2; agent 3 waits in round 9 for 2"
    ):
        play(fault("crash", 1.05, agents=[2]))
