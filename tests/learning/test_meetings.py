"""Members of a shared world start their updates together."""

import pytest

from p2pfrl.learning.meetings import Meetings, whole_worlds


def meetings(present: range = range(4), *, members: int = 2, grace: int = 1) -> Meetings:
    made = Meetings(members, grace)
    for agent in present:
        made.come(agent, is_back=False)
    return made


def test_an_update_starts_when_all_members_of_a_world_have_asked():
    made = meetings()
    made.ask(1)
    assert not made.start(0)
    assert made.waits(1) == (0,)
    assert made.waits(0) == ()
    made.ask(0)
    assert list(made.start(0)) == [0, 1]
    assert not made.start(1)


def test_a_world_is_in_one_update_at_a_time():
    made = meetings()
    made.ask(0)
    made.ask(1)
    made.start(0)
    made.end(0)
    made.ask(0)
    assert not made.start(0)
    made.end(1)
    assert not made.start(0)
    made.ask(1)
    assert list(made.start(0)) == [0, 1]


def test_nobody_waits_for_a_member_that_is_gone():
    made = meetings()
    made.ask(0)
    made.leave(1)
    assert list(made.start(0)) == [0]
    made.leave(0)
    made.ask(2)
    made.ask(3)
    made.leave(3)
    assert list(made.start(1)) == [2]


def test_a_member_that_leaves_frees_the_world_in_which_it_trained_alone():
    made = meetings()
    made.leave(1)
    made.ask(0)
    made.start(0)
    made.leave(0)
    made.come(1, is_back=True)
    made.ask(1)
    assert list(made.start(0)) == [1]


@pytest.mark.parametrize("grace", [1, 3])
def test_a_member_that_comes_back_does_not_wait_in_its_first_updates(grace: int):
    made = meetings(grace=grace)
    made.leave(1)
    made.come(1, is_back=True)
    for _ in range(grace):
        made.ask(1)
        assert list(made.start(0)) == [1]
        made.end(1)
    made.ask(1)
    assert not made.start(0)
    made.ask(0)
    assert list(made.start(0)) == [0, 1]


def test_the_others_do_not_wait_for_a_member_that_comes_back_but_take_it_along():
    made = meetings()
    made.leave(1)
    made.come(1, is_back=True)
    made.ask(0)
    assert list(made.start(0)) == [0]
    made.end(0)
    made.ask(0)
    made.ask(1)
    assert list(made.start(0)) == [0, 1]


def test_of_three_members_one_that_comes_back_starts_without_two_that_wait_for_each_other():
    made = meetings(range(3), members=3)
    made.leave(2)
    made.come(2, is_back=True)
    made.ask(0)
    made.ask(2)
    assert list(made.start(0)) == [2]
    made.end(2)
    made.ask(1)
    made.ask(2)
    assert list(made.start(0)) == [0, 1, 2]


def test_meetings_go_on_from_their_state():
    made = meetings()
    made.ask(0)
    again = Meetings(2, 1)
    again.restore(made.save())
    made.ask(1)
    assert again.waits(0) == (1,)
    again.ask(1)
    assert list(again.start(0)) == [0, 1]


@pytest.mark.parametrize(
    ("agents", "members", "whole"), [([3], 1, [3]), ([5, 0], 2, [0, 1, 4, 5]), ([], 3, [])]
)
def test_the_worlds_of_agents_are_whole(agents, members, whole):
    assert whole_worlds(agents, members) == whole
