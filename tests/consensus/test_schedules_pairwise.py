"""Exchanges in pairs: the test is the world, and loses, doubles and delays what it likes."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import SECOND, Neighbors, feed, received, trained

from p2pfrl.consensus.mixing import RULES as MIXING
from p2pfrl.consensus.schedules.base import always
from p2pfrl.consensus.schedules.pairwise import Pairs
from p2pfrl.consensus.theory import lambda_2, pairwise_rate
from p2pfrl.consensus.topologies import RULES as TOPOLOGIES
from p2pfrl.core.types import (
    REPLY,
    SKIP,
    Answer,
    Expired,
    Finish,
    Message,
    Missing,
    Mix,
    PeerJoined,
    PeerLost,
    Received,
    Send,
    Started,
    Train,
    WaitUntil,
)
from p2pfrl.laws.runs import FLAT, play


def pairs(
    me: int = 0, near: Sequence[int] = (1, 2), rounds: int | None = None, **options: object
) -> Pairs:
    def pick(round: int, candidates: Sequence[int]) -> int:
        return candidates[round % len(candidates)]

    settings = {"every": 1, "patience": SECOND, "pick": pick, "available": always, **options}
    return Pairs(me, Neighbors(near), rounds=rounds, **settings)  # type: ignore[arg-type]


def reply(sender: int, round: int, **options: object) -> Received:
    return received(sender, round, kind=REPLY, **options)


def test_an_agent_trains_asks_one_neighbor_and_trains_on_while_it_waits():
    p = pairs()
    assert feed(p, Started()) == ["train"]
    assert feed(p, trained()) == ["send update 0 to 1", "wait", "train"]
    assert feed(p, reply(1, 0)) == ["no deadline", "mix 0 of 1"]
    assert feed(p, trained()) == ["send update 1 to 2", "wait", "train"]


def test_it_waits_for_the_answer_only_if_its_training_is_done_first():
    p = pairs(every=2)
    feed(p, Started(), trained(), trained())
    assert feed(p, trained()) == ["train"]
    assert feed(p, trained()) == []
    (_, mix, *rest) = p.handle(reply(1, 0), 0)
    assert isinstance(mix, Mix)
    assert list(mix.staleness) == [2]
    assert [type(action) for action in rest] == [Send, WaitUntil, Train]


def test_it_answers_whoever_asks_whatever_it_does_itself():
    p = pairs()
    assert feed(p, Started(), received(1, 7)) == ["train", "answer 1"]
    feed(p, trained())
    assert feed(p, received(2, 3)) == ["answer 2"]
    feed(p, trained())
    assert feed(p, received(2, 4)) == ["answer 2"]


def test_of_two_that_ask_each_other_at_once_the_lower_one_refuses_and_one_exchange_is_for_both():
    lower, upper = pairs(0, (1,)), pairs(1, (0,))
    feed(lower, Started(), trained())
    feed(upper, Started(), trained())
    assert feed(lower, received(1, 0)) == ["send skip 0 to 1"]
    assert feed(upper, received(0, 0)) == ["answer 0"]
    assert feed(lower, reply(1, 0), received(1, 0)) == [
        "no deadline",
        "mix 0 of 1",
        "send skip 0 to 1",
    ]
    assert feed(upper, received(0, 0, kind=SKIP)) == ["no deadline", "mix 0 of"]
    assert feed(lower, received(1, 1)) == ["answer 1"], "it asks nobody now"


@pytest.mark.parametrize("speed", [1.0, {"kind": "values", "list": [1.0, 1.3]}])
def test_two_agents_agree_though_their_questions_always_cross(speed):
    """Otherwise both move twice half the way, and change places for ever."""
    run = play(
        2,
        20,
        learner=FLAT,
        mixing={"kind": "pairwise"},
        schedule={"kind": "asynchronous"},
        topology={"kind": "path"},
        compute={"speed": speed},
        network={"latency": "10ms"},
    )
    assert run.metrics["consensus_distance"][0] > 1.0
    assert run.metrics["consensus_distance"][-1] < 1e-12
    assert run.metrics["mean_drift"][-1] < 1e-14


def test_a_question_is_answered_once_and_then_with_the_same_words():
    p = pairs()
    feed(p, Started(), received(1, 7))
    assert feed(p, received(1, 7), received(1, 7)) == ["repeat 1", "repeat 1"]
    assert feed(p, received(1, 6)) == []
    assert p.messages_late == 1
    assert feed(p, received(1, 7, incarnation=1)) == ["answer 1"], "who restarted asks anew"
    assert feed(p, received(1, 8)) == [], "a question from before the restart"


def test_a_question_without_an_answer_is_asked_again():
    p = pairs()
    feed(p, Started(), trained())
    assert feed(p, Expired(SECOND - 1)) == []
    assert feed(p, Expired(SECOND)) == ["send update 0 to 1", "wait"]
    assert feed(p, Missing(1, 0), now=2 * SECOND) == ["send update 0 to 1", "wait"]
    assert feed(p, Missing(1, 0), now=2 * SECOND) == [], "at once only once at a time"
    assert feed(p, Missing(2, 0), Missing(1, 5), now=3 * SECOND) == []
    assert feed(p, reply(1, 0), reply(1, 0)) == ["no deadline", "mix 0 of 1"]
    assert (p.deadlines_expired, p.messages_late) == (1, 1)


def test_a_neighbor_that_is_gone_is_given_up_and_not_asked_until_it_is_back():
    p = pairs()
    feed(p, Started(), trained())
    assert feed(p, PeerLost(2)) == []
    assert feed(p, PeerLost(1)) == ["no deadline", "mix 0 of"]
    assert feed(p, trained()) == ["mix 1 of", "train"]
    assert feed(p, PeerJoined(2), trained()) == ["send update 2 to 2", "wait", "train"]


def test_one_that_never_answers_is_given_up_in_the_end():
    p = pairs(near=(1,))
    feed(p, Started(), trained())
    words = [word for k in range(1, 100) for word in feed(p, Expired(k * SECOND), now=k * SECOND)]
    assert words.count("mix 0 of") == 1


def test_a_question_is_sent_sixty_times_at_most():
    p = pairs()
    asked = feed(p, Started(), trained())
    number = 0
    while p.round == 0:
        number += 1
        asked += feed(p, Expired(p._deadline), now=p._deadline)
    assert number == 60
    assert sum(word.startswith("send update 0") for word in asked) == 60


def test_whoever_sits_out_neither_asks_nor_answers_and_stays_with_a_refusal():
    p = pairs(available=lambda round, now: round != 0)
    assert feed(p, Started(), received(1, 4)) == ["train", "send skip 4 to 1"]
    assert feed(p, trained()) == ["sit out 0", "train"]
    assert feed(p, received(1, 4), received(1, 5)) == ["send skip 4 to 1", "answer 1"]
    feed(p, trained())
    assert feed(p, received(2, 1, kind=SKIP)) == ["no deadline", "mix 1 of"]


def test_an_agent_that_is_done_says_so_and_is_not_asked_any_more():
    p = pairs(near=(1,), rounds=1)
    assert feed(p, Started(), trained()) == ["train", "send update 0 to 1", "wait"]
    assert feed(p, reply(1, 0)) == ["no deadline", "mix 0 of 1", "send skip 1 to 1", "finish"]
    q = pairs(near=(1,), rounds=3)
    feed(q, Started(), trained())
    assert feed(q, received(1, 3, kind=SKIP)) == ["no deadline", "mix 0 of"]
    assert feed(q, trained()) == ["mix 1 of", "train"]
    assert feed(q, PeerJoined(1), trained()) == ["mix 2 of", "send skip 3 to 1", "finish"]
    assert feed(pairs(first=3, rounds=3), Started()) == ["send skip 3 to 1 2", "finish"]


def test_it_says_whom_it_waits_for():
    p = pairs()
    feed(p, Started(), trained(), trained())
    assert p.waits_for() == "agent 0 waits in round 0 for the answer of 1"
    assert p.awaits() == (1,)


class Town:
    """Agents that hold one number each, and move as mixing 'pairwise' does."""

    def __init__(self, n: int, rounds: int | None, *, is_reliable: bool) -> None:
        self.is_reliable = is_reliable
        self.x = {i: float(i * i) for i in range(n)}
        near = {i: [j for j in range(n) if j != i] for i in range(n)}
        self.machines = {i: pairs(i, near[i], rounds=rounds) for i in range(n)}
        self.asked: dict[int, tuple[int, float]] = {}
        self.replies: dict[tuple[int, int], tuple[int, float]] = {}
        self.flights: list[tuple[int, Message, float]] = []
        self.training: set[int] = set()
        self.deadlines: dict[int, int] = {}
        self.finished: set[int] = set()
        self.now = 0
        for i in self.machines:
            self.feed(i, Started(), 0.0)

    def feed(self, i: int, event: object, value: float) -> None:
        if i in self.finished:
            return
        for action in self.machines[i].handle(event, self.now):  # type: ignore[arg-type]
            if isinstance(action, Train):
                assert i not in self.training
                self.training.add(i)
            elif isinstance(action, Send):
                kind = action.kind
                if kind != SKIP and self.asked.get(i, (-1, 0.0))[0] != action.round:
                    self.asked[i] = (action.round, self.x[i])
                vector = 0.0 if kind == SKIP else self.asked[i][1]
                self.flights += [
                    (to, received(i, action.round, kind=kind).message, vector) for to in action.to
                ]
            elif isinstance(action, Answer):
                asker = action.message.sender
                if not action.again:
                    self.replies[i, asker] = (action.message.round, self.x[i])
                    self.x[i] += (value - self.x[i]) / 2
                round, said = self.replies[i, asker]
                assert round == action.message.round
                self.flights.append((asker, received(i, round, kind=REPLY).message, said))
            elif isinstance(action, WaitUntil):
                self.deadlines.pop(i, None)
                if action.time is not None:
                    self.deadlines[i] = action.time
            elif isinstance(action, Mix):
                if action.received:
                    self.x[i] += (value - self.asked[i][1]) / 2
            elif isinstance(action, Finish):
                self.finished.add(i)
                self.deadlines.pop(i, None)

    def step(self, random: object, *, is_training: bool = True) -> None:
        flights = range(len(self.flights))
        if self.is_reliable:  # links keep the order
            first = {(to, m.sender): k for k, (to, m, _) in reversed(list(enumerate(self.flights)))}
            flights = sorted(first.values())  # type: ignore[assignment]
        options = [("deliver", k) for k in flights]
        options += [("train", i) for i in sorted(self.training)] if is_training else []
        if not options:
            options = [
                ("expire", i) for i in sorted(self.deadlines, key=lambda i: self.deadlines[i])[:1]
            ]
        what, k = random.choice(options)  # type: ignore[attr-defined]
        self.now += 1
        if what == "train":
            self.training.remove(k)
            self.feed(k, trained(k), 0.0)
        elif what == "expire":
            self.now = max(self.now, self.deadlines[k])
            self.feed(k, Expired(self.deadlines.pop(k)), 0.0)
        else:
            to, m, value = self.flights.pop(k)
            fates = (
                ("deliver",)
                if self.is_reliable
                else ("deliver", "deliver", "lose", "notice", "double")
            )
            fate = random.choice(fates)  # type: ignore[attr-defined]
            if fate == "double":
                self.flights.append((to, m, value))
            if fate != "lose":
                self.feed(
                    to, Missing(m.sender, m.round) if fate == "notice" else Received(m), value
                )

    def mean(self) -> float:
        return sum(self.x.values()) / len(self.x)


@given(n=st.integers(2, 5), steps=st.integers(1, 150), random=st.randoms(use_true_random=False))
def test_whatever_links_do_both_move_or_neither(n, steps, random):
    town = Town(n, None, is_reliable=False)
    before = town.mean()
    for _ in range(steps):
        town.step(random)
    for _ in range(3000):
        if not any(machine._asked is not None for machine in town.machines.values()):
            break
        town.step(random, is_training=False)
    assert not any(machine._asked is not None for machine in town.machines.values())
    assert town.mean() == pytest.approx(before, abs=1e-9)


@given(n=st.integers(2, 5), rounds=st.integers(1, 6), random=st.randoms(use_true_random=False))
def test_everyone_finishes_and_leaves_nothing_half_done(n, rounds, random):
    town = Town(n, rounds, is_reliable=True)
    before = town.mean()
    for _ in range(6000):
        if len(town.finished) == n:
            break
        town.step(random)
    assert len(town.finished) == n
    assert town.mean() == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "agents"), [("ring", 8), ("star", 6), ("path", 5), ("complete", 7)]
)
def test_the_rate_is_the_radius_of_the_mean_of_kronecker_squares(kind, agents):
    graph = TOPOLOGIES[kind]().at(agents, 0, 0)
    square, mean = np.zeros((agents**2, agents**2)), np.zeros((agents, agents))
    for i, near in enumerate(graph.successors):
        for j in near:
            v = np.zeros(agents)
            v[i], v[j] = 1.0, -1.0
            w = np.eye(agents) - np.outer(v, v) / 2
            square += np.kron(w, w) / (agents * len(near))
            mean += w / (agents * len(near))
    away = np.eye(agents) - 1.0 / agents
    project = np.kron(away, away)
    expected = np.abs(np.linalg.eigvals(project @ square @ project)).max()
    assert pairwise_rate(graph) == pytest.approx(expected, abs=1e-9)
    rows = MIXING["pairwise"]().weights(graph)
    assert np.allclose([[row.get(j, 0.0) for j in range(agents)] for row in rows], mean, atol=1e-15)
    assert lambda_2(rows) >= expected - 1e-12


def test_a_crash_in_the_middle_of_exchanges_blocks_nobody():
    record = play(
        8,
        None,
        stop={"virtual_time": "24s"},
        mixing={"kind": "pairwise"},
        schedule={"kind": "asynchronous"},
        compute={"seconds_per_env_step": 0.1},
        network={"latency": "30ms", "loss": 0.1, "peer_timeout": "200ms"},
        faults=(
            {"kind": "crash", "at": 2.01, "agents": [2, 3]},
            {"kind": "restart", "at": 8.0, "agents": [2]},
            {"kind": "partition", "at": 12.0, "groups": [[0, 1, 2, 3], [4, 5, 6, 7]]},
            {"kind": "heal", "at": 16.0},
        ),
    )
    rounds = {
        agent: max(record.agents["round"][record.agents["agent"] == agent])
        for agent in (0, 1, 2, 4, 5, 6, 7)
    }
    assert min(rounds.values()) > 110, rounds
    assert np.isfinite(record.parameters).all()


def test_a_run_is_the_same_again():
    tables = {
        "mixing": {"kind": "pairwise"},
        "schedule": {"kind": "asynchronous"},
        "network": {"loss": 0.2, "jitter": "5ms", "duplicate": 0.2},
        "compute": {"variation": {"kind": "exponential"}},
    }
    one, other = (play(6, 30, **tables) for _ in range(2))
    assert one.summary["digest"] == other.summary["digest"]
    assert play(6, 30, seed=2, **tables).summary["digest"] != one.summary["digest"]
