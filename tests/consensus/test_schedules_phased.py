"""Rounds whose exchange has phases: who skips is out of the round, whatever it answered before."""

import pytest
from machines import feed, model, received

from p2pfrl.consensus.schedules.base import Participants
from p2pfrl.consensus.schedules.phased import PhasedClient, PhasedCoordinator, Phases
from p2pfrl.consensus.schedules.synchronous import Synchronous
from p2pfrl.core.types import (
    KEYS,
    REVEAL,
    SHARES,
    SKIP,
    UPDATE,
    Missing,
    PeerJoined,
    PeerLost,
    Started,
)

KINDS = (KEYS, SHARES, UPDATE, REVEAL)


def coordinator() -> PhasedCoordinator:
    everyone = Participants(5, lambda round, present: present)
    machine = PhasedCoordinator(
        Synchronous(deadline=1.0), everyone, Phases(KINDS, lambda first: 3), rounds=9
    )
    feed(machine, Started())
    return machine


def answers(kind: str, *senders: int):
    return [received(sender, 0, kind=kind) for sender in senders]


@pytest.mark.parametrize("before", [0, 1])
def test_nobody_waits_for_an_update_of_an_agent_that_skipped_after_its_answer(before):
    machine = coordinator()
    for phase in range(3):
        who = range(5) if phase <= before else range(1, 5)
        feed(machine, *answers(KINDS[phase], *who[:-1]))
        if phase == before:
            feed(machine, *answers(SKIP, 0))
        feed(machine, *answers(KINDS[phase], who[-1]))
    assert machine.awaits() == (1, 2, 3, 4)
    assert machine.waits_for().endswith(f"({REVEAL})")
    assert "mix 0 of 1 2 3 4" in feed(machine, *answers(REVEAL, 1, 2, 3, 4))


def test_a_round_is_given_up_in_which_all_skip_while_the_last_answer_is_under_way():
    machine = coordinator()
    feed(machine, *answers(KEYS, *range(5)), *answers(SHARES, 0, 1, 2, 3), *answers(SKIP, 0, 1, 2))
    assert "mix 0 of" in feed(machine, *answers(SHARES, 4))
    assert machine.round == 1


def test_an_update_that_was_sent_counts_although_a_skip_follows():
    machine = coordinator()
    for kind in (KEYS, SHARES):
        feed(machine, *answers(kind, *range(5)))
    feed(machine, *answers(UPDATE, 0, 1), *answers(SKIP, 0), *answers(UPDATE, 2, 3, 4))
    assert machine.awaits() == (0, 1, 2, 3, 4)


def test_who_skipped_is_not_asked_again_in_its_round_when_its_link_comes_back():
    machine = coordinator()
    feed(machine, *answers(SKIP, 0), PeerLost(0))
    assert feed(machine, PeerJoined(0)) == []
    assert machine.awaits() == (1, 2, 3, 4)


def test_a_lost_skip_is_one():
    machine = coordinator()
    feed(machine, *answers(KEYS, *range(5)), *answers(SHARES, 0, 1, 2, 3), Missing(0, 0))
    feed(machine, *answers(SHARES, 4))
    assert machine.awaits() == (1, 2, 3, 4)


@pytest.mark.parametrize(("who", "goes_on"), [(range(3), True), (range(2), False)])
def test_a_round_goes_on_with_exactly_as_many_as_must_go_on(who, goes_on):
    machine = coordinator()
    others = [j for j in range(5) if j not in who]
    actions = feed(machine, *answers(KEYS, *who), *answers(SKIP, *others))
    assert machine.round == (0 if goes_on else 1)
    assert ("gather" in actions, "mix 0 of" in actions) == (goes_on, not goes_on)


def test_an_agent_that_is_asked_again_sends_its_keys_and_a_copy_of_a_model_asks_nothing():
    machine = PhasedClient(Synchronous(), rounds=9, available=lambda number, now: True)
    feed(machine, Started(), model(0))
    assert feed(machine, model(0)) == []
    assert feed(machine, model(0, sequence=2)) == ["send keys 0 to -1"]
    assert feed(machine, model(0, sequence=2)) == []
    assert feed(machine, model(1, sequence=3)) == ["send keys 1 to -1"]
    assert feed(machine, model(1, sequence=3)) == []
