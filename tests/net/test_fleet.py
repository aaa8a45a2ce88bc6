"""Who lives where: what is read, what is refused, and how ids are handed out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strings import strings

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.net.fleet import (
    Fleet,
    assign,
    parse_address,
    parse_agents,
    refuse_split_worlds,
    show_agents,
)


def test_a_table_is_read_and_goes_over_the_wire_unchanged():
    fleet = Fleet.parse("0-2=10.0.0.1:7000, 3+edge1+5=[::1]:7001,coordinator=host:1")
    assert fleet.processes == {
        ("10.0.0.1", 7000): (0, 1, 2),
        ("::1", 7001): (-3, 3, 5),
        ("host", 1): (-1,),
    }
    assert Fleet.of(fleet.rows()) == fleet
    assert fleet.missing([-2, -1, *range(6)]) == [-2, 4]
    assert fleet.address(5) == ("::1", 7001)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0=",
        "0=host",
        "0=host:99999",
        "3-1=h:1",
        "x=h:1",
        "0=::1:1",
        "0=h:1,",
        "edge=h:1",
        "edge2-0=h:1",
    ],
)
def test_a_table_that_cannot_be_read_says_what_was_expected(text):
    with pytest.raises(P2PFRLError, match="expected"):
        Fleet.parse(text)


def test_an_agent_lives_once():
    with pytest.raises(P2PFRLError, match=r"--peers: agents 1 live at a:1 and at b:1"):
        Fleet.parse("0-1=a:1,1-2=b:1")
    with pytest.raises(P2PFRLError, match="agents coordinator live"):
        Fleet.of([["a", 1, [-1]], ["b", 1, [-1]]])


NESTED: list[object] = []
for _ in range(5000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    "rows",
    [
        None,
        3,
        {},
        "abc",
        [1],
        [["h", 1]],
        [["h", 0, [0]]],
        [["h", 70000, [0]]],
        [["h", 1, 0]],
        [["h", 1, [-(2**31) - 1]]],
        [["h", 1, [2**31]]],
        [["h", 1, [True]]],
        [["h", 1, ["0"]]],
        [[1, 1, [0]]],
        [["h", 1.0, [0]]],
        [["h", float("inf"), [0]]],
        NESTED,
        [["h", 1, NESTED]],
    ],
)
def test_rows_that_are_no_table_are_refused(rows):
    with pytest.raises(P2PFRLError, match="expected a list of"):
        Fleet.of(rows)


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | strings() | st.binary(), st.lists, max_leaves=8
    )
)
def test_any_rows_are_a_table_or_refused(rows):
    try:
        fleet = Fleet.of(rows)
    except P2PFRLError:
        return
    assert Fleet.of(fleet.rows()) == fleet


@given(st.sets(st.integers(-20, 60), min_size=1))
def test_ids_are_read_as_they_are_shown(ids):
    assert parse_agents(show_agents(ids)) == tuple(sorted(ids))


@given(st.ip_addresses(), st.integers(0, 65535))
def test_addresses_of_both_families_are_read(ip, port):
    text = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    assert parse_address(text) == (str(ip), port)


TREE = [-3, -2, -1, *range(6)]


def test_ids_are_handed_out_in_order_and_wishes_are_granted_while_they_are_free():
    assert assign([], 2, [0, 2], TREE) == (1, 3)
    assert assign([5, 4, 5], 9, [0], TREE) == (4, 5)
    assert assign([-1, -3], 1, [0], TREE) == (-3, -1)


@pytest.mark.parametrize(
    ("wanted", "count", "said"),
    [
        ([0], 1, "0 live elsewhere"),
        ([6], 1, r"there are coordinator\+edge0-1\+0-5"),
        ([-4], 1, "edge2: there are"),
        ([], 5, "4 of 6 are left"),
        ([], 0, "0 agents"),
        ([], -1, "-1 agents"),
    ],
)
def test_ids_that_cannot_be_had_are_refused(wanted, count, said):
    with pytest.raises(P2PFRLError, match=said):
        assign(wanted, count, [0, 1], TREE)


def test_members_of_a_shared_world_live_in_one_process():
    assert assign([], 4, [0, 1], range(8), 2) == (2, 3, 4, 5)
    refuse_split_worlds([-1, 2, 3, 6, 7], 2)
    with pytest.raises(P2PFRLError, match="--agents 0-5: agents 6-7 share a world with them; give"):
        refuse_split_worlds(range(6), 4)
    with pytest.raises(P2PFRLError, match="--agents 0: agent 1 shares a world with it; give 0-1"):
        assign([0], 1, [], range(8), 2)
    with pytest.raises(P2PFRLError, match="--count 3: 2 agents share a world; give a multiple of"):
        assign([], 3, [], range(8), 2)
