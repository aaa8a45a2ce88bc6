"""Boundaries of all schedules: each test sees one off-by-one, one forgotten case or one lost value.

`test_schedules_*.py` of the single schedules say what they are for.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import pytest
from machines import SECOND, Neighbors, feed, message, model, received, shape, trained

from p2pfrl.consensus.schedules.arrivals import AsynchronousCoordinator
from p2pfrl.consensus.schedules.asynchronous import Asynchronous, Push
from p2pfrl.consensus.schedules.base import Attendance, Participants, always
from p2pfrl.consensus.schedules.buffered import Buffered
from p2pfrl.consensus.schedules.central import Client, Coordinator
from p2pfrl.consensus.schedules.edge import Edge
from p2pfrl.consensus.schedules.gossip import _KEPT, Gossip
from p2pfrl.consensus.schedules.lockstep import Lockstep
from p2pfrl.consensus.schedules.pairwise import Pairs
from p2pfrl.consensus.schedules.synchronous import Synchronous
from p2pfrl.consensus.staleness import Constant, Hinge, Polynomial
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.needs import Need
from p2pfrl.core.state import Stateful
from p2pfrl.core.types import (
    ASKS,
    COORDINATOR,
    FINAL,
    REPLY,
    SKIP,
    Adopt,
    Expired,
    Finish,
    Missing,
    Mix,
    PeerJoined,
    PeerLost,
    Received,
    Schedule,
    Started,
    WaitUntil,
)


def everyone(round: int, present: Sequence[int]) -> Sequence[int]:
    assert present, "nobody is chosen from nobody"
    return present


def there_from(until: int, opens: int, leaves: int = 0) -> Attendance:
    """Return the attendance of an agent that is away from `leaves` to `until`."""

    def is_there(now: int) -> bool:
        return not leaves <= now < until

    return Attendance(
        is_there=is_there,
        returns=lambda now: now if is_there(now) else until,
        opens=lambda now: now if is_there(now) else max(now, opens),
    )


def gossip(
    out: Sequence[int] = (1, 2), into: Sequence[int] | None = None, **options: object
) -> Gossip:
    neighbors = options.pop(
        "neighbors", Neighbors(out) if into is None else Neighbors(out, into, both=False)
    )
    rounds, available = options.pop("rounds", None), options.pop("available", always)
    first = options.pop("combine_first", False)
    order = "combine_while_adapting" if first else "adapt_then_combine"
    rule = Synchronous(**{"deadline": 1.0, **options})  # type: ignore[arg-type]
    return rule.gossip(0, neighbors, rounds=rounds, order=order, available=available)  # type: ignore[arg-type]


def lockstep(near: Sequence[int] = (1, 2), **options: object) -> Lockstep:
    settings = {"every": 1, "patience": 10 * SECOND, "combine_first": False, "rounds": None}
    return Lockstep(0, Neighbors(near), **{**settings, **options})  # type: ignore[arg-type]


def client(**options: object) -> Client:
    settings = {"every": 1, "rounds": 5, "patience": 10 * SECOND, "available": always}
    return Client(**{**settings, **options})  # type: ignore[arg-type]


def coordinator(agents: int = 2, **options: object) -> Coordinator:
    settings = {"rounds": 5, "deadline": SECOND, "suspect_after": 2}
    return Coordinator(Participants(agents, everyone), **{**settings, **options})  # type: ignore[arg-type]


def arrivals(
    agents: int = 2, ids: tuple[int, ...] = (), **options: object
) -> AsynchronousCoordinator:
    settings = {"rounds": 4, "max_staleness": None, "staleness": Polynomial()}
    participants = Participants(agents, everyone, ids)
    return AsynchronousCoordinator(participants, **{**settings, **options})  # type: ignore[arg-type]


def edge(rounds: int | None = 6, suspect_after: int = 2) -> Edge:
    rule = Synchronous(deadline=1.0, suspect_after=suspect_after)
    return rule.edge(Participants(2, everyone, (4, 5)), rounds=rounds, period=2, above=COORDINATOR)


def pairs(**options: object) -> Pairs:
    def pick(round: int, candidates: Sequence[int]) -> int:
        return candidates[round % len(candidates)]

    settings = {"every": 1, "patience": SECOND, "pick": pick, "available": always, "rounds": None}
    return Pairs(0, Neighbors((1, 2)), **{**settings, **options})  # type: ignore[arg-type]


def push(rounds: int | None = 4) -> Push:
    return Asynchronous().gossip(
        7, Neighbors((1, 2)), rounds=rounds, order="adapt_then_combine", available=always
    )


def again(machine: Stateful, fresh: Stateful) -> list[str]:
    """Restart: let `fresh` take over the state, and start it."""
    fresh.restore(machine.save())
    return feed(fresh, Started())  # type: ignore[arg-type]


# Options.


@pytest.mark.parametrize(
    ("rule", "defaults"),
    [
        (Synchronous, {"every": 1, "deadline": 30.0, "suspect_after": 3, "quorum": 1.0}),
        (Asynchronous, {"every": 1, "max_staleness": None, "staleness": Polynomial(power=0.5)}),
        (Buffered, {"every": 1, "size": 10, "fresh_only": False, "max_staleness": None}),
        (Hinge, {"slope": 10.0, "grace": 4}),
    ],
)
def test_defaults_are_those_of_the_documentation(rule, defaults):
    assert {name: getattr(rule(), name) for name in defaults} == defaults


@pytest.mark.parametrize(
    ("rule", "name", "least"),
    [
        (Synchronous, "every", 1),
        (Synchronous, "suspect_after", 1),
        (Synchronous, "max_staleness", 0),
        (Asynchronous, "every", 1),
        (Asynchronous, "max_staleness", 0),
        (Buffered, "every", 1),
        (Buffered, "size", 1),
        (Buffered, "max_staleness", 0),
        (Hinge, "grace", 0),
        (Polynomial, "power", 0),
    ],
)
def test_an_option_has_its_smallest_value_and_none_below(rule, name, least):
    assert getattr(rule(**{name: least}), name) == least
    with pytest.raises(ScenarioError):
        rule(**{name: least - 1})


def test_a_quorum_a_deadline_and_a_slope_are_above_zero_and_a_quorum_is_at_most_one():
    for rule, name in ((Synchronous, "quorum"), (Synchronous, "deadline"), (Hinge, "slope")):
        assert getattr(rule(**{name: 0.25}), name) == 0.25
        with pytest.raises(ScenarioError):
            rule(**{name: 0.0})
    with pytest.raises(ScenarioError):
        Synchronous(quorum=1.25)


def test_times_and_models_follow_from_the_options():
    assert (Synchronous(deadline=4.0).link_timeout, Synchronous(deadline=4.0).patience) == (2, 40)
    assert (Asynchronous().link_timeout, Asynchronous().patience) == (1.0, 300.0)
    assert [rule().models(5, 3) for rule in (Synchronous, Asynchronous)] == [5, 15]
    assert Constant().factor(9) == 1.0
    assert [Hinge(slope=1.0, grace=2).factor(tau) for tau in (2, 3, 4)] == [1, 1 / 2, 1 / 3]


WITHOUT_ROUNDS = {
    Need.ROUNDS,
    Need.CHOICE,
    Need.BARRIER,
    Need.EVERY_MESSAGE,
    Need.EVERY_ANSWER,
    Need.BOTH_ENDS,
}


@pytest.mark.parametrize(
    ("rule", "needs", "breaks"),
    [
        (Synchronous(), (), {Need.NO_ROUNDS}),
        (
            Synchronous(quorum=0.9),
            {Need.COORDINATOR.of("quorum")},
            {Need.NO_ROUNDS, Need.BARRIER.of("quorum"), Need.EVERY_ANSWER.of("quorum")},
        ),
        (Synchronous(max_staleness=0), {Need.NEIGHBORS.of("max_staleness")}, {Need.NO_ROUNDS}),
        (
            Buffered(size=1),
            (),
            {
                *WITHOUT_ROUNDS - {Need.CHOICE},
                Need.CHOICE.of("size"),
                Need.FULL_WEIGHT.of("staleness"),
            },
        ),
        (
            Buffered(size=2, staleness=Constant()),
            (),
            {*WITHOUT_ROUNDS - {Need.CHOICE}, Need.WHOLE_EXCHANGES.of("staleness")},
        ),
        (Asynchronous(), (), {*WITHOUT_ROUNDS, Need.FULL_WEIGHT.of("staleness")}),
        (
            Asynchronous(max_staleness=0),
            (),
            {
                *WITHOUT_ROUNDS,
                Need.WHOLE_EXCHANGES.of("max_staleness"),
                Need.FULL_WEIGHT.of("staleness"),
            },
        ),
        (
            Asynchronous(staleness=Hinge(grace=9)),
            (),
            {
                *WITHOUT_ROUNDS,
                Need.WHOLE_EXCHANGES.of("staleness"),
                Need.FULL_WEIGHT.of("staleness"),
            },
        ),
        (
            Asynchronous(staleness=Constant()),
            (),
            {*WITHOUT_ROUNDS, Need.WHOLE_EXCHANGES.of("staleness")},
        ),
    ],
)
def test_a_schedule_says_what_it_needs_and_breaks(rule, needs, breaks):
    assert set(rule.needs) - {Need.COORDINATOR} == set(needs)
    assert (Need.COORDINATOR in rule.needs) is isinstance(rule, Buffered)
    assert set(rule.breaks) == breaks


def test_fresh_only_excludes_another_maximum_and_nothing_else():
    assert Buffered(max_staleness=3).max_staleness == 3
    with pytest.raises(ScenarioError, match="leave max_staleness out"):
        Buffered(fresh_only=True, max_staleness=0)


def test_synchronous_payloads_count_in_full_and_are_fresh():
    for machine in (gossip(), lockstep()):
        feed(machine, Started(), trained(), received(1, 0))
        (mix, *_) = machine.handle(received(2, 0), 0)
        assert (list(mix.staleness), list(mix.factors)) == ([0, 0], [1.0, 1.0])
    c = coordinator()
    feed(c, Started(), received(0, 0))
    (mix, *_) = c.handle(received(1, 0), 0)
    assert (list(mix.staleness), list(mix.factors)) == ([0, 0], [1.0, 1.0])
    p = pairs()
    feed(p, Started(), trained())
    (_, mix) = p.handle(received(1, 0, kind=REPLY), 0)
    assert (list(mix.staleness), list(mix.factors)) == ([0], [1.0])


# The state.


def _used() -> list[tuple[Callable[[], Stateful], list[tuple[object, int]]]]:
    late, from_1 = message(1, 0), lambda round, now: round > 0
    resting = there_from(9, 5, leaves=2)
    participants = Participants(2, everyone, (4, 5))
    neighbors, pick = Neighbors((1, 2)), lambda round, near: near[0]
    timely = [(Started(), 0), (trained(), 0), (received(1, 1), 0), (received(2, 0), 1)]
    return [
        (
            lambda: gossip(neighbors=neighbors, every=2, available=resting),
            [*timely, (trained(), 1), (Expired(SECOND + 1), SECOND), (Received(late), 3)],
        ),
        (
            lambda: gossip(neighbors=neighbors, suspect_after=1),
            [
                (Started(), 0),
                (trained(), 0),
                (received(1, 0), 0),
                (Expired(SECOND), SECOND),
                (received(2, 0), SECOND),
                (PeerLost(1), SECOND),
                (trained(), SECOND),
                (Missing(2, 5), SECOND),
            ],
        ),
        (
            lambda: gossip(neighbors=neighbors, available=from_1),
            [(Started(), 0), (received(1, 0), 0), (received(2, 0), 0)],
        ),
        (lambda: lockstep(near=(1, 2), every=2), [*timely, (trained(), 2), (received(1, 0), 2)]),
        (
            lambda: client(available=resting, every=2, retag=False),
            [
                (model(0), 0),
                (trained(), 0),
                (model(0, sequence=3), 0),
                (model(1), 1),
                (trained(), 1),
                (Missing(COORDINATOR, 2), 1),
                (model(2, sequence=5), 5),
                (model(3, sequence=6), 5),
                (PeerLost(COORDINATOR), 6),
                (Expired(10 * SECOND + 6), 10 * SECOND + 6),
            ],
        ),
        (
            lambda: client(rounds=3),
            [
                (model(0), 0),
                (model(1), 0),
                (trained(), 0),
                (model(2), 0),
                (trained(), 0),
                *[(Missing(COORDINATOR, 3), 0)] * (ASKS + 1),
            ],
        ),
        (
            lambda: coordinator(quorum=0.5, agents=4, rounds=2),
            [
                (Started(), 0),
                (received(0, 0), 0),
                (Expired(SECOND), SECOND),
                (PeerLost(3), SECOND),
                (received(3, 0), SECOND),
                (received(0, 1), SECOND),
                (received(1, 1), SECOND),
            ],
        ),
        (
            lambda: arrivals(size=2, max_staleness=0, rounds=3),
            [
                (Started(), 0),
                (received(0, 0), 0),
                (received(1, 0), 0),
                (received(0, 0, sequence=7), 0),
                (received(1, 1, sequence=8), 0),
                (PeerLost(0), 0),
                (PeerLost(1), 0),
                (Expired(300 * SECOND), 300 * SECOND),
            ],
        ),
        (
            lambda: Synchronous(deadline=1.0).edge(
                participants, rounds=6, period=2, above=COORDINATOR
            ),
            [
                (model(0), 0),
                (received(4, 0), 0),
                (model(1), 0),
                (received(5, 0), 0),
                (received(4, 1), 0),
                (received(5, 1), 0),
                (PeerLost(COORDINATOR), 0),
                (model(2), 0),
                (Missing(COORDINATOR, 3), 0),
            ],
        ),
        (
            lambda: Pairs(
                0,
                neighbors,
                every=2,
                rounds=9,
                patience=SECOND,
                pick=pick,
                available=resting,
            ),
            [
                (Started(), 0),
                (trained(), 0),
                (trained(), 1),
                (trained(), 1),
                (received(2, 0), 1),
                (received(2, 3), 2),
                (Expired(SECOND + 1), 3),
                (received(2, 1), 3),
                (received(2, 9, kind=SKIP), 3),
                (PeerLost(2), 3),
                (PeerLost(1), 3),
            ],
        ),
        (
            lambda: Asynchronous(every=2).gossip(
                0, neighbors, rounds=None, order="adapt_then_combine", available=always
            ),
            [(Started(), 0), (trained(), 0), (received(1, 3), 0), (trained(), 0), (trained(), 0)],
        ),
    ]


_FIXED = {"_neighborhood", "_participants", "_available", "_pick", "_options", "_staleness"}


@pytest.mark.parametrize("number", range(len(_used())))
def test_a_machine_that_takes_over_a_state_equals_the_one_that_had_it(number):
    make, events = _used()[number]
    used, other, unlike = make(), make(), set()
    names = [*getattr(type(used), "__slots__", ())] or list(vars(used))
    first = {name: deepcopy(getattr(used, name)) for name in names if name not in _FIXED}
    names = list(first)
    for event, now in events:
        list(used.handle(event, now))  # type: ignore[attr-defined]
        other.restore(used.save())
        for name in names:
            assert getattr(other, name) == getattr(used, name), name
            if getattr(used, name) != first[name]:
                unlike.add(name)
    for name in ("messages_late", "deadlines_expired")[isinstance(used, Lockstep) :]:
        setattr(used, name, 99)
        other.restore(used.save())
        assert getattr(other, name) == 99
    assert len(unlike) >= len(used.STATE) // 3, "these events change the state"
    other.restore(make().save())
    for name in names:
        assert getattr(other, name) == first[name], name


def test_machines_count_from_zero():
    machines = [
        gossip(),
        lockstep(),
        client(),
        coordinator(),
        arrivals(),
        edge(),
        pairs(),
        push(),
    ]
    assert {(m.messages_late, m.deadlines_expired) for m in machines} == {(0, 0)}
    assert [m.round for m in machines if hasattr(m, "round")] == [0] * 6


# Gossip.


def test_a_round_two_to_the_twentieth_ahead_cannot_be_and_the_one_before_can():
    g = gossip(rounds=None)
    feed(g, Started(), received(1, 2**20 - 1))
    assert g.messages_late == 0
    feed(g, received(1, 2**20), Received(message(1, 2**20), again=True))
    assert g.messages_late == 1


@dataclass
class Once(Neighbors):
    """Agent 1 is heard in every round, and hears in one."""

    heard: int = 0

    def successors(self, round: int) -> Sequence[int]:
        return (1,) if round == self.heard else ()

    def predecessors(self, round: int) -> Sequence[int]:
        return (1, 2)


@pytest.mark.parametrize(("heard", "is_seen"), [(1, True), (63, True), (64, False), (0, False)])
def test_whether_a_neighbor_has_passed_is_searched_in_the_next_63_rounds(heard, is_seen):
    g = gossip(neighbors=Once((), heard=heard))
    feed(g, Started(), trained())
    feed(g, received(1, 100))
    assert g.waits_for().endswith("for 2" if is_seen else "for 1, 2")


def test_a_neighbor_that_is_in_our_next_round_has_passed_nothing():
    g = gossip(neighbors=Once((), heard=1))
    feed(g, Started(), trained(), received(1, 1))
    assert g.waits_for().endswith("for 1, 2")


def test_one_that_has_passed_counts_as_skipping_and_the_others_are_waited_for():
    g = gossip(out=(1,), into=(1, 2))
    feed(g, Started(), trained())
    assert feed(g, received(1, 3)) == []
    assert feed(g, received(2, 0))[0] == "mix 0 of 2"


def test_one_that_sits_out_waits_for_all_whom_it_awaits_though_another_runs_ahead():
    g = gossip(out=(1,), into=(1, 2), available=lambda round, now: round != 0)
    assert feed(g, Started(), received(1, 0)) == ["send skip 0 to 1", "wait"]
    assert feed(g, received(1, 5)) == []
    assert feed(g, received(2, 0))[0] == "sit out 0"


def test_a_late_payload_that_a_newer_one_has_overtaken_is_not_mixed():
    g = gossip(out=(2,), into=(1,))
    feed(g, Started(), received(1, 1), trained(), Expired(SECOND), received(1, 0))
    (_, (*_,), (mix, *_)) = (None, (), g.handle(trained(), 0)[1:])
    assert (list(mix.staleness), [m.round for m in mix.received]) == ([0], [1])
    feed(g, trained())
    assert feed(g, Expired(g._deadline))[0] == "mix 2 of"


def test_an_overtaken_payload_does_not_replace_a_late_one_that_is_newer():
    g = gossip(out=(1,), suspect_after=9)
    feed(g, Started())

    def miss() -> list[str]:
        feed(g, trained())
        return feed(g, Expired(g._deadline), now=g._deadline or 0)

    miss(), miss(), miss()
    feed(g, received(1, 1))
    assert miss()[0] == "mix 3 of 1"
    feed(g, received(1, 2), received(1, 0))
    assert miss()[0] == "mix 4 of 1"


def test_of_two_late_payloads_the_newer_one_is_mixed_whichever_comes_first():
    for first, second in ((1, 2), (2, 1)):
        g = gossip(out=(1,), suspect_after=9)
        feed(g, Started())
        for _ in range(3):
            feed(g, trained())
            feed(g, Expired(g._deadline), now=g._deadline or 0)
        feed(g, received(1, first), received(1, second))
        feed(g, trained())
        mix = g.handle(Expired(g._deadline), g._deadline or 0)[0]
        assert [m.round for m in mix.received] == [2], (first, second)


def from_round_5000(round: int, now: int) -> bool:
    return round >= 5000


def lonely() -> Gossip:
    """Return an agent whose only neighbor is gone."""
    machine = gossip([1], available=from_round_5000)
    machine.handle(PeerLost(1), 0)
    return machine


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(lambda: gossip([], available=from_round_5000), id="gossip alone"),
        pytest.param(lonely, id="gossip, neighbor gone"),
        pytest.param(
            lambda: gossip([], available=from_round_5000, combine_first=True),
            id="combine while adapting",
        ),
        pytest.param(
            lambda: Asynchronous().gossip(
                0,
                Neighbors([1]),
                rounds=None,
                order="adapt_then_combine",
                available=from_round_5000,
            ),
            id="asynchronous",
        ),
        pytest.param(lambda: pairs(rounds=None, available=from_round_5000), id="pairwise"),
        pytest.param(lambda: client(rounds=None, available=from_round_5000), id="client"),
    ],
)
def test_an_agent_may_sit_out_any_number_of_rounds_in_a_row(machine: Callable[[], Schedule]):
    """One call may end them all, and must not nest one round in another."""
    agent, sat_out, number = machine(), 0, -1
    actions = list(agent.handle(Started(), 0))
    while sat_out < 5000:
        found = shape(actions)
        is_client = isinstance(agent, Client)
        sat_out += sum(a.startswith("send skip" if is_client else "sit out") for a in found)
        number += 1
        event = model(number) if is_client else trained()
        if sat_out < 5000:
            assert is_client or "train" in found
            actions = list(agent.handle(event, number))
    assert sat_out == 5000
    if is_client:
        assert feed(agent, model(5000)) == ["adopt 5000", "train"]
    else:
        assert found[-1] == "train"


def test_a_coordinator_may_be_without_agents_for_any_number_of_rounds():
    machine = coordinator(rounds=None)
    feed(machine, Started(), PeerLost(0), PeerLost(1))
    for _ in range(5000):
        assert machine._deadline is not None
        list(machine.handle(Expired(machine._deadline), machine._deadline))
    assert machine.round == 5001


def test_an_edge_may_be_without_agents_for_any_number_of_models():
    machine = edge(rounds=None)
    feed(machine, Started(), PeerLost(4), PeerLost(5))
    for number in range(5000):
        assert f"send update {number} to -1" in feed(machine, model(number))


def test_a_late_payload_waits_for_a_round_in_which_the_agent_takes_part():
    g = gossip(out=(1,), available=lambda round, now: round != 1)
    feed(g, Started(), trained(), Expired(SECOND), received(1, 0))
    assert feed(g, Expired(g._deadline))[0] == "sit out 1"
    feed(g, trained())
    assert feed(g, Expired(g._deadline))[0] == "mix 2 of 1"


def test_an_agent_that_rests_moves_with_its_neighbors_and_says_so():
    g = gossip(available=there_from(9, 5))
    assert feed(g, Started(), received(1, 3)) == [
        "wait",
        "no deadline",
        "send skip 2 to 1 2",
        "wait",
    ]


def test_an_agent_that_hears_nobody_rests_until_somebody_is_there():
    g = gossip(out=(1,), into=(), available=there_from(9, 5))
    (wait,) = g.handle(Started(), 0)
    assert wait.time == 5


def test_who_joins_while_one_rests_gets_the_last_payload():
    g = gossip(out=(1,), available=there_from(9, 5, leaves=1))
    feed(g, Started(), trained())
    assert feed(g, received(1, 0), now=2) == ["mix 0 of 1", "no deadline", "wait"]
    assert feed(g, PeerJoined(1), now=3) == ["send update 0 to 1", "no deadline", "wait"]


def test_a_sender_with_one_message_loses_none_to_the_many_rounds_of_another():
    g = gossip(out=(1,), into=(1, 2))
    feed(g, Started(), *(received(2, r) for r in range(_KEPT + 1)), received(1, _KEPT + 5))
    assert g.messages_late == 0


# Lockstep.


def test_all_local_updates_are_made_before_the_messages():
    one = lockstep(every=3)
    assert feed(one, Started(), trained(), trained()) == ["train"] * 3
    assert feed(one, trained()) == ["send update 0 to 1 2", "wait"]


def test_messages_of_past_rounds_and_of_those_too_far_ahead_are_not_kept():
    one = lockstep()
    feed(one, Started(), trained(), received(1, 0), received(2, 0))
    feed(one, received(1, 0), received(2, 1 + 2**14))
    assert not one._inbox
    feed(one, received(2, 2**14))
    assert list(one._inbox) == [2**14]


def test_a_round_that_has_waited_leaves_no_deadline_behind():
    one = lockstep()
    feed(one, Started(), trained(), received(1, 0), received(1, 1), received(2, 1))
    assert feed(one, received(2, 0)) == ["mix 0 of 1 2", "no deadline", "train"]
    assert feed(one, trained()) == ["send update 1 to 1 2", "mix 1 of 1 2", "train"]


# Client.


def test_an_asynchronous_client_that_is_away_asks_after_10_ms_and_twice_as_long_up_to_a_second():
    c = client(retag=False, available=lambda round, now: False)
    assert feed(c, model(0, sequence=1)) == ["adopt 0", "send skip 0 to -1"]
    waits, now = [], 0
    for number in range(2, 12):
        (_, wait) = c.handle(model(0, sequence=number), now)
        waits.append((wait.time - now) // 10**6)
        now = wait.time
        assert feed(c, Expired(now), now=now) == ["send skip 0 to -1"]
        assert feed(c, Expired(now), now=now) == [], "once"
    assert waits == [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]


def test_an_asynchronous_client_that_was_there_says_at_once_that_it_is_away_again():
    c = client(retag=False, available=lambda round, now: round == 2)
    feed(c, model(0, sequence=1), model(0, sequence=2))
    assert feed(c, model(0, sequence=3), trained())[1:] == ["train", "send update 0 to -1"]
    assert feed(c, model(1, sequence=4)) == ["adopt 1", "send skip 1 to -1"]


def test_an_asynchronous_client_whose_coordinator_comes_back_waits_for_its_model():
    c = client(retag=False, available=lambda round, now: False)
    assert feed(c, model(0, sequence=1), model(0, sequence=2))[-1] == "wait"
    assert feed(c, PeerLost(COORDINATOR), PeerJoined(COORDINATOR)) == ["wait", "no deadline"]


def test_a_client_that_comes_back_does_not_remember_that_it_was_alone():
    before, after = client(), client()
    feed(before, model(0), PeerLost(COORDINATOR), Expired(10 * SECOND))
    assert again(before, after) == ["train"]
    assert feed(after, Expired(10 * SECOND)) == []
    assert feed(after, trained()) == ["send update 0 to -1"]


def test_a_client_that_comes_back_waits_for_no_old_deadline():
    before, after = client(), client()
    feed(before, model(0), trained(), PeerLost(COORDINATOR))
    assert again(before, after) == []
    assert feed(after, Expired(10 * SECOND)) == []


def test_models_that_are_not_the_last_may_be_lost_for_ever():
    for rounds in (5, None):
        c = client(rounds=rounds)
        skips = feed(c, *[Missing(COORDINATOR, 4)] * (ASKS + 5))
        assert skips == ["send skip 4 to -1"] * (ASKS + 5)


def test_a_model_of_an_earlier_round_is_late_unless_there_are_no_rounds():
    c = client()
    feed(c, model(3, sequence=7), trained())
    assert feed(c, model(2, sequence=8)) == []
    assert c.messages_late == 1
    c.handle(Received(message(COORDINATOR, 2, kind="model", sequence=9), again=True), 0)
    assert c.messages_late == 1
    asynchronous = client(retag=False)
    feed(asynchronous, model(3, sequence=1), trained())
    assert feed(asynchronous, model(2, sequence=2)) == ["adopt 2", "train"]


@pytest.mark.parametrize("round", [2, 3])
def test_a_final_model_of_any_round_ends_a_client_and_says_if_it_came_early(round):
    c = client()
    feed(c, model(3, sequence=7), trained())
    (adopt, end) = c.handle(model(round, kind=FINAL, sequence=8), 0)
    assert isinstance(adopt, Adopt)
    assert isinstance(end, Finish)
    assert end.why == "coordinator_gone"


@pytest.mark.parametrize("rounds", [3, None])
def test_a_final_model_of_the_last_round_is_not_early(rounds):
    c = client(rounds=rounds)
    feed(c, model(2), trained())
    (_, end) = c.handle(model(3, kind=FINAL), 0)
    assert end.why == ""


@pytest.mark.parametrize(("incarnation", "taken"), [(1, 2), (0, 6)])
def test_of_models_that_come_meanwhile_the_newest_counts_and_first_that_of_a_new_life(
    incarnation, taken
):
    c = client()
    feed(c, model(1), model(6, sequence=8))
    feed(c, model(2, sequence=9, incarnation=incarnation))
    (send, adopt) = c.handle(trained(), 0)
    assert (send.round, adopt.message.round, adopt.round) == (taken, taken, taken - 1)


def test_a_client_that_caught_up_answers_a_model_that_comes_again_with_a_skip():
    c = client()
    feed(c, model(0), trained(), model(1), model(3))
    assert feed(c, trained()) == ["send update 3 to -1", "adopt 3"]
    assert feed(c, model(3, sequence=9)) == ["send skip 3 to -1"]


def test_what_counted_of_an_update_is_said_once():
    c = client(available=lambda round, now: round == 0)
    feed(c, model(0), trained())
    (first, _) = c.handle(model(1, score=-1.0), 0)
    (second, _) = c.handle(model(2, score=-1.0), 0)
    assert (first.used, second.used) == (False, True)


def test_without_rounds_a_model_of_the_same_number_says_what_counted():
    c = client(retag=False)
    feed(c, model(0, sequence=1), trained())
    (adopt, _) = c.handle(model(0, sequence=2, score=-1.0), 0)
    assert adopt.used is False


def test_a_client_that_rested_answers_a_model_that_comes_again():
    c = client(available=there_from(9, 5))
    assert feed(c, model(0)) == ["adopt 0", "wait"]
    assert feed(c, model(1), now=8) == ["adopt 1", "send skip 1 to -1"]
    assert feed(c, model(1, sequence=9), now=8) == ["send skip 1 to -1"]


def test_a_client_that_trained_alone_says_that_the_coordinator_is_gone():
    c = client()
    feed(c, model(0), PeerLost(COORDINATOR), Expired(10 * SECOND))
    (end,) = c.handle(trained(), 0)
    assert end.why == "coordinator_gone"


# Coordinator.


def test_all_participants_are_a_quorum_unless_something_else_is_said():
    c = coordinator(agents=4)
    assert feed(c, Started(), *(received(i, 0) for i in range(3)))[-1] == "wait"


def test_only_a_loss_of_this_round_is_an_answer():
    c = coordinator()
    feed(c, Started())
    assert feed(c, Missing(0, 1), Missing(1, 1)) == []
    assert c.waits_for().endswith("for 0, 1")


def test_deadlines_and_late_updates_are_counted_and_late_skips_and_copies_are_not():
    c = coordinator()
    feed(c, Started(), received(0, 0), Expired(SECOND))
    assert c.deadlines_expired == 1
    feed(c, received(1, 0, kind=SKIP), Received(message(1, 0), again=True))
    feed(c, Received(message(1, 0, kind=SKIP), again=True))
    assert c.messages_late == 0
    feed(c, received(1, 0))
    assert c.messages_late == 1


def test_a_coordinator_that_comes_back_after_an_elastic_last_round_says_that_it_is_the_last():
    before, after = (coordinator(quorum=0.5, rounds=1) for _ in range(2))
    feed(before, Started(), received(0, 0))
    assert again(before, after) == ["no deadline", "send final 1 to 0 1", "finish"]


@pytest.mark.parametrize(
    ("has_answers", "deadline", "expected"),
    [(True, SECOND, 8), (False, SECOND, None), (True, None, None)],
)
def test_the_deadline_of_a_coordinator_that_comes_back_counts_from_then(
    has_answers, deadline, expected
):
    before, after = (coordinator(deadline=deadline) for _ in range(2))
    feed(before, Started(), *([received(0, 0)] if has_answers else []))
    after.restore(before.save())
    (wait, _) = after.handle(Started(), 7 * SECOND)
    assert isinstance(wait, WaitUntil)
    assert wait.time == (None if expected is None else expected * SECOND)
    assert after._deadline == wait.time


def test_rounds_without_a_number_do_not_end_and_need_no_deadline():
    c = coordinator(rounds=None, deadline=None)
    assert feed(c, Started(), received(0, 0), received(1, 0))[-2:] == [
        "no deadline",
        "send model 1 to 0 1",
    ]
    assert feed(c, PeerLost(0), PeerLost(1)) == ["mix 1 of", "no deadline"]


def test_a_cloud_has_no_deadline_and_ends_if_the_number_of_rounds_is_known():
    for rounds, models in ((None, None), (6, 2), (7, 3)):
        cloud = Synchronous(deadline=2.0).cloud(Participants(2, everyone), rounds=rounds, period=3)
        assert (cloud._rounds, cloud._patience, cloud._idle) == (models, None, 2 * SECOND)


def test_an_edge_has_a_deadline_if_its_members_are_agents_agent_0_too():
    for first, deadline in ((0, 2 * SECOND), (-2, None)):
        members = Participants(2, everyone, (first, first + 1))
        rule = Synchronous(deadline=2.0)
        assert rule.edge(members, rounds=6, period=2, above=COORDINATOR)._patience == deadline


# The coordinator without rounds.


def test_updates_end_a_run_only_if_their_number_is_known():
    c = arrivals(rounds=None)
    words = feed(c, Started(), *(received(0, 0, sequence=k) for k in range(1, 20)))
    assert words[-1] == "send model 19 to 0"


@pytest.mark.parametrize(
    ("agents", "rounds", "first"), [(1, 1, "send model 0 to 0"), (2, 0, "send final 0 to 0 1")]
)
def test_a_run_of_no_update_ends_at_once_and_one_of_one_update_does_not(agents, rounds, first):
    assert feed(arrivals(agents=agents, rounds=rounds), Started())[0] == first


def test_who_is_asked_first_is_chosen_for_model_0():
    chosen = []

    def choose(round: int, present: Sequence[int]) -> Sequence[int]:
        chosen.append(round)
        return present

    c = AsynchronousCoordinator(
        Participants(2, choose), rounds=4, max_staleness=None, staleness=Polynomial()
    )
    feed(c, Started())
    assert chosen == [0]


def test_one_that_ended_alone_says_so_again_when_it_comes_back():
    before, after = arrivals(rounds=None), arrivals(rounds=None)
    feed(before, Started(), PeerLost(0), PeerLost(1), Expired(300 * SECOND))
    assert again(before, after) == ["send final 0 to 0 1", "finish"]


def test_one_that_comes_back_does_not_remember_who_was_away():
    before, after = arrivals(), arrivals()
    feed(before, Started(), PeerLost(0), PeerLost(1))
    again(before, after)
    assert feed(after, PeerLost(0)) == []
    assert feed(after, Expired(300 * SECOND)) == []
    assert feed(after, PeerLost(1)) == ["wait"]


def test_a_coordinator_that_comes_back_sends_to_agents_in_order():
    before, after = (arrivals(ids=(1, 8, 16)) for _ in range(2))
    feed(before, Started(), received(16, 0), received(8, 0), received(1, 0))
    assert again(before, after) == ["send model 3 to 1 8 16"]


def test_who_waits_for_a_model_gets_it_when_somebody_comes_back():
    c = arrivals(size=3)
    feed(c, Started(), received(0, 0), PeerLost(0), PeerLost(1))
    assert feed(c, PeerJoined(1)) == ["no deadline", "send model 0 to 0", "send model 0 to 1"]


def test_updates_of_one_agent_are_in_the_order_of_its_lives():
    c = arrivals(size=2)
    feed(c, Started(), received(0, 0, sequence=5))
    (mix, *_) = c.handle(received(0, 0, sequence=1, incarnation=1), 0)
    assert [(m.incarnation, m.sequence) for m in mix.received] == [(0, 5), (1, 1)]


def test_staleness_counts_the_models_made_since_the_update_began():
    c = arrivals()
    feed(c, Started(), received(0, 0))
    (mix, *_) = c.handle(received(1, 1), 0)
    assert list(mix.staleness) == [0]


# Asynchronous gossip.


def test_a_pusher_without_rounds_goes_on_and_says_who_it_is():
    p = push(rounds=None)
    assert feed(p, Started(), *[trained()] * 9)[-1] == "train"
    assert p.waits_for() == "agent 7 waits in round 9 for its own update"


def test_of_a_restarted_neighbor_a_payload_with_a_lower_number_is_newer():
    p = push()
    feed(p, Started(), received(1, 0, sequence=5), trained())
    feed(p, received(1, 0, sequence=1, incarnation=1), received(1, 0, sequence=6))
    (_, mix, _) = p.handle(trained(), 0)
    assert isinstance(mix, Mix)
    assert [(m.incarnation, m.sequence) for m in mix.received] == [(1, 1)]


# Pairs.


def test_an_agent_trains_for_the_next_exchange_if_there_is_one():
    assert feed(pairs(rounds=2), Started(), trained())[-1] == "train"
    assert feed(pairs(rounds=1), Started(), trained())[-1] == "wait"


def test_only_a_skip_of_the_end_says_that_a_neighbor_has_finished():
    p = pairs(rounds=5)
    feed(p, Started(), received(2, 4, kind=SKIP), received(2, 5, kind=REPLY))
    assert feed(p, trained(), received(1, 0, kind=REPLY), trained())[-3] == "send update 1 to 2"
    other = pairs(rounds=5)
    feed(other, Started(), received(2, 5, kind=SKIP))
    feed(other, trained(), received(1, 0, kind=REPLY))
    assert feed(other, trained())[0] == "send update 1 to 1"


def test_a_neighbor_that_asks_again_has_not_finished():
    p = pairs(rounds=5)
    feed(p, Started(), received(2, 5, kind=SKIP), received(2, 4, incarnation=1))
    feed(p, trained(), received(1, 0, kind=REPLY))
    assert feed(p, trained())[0] == "send update 1 to 2"


def test_a_question_older_than_a_refused_one_is_late():
    p = pairs(available=lambda round, now: now > 0)
    assert feed(p, Started(), received(1, 3)) == ["train", "send skip 3 to 1"]
    assert feed(p, received(1, 2), now=1) == []
    assert p.messages_late == 1


# Edges.


def ended_edge() -> Edge:
    e = edge(rounds=2)
    feed(e, model(0), *(received(i, r) for r in (0, 1) for i in (4, 5)))
    assert feed(e, model(1))[-1] == "finish"
    return e


def test_an_edge_that_is_over_only_sends_its_last_model_again():
    e = ended_edge()
    assert feed(e, model(2), PeerLost(COORDINATOR), Missing(COORDINATOR, 1)) == []
    assert feed(e, PeerJoined(4)) == ["send final 2 to 4"]
    assert again(ended_edge(), edge(rounds=2))[-1] == "finish"


def test_an_edge_that_comes_back_waits_for_no_old_deadline_and_asks_all_its_agents():
    before, after = edge(), edge()
    feed(before, model(0), *(received(i, r) for r in (0, 1) for i in (4, 5)))
    feed(before, PeerLost(COORDINATOR), PeerLost(4))
    assert again(before, after) == []
    assert feed(after, Expired(10 * SECOND)) == []
    assert feed(after, model(1)) == ["adopt 1", "no deadline", "send model 2 to 4 5"]


def test_an_edge_without_a_number_of_rounds_goes_on():
    e = edge(rounds=None)
    feed(e, model(0), *(received(i, r) for r in (0, 1) for i in (4, 5)))
    fresh = edge(rounds=None)
    assert again(e, fresh) == []
    assert feed(fresh, Missing(COORDINATOR, 1)) == ["no deadline", "send model 2 to 4 5"]


def test_a_model_of_the_cloud_that_is_older_than_ours_is_late():
    e = edge()
    feed(e, model(1))
    assert feed(e, model(0, sequence=9)) == []
    assert e.messages_late == 1


def test_a_model_of_the_cloud_ends_the_round_before():
    e = edge()
    (adopt, *_) = e.handle(model(0), 0)
    assert adopt.round == -1
    feed(e, *(received(i, r) for r in (0, 1) for i in (4, 5)))
    (adopt, *_) = e.handle(model(1), 0)
    assert adopt.round == 0
    e = edge()
    feed(e, model(0), model(3, kind=FINAL), received(4, 0), received(5, 0), received(4, 1))
    adopts = [a for a in e.handle(received(5, 1), 0) if isinstance(a, Adopt)]
    assert [a.round for a in adopts] == [2]


def test_deadlines_missed_before_a_link_was_down_are_forgotten_while_an_edge_reports():
    e = edge(suspect_after=2)
    feed(e, model(0), received(4, 0), received(5, 0), received(4, 1), Expired(SECOND))
    feed(e, PeerLost(5), PeerJoined(5), model(1), received(4, 2))
    assert feed(e, Expired(SECOND))[-1] == "send model 3 to 4 5"
