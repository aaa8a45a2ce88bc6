"""Voters keep their promises in every schedule; a voter with a planted bug is caught."""

import pytest

from p2pfrl.consensus.failover.voter import IN_OFFICE, Committed, Deposed, Elected, Voter
from p2pfrl.core.types import ASK, PROMISE, REFUSE, STORE, STORED, Notice, Tell
from p2pfrl.laws.failover import PLANTED, seeds_until_found, storms

WAIT = 100


def voter(me: int) -> Voter:
    return Voter(me, (0, 1, 2), wait=WAIT)


def in_office(me: int = 0, epoch: int = 1) -> Voter:
    found = voter(me)
    found.start(0)
    found.epoch = epoch - 1
    found.deadline = 0
    found.expired(0)
    assert Elected() in found.receive(1, Notice(PROMISE, epoch), 1)
    return found


def test_three_hundred_schedules_keep_every_promise():
    outcomes = list(storms(range(300)))
    assert not [o.violations for o in outcomes if o.violations]
    assert sum(o.terms for o in outcomes) > 600
    assert sum(o.committed for o in outcomes) > 3000


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug):
    assert seeds_until_found(bug, 100) <= 100


def test_the_coordinator_is_a_candidate_at_once_and_standbys_wait_by_rank():
    starts = [voter(i) for i in (0, 1, 2)]
    for one in starts:
        one.start(1000)
    assert [one.deadline for one in starts] == [1000, 1000 + 2 * WAIT, 1000 + 3 * WAIT]


def test_a_state_is_committed_when_a_majority_has_stored_it():
    one = in_office()
    (tell,) = one.propose(b"first", 10)
    assert tell == Tell((1, 2), Notice(STORE, 1, 1, 1, b"first"))
    assert not one.is_committed
    assert one.receive(2, Notice(STORED, 1, 1), 11) == [Committed(1)]
    assert one.receive(1, Notice(STORED, 1, 1), 12) == []


def test_a_new_one_adopts_the_state_of_the_highest_epoch_not_of_the_highest_version():
    one = Voter(0, range(5), wait=WAIT)
    one.start(0)
    one.expired(0)
    one.receive(1, Notice(PROMISE, 1, version=9, stored_in=2, value=b"older"), 1)
    found = one.receive(2, Notice(PROMISE, 1, version=7, stored_in=3, value=b"newer"), 2)
    assert Elected() in found
    assert (one.value, one.version, one.stored_in) == (b"newer", 7, 1)


def test_a_voter_refuses_what_is_below_its_epoch():
    one = voter(1)
    one.start(0)
    one.receive(2, Notice(ASK, 5), 1)
    refused = [Tell((0,), Notice(REFUSE, 5))]
    assert one.receive(0, Notice(STORE, 4, 1, 4, b"late"), 2) == refused
    assert one.receive(0, Notice(ASK, 5), 3) == refused
    assert one.value is None


def test_who_hears_the_coordinator_promises_nothing_to_others():
    one = voter(1)
    one.start(0)
    one.receive(0, Notice(STORE, 1, 1, 1, b"model"), 1)
    assert one.receive(2, Notice(ASK, 2), 2) == [Tell((2,), Notice(REFUSE, 1, 1, 1))]
    one.lost(0, 3)
    (answer,) = one.receive(2, Notice(ASK, 2), 4)
    assert answer == Tell((2,), Notice(PROMISE, 2, 1, 1, b"model"))


def test_a_restarted_coordinator_is_not_in_office():
    one = in_office()
    one.propose(b"first", 10)
    again = voter(0)
    again.start(20, one.durable())
    assert again.role != IN_OFFICE
    assert (again.epoch, again.voted, again.value) == (1, 0, b"first")
    assert again.deadline == 20 + WAIT


def test_a_higher_epoch_ends_a_term_of_office():
    one = in_office()
    one.propose(b"first", 10)
    assert one.receive(2, Notice(REFUSE, 4), 11) == [Deposed()]
    assert one.epoch == 4


def test_without_a_majority_it_resigns():
    one = in_office()
    one.propose(b"first", 10)
    one.lost(1, 10)
    one.lost(2, 10)
    found = []
    while one.role == IN_OFFICE:
        now = one.deadline
        found = one.expired(now)
    assert Deposed() in found
    assert now - 10 == 31 * WAIT


def test_a_candidate_that_only_waits_asks_again_for_the_same_epoch() -> None:
    one = voter(0)
    one.start(0)
    first, again = (one.expired(now)[0].notice for now in (0, 5000))
    assert first == again == Notice(ASK, 1)
    one.receive(1, Notice(REFUSE, 1), 6000)  # it has promised epoch 1 to another
    assert one.expired(9000)[0].notice == Notice(ASK, 2)
