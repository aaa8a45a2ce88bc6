"""An agent with a scripted schedule: what it sends, mixes and adopts.

The test is its port.
"""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from p2pfrl.agent import Agent, Rules
from p2pfrl.consensus.mixing import RULES as MIXING
from p2pfrl.core.actor import Actor
from p2pfrl.core.turn import NoMemory
from p2pfrl.core.types import (
    COORDINATOR,
    FINAL,
    SKIP,
    Adopt,
    Answer,
    Finish,
    Message,
    Mix,
    PeerJoined,
    Send,
    Started,
    Train,
    Trained,
    Update,
    WaitUntil,
)
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.exchange.compressors.base import Encoded, Raw
from p2pfrl.exchange.gates.base import Always, Gate
from p2pfrl.exchange.payloads.base import Parameters
from p2pfrl.exchange.payloads.changes import Delta
from p2pfrl.exchange.privacy.base import Plain
from p2pfrl.learning.corrections.base import Uncorrected
from p2pfrl.simulator.loop import virtual_time


class Shared(NoMemory):
    """A vector of two numbers."""

    parts = ("p",)

    def __init__(self, *values):
        self.vector = np.array(values, dtype=np.float64)

    def shared(self):
        return self.vector.copy()

    def replace(self, vector):
        self.vector = np.array(vector)


class World:
    """A port whose events are given, and an observer that writes down what it is told."""

    leaves = False

    def __init__(self, *events):
        self.events = list(events)
        self.done = []
        self.sent = []
        self.told = []

    def now(self):
        return 17

    async def receive(self):
        await asyncio.sleep(0)
        return self.events.pop(0)

    def wait_until(self, time):
        self.done.append(("wait", time))

    def train(self):
        self.done.append("train")

    def send(self, to, frame):
        self.done.append("send")
        self.sent.append((tuple(to), frame))

    def trained(self, agent, update):
        self.told.append(("trained", agent, update.env_steps))

    def mixed(self, agent, round, staleness, before, after):
        self.told.append(("mixed", agent, round, dict(staleness), before.tolist(), after.tolist()))

    def answered(self, agent, before, after):
        self.told.append(("answered", agent, before.tolist(), after.tolist()))

    def sat_out(self, agent, round):
        self.told.append(("sat out", agent, round))


class Script:
    """A schedule that answers every event with the next actions."""

    messages_late = deadlines_expired = 0

    def __init__(self, *answers):
        self.answers = list(answers)
        self.seen = []

    def handle(self, event, now):
        assert now == 17
        self.seen.append(type(event))
        return self.answers.pop(0)

    def waits_for(self):
        return "the script"

    def awaits(self):
        return ()


WEIGHTS = {0: 0.5, 1: 0.25, 2: 0.25}


def play(*answers, events=(), model=None, world=None, weights=WEIGHTS, **rules):
    options = {
        "payload": Parameters(),
        "gate": Always(),
        "privacy": Plain(),
        "compressor": Raw(),
        "mixing": MIXING["metropolis"](),
        "order": "adapt_then_combine",
        "max_staleness": None,
        "seed": 1,
        "correction": Uncorrected(),
    }
    world = world or World(*events)
    model = model or Shared(2.0, 4.0)
    agent = Agent(
        0,
        model=model,
        rules=Rules(**{**options, **rules}),
        weights=lambda round: dict(weights),
        encoder=Encoder("run", 0),
        port=world,
        observer=world,
    )
    virtual_time().run_until_complete(Actor(Script(*answers, [Finish()]), agent, world).run())
    return model, world


def message(sender, round, *values):
    return Message("update", sender, 0, round + 1, round, 8.0, "raw", ("p",), 0, np.array(values))


def decoded(frame):
    return Decoder("run", agents=3, parts=("p",), size=2, dtype="float64").decode(frame)


def update(steps):
    return Trained(Update(0, steps, 0.0))


def mix(*messages, round=0, staleness=None, factors=None, active=True):
    return Mix(
        round, messages, staleness or [0] * len(messages), factors or [1.0] * len(messages), active
    )


def test_events_go_to_the_schedule_and_actions_to_the_world_in_order_until_it_finishes():
    world = World(PeerJoined(1), PeerJoined(2))
    script = Script([Train(), WaitUntil(5)], [WaitUntil(None), mix()], [Finish(), Train()])
    performed = []
    virtual_time().run_until_complete(
        Actor(script, SimpleNamespace(perform=performed.append), world).run()
    )
    assert script.seen == [Started, PeerJoined, PeerJoined]
    assert world.done == ["train", ("wait", 5), ("wait", None)]
    assert [type(action) for action in performed] == [Train, Mix]


def test_a_payload_carries_the_vector_the_round_and_the_steps_since_the_last_mixing():
    _, world = play(
        [Train()],
        [],
        [Send((1, 2), 6)],
        [mix(message(1, 6, 6.0, 0.0)), Send((1,), 7)],
        events=[update(64), update(32), PeerJoined(1), PeerJoined(1)],
    )
    (to, first), (_, second) = world.sent
    assert to == (1, 2)
    sent = decoded(first)
    assert (sent.kind, sent.round, sent.weight, sent.payload.tolist()) == (
        "update",
        6,
        96.0,
        [2.0, 4.0],
    )
    assert decoded(second).weight == 0.0
    assert world.told[:2] == [("trained", 0, 64), ("trained", 0, 32)]


class Same(Raw):
    """The numbers as they are, by a rule of one's own."""


class Doubles(Raw):
    def encode(self, vector, turn, state):
        return Encoded(2.0 * vector, 2.0 * vector, state)


class Shut(Always):
    def decide(self, payload, turn, state):
        return False, state


class AddsOne(Plain):
    def release(self, payload):
        return payload + 1.0


class Negative(Parameters):
    def extract(self, turn):
        return -turn.own


class Triples(MIXING["metropolis"]):
    def payload(self, turn, state, to):
        return 3.0 * turn.own


@pytest.mark.parametrize(
    ("rules", "sent"),
    [
        ({}, [2.0, 4.0]),
        ({"compressor": Same()}, [2.0, 4.0]),
        ({"compressor": Doubles()}, [4.0, 8.0]),
        ({"gate": Shut()}, []),
        ({"privacy": AddsOne()}, [3.0, 5.0]),
        ({"payload": Negative()}, [-2.0, -4.0]),
        ({"mixing": Triples()}, [6.0, 12.0]),
    ],
)
def test_what_leaves_is_the_vector_itself_unless_a_rule_makes_something_else_of_it(rules, sent):
    _, world = play([Send((1, 2), 0)], events=[PeerJoined(1)], **rules)
    ((to, frame),) = world.sent
    assert to == (1, 2)
    assert decoded(frame).payload.tolist() == sent
    if rules.keys() <= {"compressor"}:
        _, plain = play([Send((1, 2), 0)], events=[PeerJoined(1)])
        is_same = frame.head == plain.sent[0][1].head
        assert is_same == (sent == [2.0, 4.0])  # its checksum is in the head


class Training(World):
    """A world in which an update adds (10, 10)."""

    model = None

    def train(self):
        super().train()
        self.model.vector = self.model.vector + 10.0


def test_who_joins_late_gets_what_the_others_got_and_not_what_was_trained_since():
    for order, late in (
        ("combine_while_adapting", [2.0, 4.0]),
        ("adapt_then_combine", [12.0, 14.0]),
    ):
        world = Training(update(1), PeerJoined(2), PeerJoined(2), PeerJoined(2))
        world.model = Shared(2.0, 4.0)
        play(
            [Send((1,), 0), Train()],
            [],
            [Send((2,), 0)],
            [mix()],
            world=world,
            model=world.model,
            order=order,
        )
        assert [decoded(frame).payload.tolist() for _, frame in world.sent] == [[2.0, 4.0], late], (
            order
        )
        assert world.model.vector.tolist() == [12.0, 14.0], "alone, it keeps what it trained"


def test_mixing_is_the_weighted_sum_of_own_and_received():
    model, world = play(
        [mix(message(1, 0, 6.0, 0.0), message(2, 0, 10.0, 4.0), staleness=[0, 3])],
        events=[PeerJoined(1)],
    )
    expected = [0.5 * 2 + 0.25 * 6 + 0.25 * 10, 0.5 * 4 + 0.25 * 4]
    assert model.vector.tolist() == expected
    assert world.told == [("mixed", 0, 0, {1: 0, 2: 3}, [2.0, 4.0], expected)]


def test_a_stale_payload_counts_by_its_factor_and_the_rest_is_ones_own():
    model, _ = play([mix(message(1, 0, 6.0, 0.0), factors=[0.5])], events=[PeerJoined(1)])
    assert model.vector.tolist() == [2.0 + 0.125 * 4.0, 4.0 - 0.125 * 4.0]


def test_what_is_missing_is_folded_into_oneself_or_renormalized():
    fold, _ = play([mix(message(1, 0, 6.0, 0.0))], events=[PeerJoined(1)])
    assert fold.vector.tolist() == [3.0, 3.0]
    renormalized, _ = play(
        [mix(message(1, 0, 6.0, 0.0))],
        events=[PeerJoined(1)],
        mixing=MIXING["metropolis"](on_loss="renormalize"),
    )
    assert renormalized.vector == pytest.approx([(0.5 * 2 + 0.25 * 6) / 0.75, 0.5 * 4 / 0.75])


def test_the_last_known_payload_stands_in_while_it_is_fresh_enough():
    script = [mix(message(1, 0, 6.0, 0.0)), mix(round=1)], [mix(round=2)]
    rule = MIXING["metropolis"](on_loss="last_known")
    _, world = play(
        *script, events=[PeerJoined(1), PeerJoined(1)], mixing=rule, weights={0: 0.5, 1: 0.5}
    )
    assert [told[5] for told in world.told] == [[4.0, 2.0], [5.0, 1.0], [5.5, 0.5]]
    _, world = play(
        *script,
        events=[PeerJoined(1), PeerJoined(1)],
        mixing=rule,
        weights={0: 0.5, 1: 0.5},
        max_staleness=1,
    )
    assert [told[5] for told in world.told] == [[4.0, 2.0], [5.0, 1.0], [5.0, 1.0]]


def test_whoever_sits_out_keeps_its_parameters():
    model, world = play([mix(message(1, 0, 6.0, 0.0), active=False)], events=[PeerJoined(1)])
    assert model.vector.tolist() == [2.0, 4.0]
    assert world.told == [("sat out", 0, 0)]


def test_combining_while_adapting_mixes_what_was_sent_and_adds_ones_own_progress():
    model, world = Shared(2.0, 4.0), World(PeerJoined(1), PeerJoined(1))
    original = world.receive

    async def receive():
        model.vector = model.vector + np.array([1.0, -1.0])
        return await original()

    world.receive = receive
    play(
        [Train()],
        [mix(message(1, 0, 6.0, 0.0))],
        model=model,
        world=world,
        order="combine_while_adapting",
        weights={0: 0.5, 1: 0.5},
    )
    assert world.told[0][4:] == ([3.0, 3.0], [0.5 * 2 + 0.5 * 6 + 1.0, 0.5 * 4 - 1.0])


def test_a_skip_and_a_closed_gate_send_a_header_only():
    class Closed(Gate):
        def decide(self, payload, turn, state):
            assert payload.tolist() == turn.own.tolist() == [2.0, 4.0]
            return False, state

    for gate, kind in ((Always(), SKIP), (Closed(), "update")):
        _, world = play([Send((1,), 3, kind)], events=[PeerJoined(1)], gate=gate)
        sent = decoded(world.sent[0][1])
        assert (sent.kind, sent.round, sent.payload.size) == (SKIP, 3, 0)


def test_the_first_model_is_a_start_and_later_ones_end_rounds():
    def model_of(round, *values):
        return Message(FINAL, COORDINATOR, 0, 1, round, 0.0, "raw", ("p",), 0, np.array(values))

    model, world = play(
        [Adopt(model_of(0, 7.0, 7.0), -1)],
        [Send((-1,), 0), Adopt(model_of(1, 9.0, 1.0), 0)],
        events=[update(5), PeerJoined(1)],
        payload=Delta(),
    )
    assert decoded(world.sent[0][1]).payload.tolist() == [0.0, 0.0]
    assert decoded(world.sent[0][1]).weight == 5.0
    assert model.vector.tolist() == [9.0, 1.0]
    assert world.told[1:] == [("mixed", 0, 0, {}, [7.0, 7.0], [9.0, 1.0])]


def test_an_exchange_begins_once_knows_whom_it_goes_to_and_gives_every_neighbor_its_own():
    asked = []

    class Own(MIXING["metropolis"]):
        is_per_neighbor = True

        def prepare(self, turn, state):
            asked.append(
                ("prepare", turn.round, tuple(turn.to), turn.start.tolist(), turn.own.tolist())
            )
            return (*state, turn.round)

        def payload(self, turn, state, to):
            return turn.own + to * len(state)

        def mix(self, turn, received, weights, state):
            asked.append(("mix", turn.round, state))
            return turn.own + 1.0, state

    _, world = play(
        [Send((1, 2), 0)],
        [Send((2,), 0), mix()],
        [mix(round=1), Send((1,), 0)],
        events=[PeerJoined(1), PeerJoined(1), PeerJoined(1)],
        mixing=Own(),
    )
    assert asked == [
        ("prepare", 0, (1, 2), [2.0, 4.0], [2.0, 4.0]),
        ("mix", 0, (0,)),
        ("prepare", 1, (), [3.0, 5.0], [3.0, 5.0]),
        ("mix", 1, (0, 1)),
    ]
    sent = [(to, decoded(frame).payload.tolist()) for to, frame in world.sent]
    assert sent == [((1,), [3.0, 5.0]), ((2,), [4.0, 6.0]), ((2,), [4.0, 6.0]), ((1,), [6.0, 8.0])]


def test_an_agent_that_is_asked_answers_with_what_it_has_and_moves():
    class Halfway(MIXING["metropolis"]):
        is_pairwise = True

        def answer(self, turn, received):
            return (turn.own + received) / 2

    model, world = play([Answer(message(1, 4, 6.0, 0.0))], events=[PeerJoined(1)], mixing=Halfway())
    ((to, frame),) = world.sent
    assert (to, decoded(frame).kind, decoded(frame).round) == ((1,), "reply", 4)
    assert decoded(frame).payload.tolist() == [2.0, 4.0]
    assert model.vector.tolist() == [4.0, 2.0]
    assert world.told == [("answered", 0, [2.0, 4.0], [4.0, 2.0])]


def test_all_turns_of_an_exchange_have_one_key_and_no_two_exchanges_have():
    seen = []

    class Keyed(MIXING["metropolis"]):
        is_pairwise = True

        def prepare(self, turn, state):
            seen.append(("prepare", turn.key))
            return state

        def payload(self, turn, state, to):
            seen.append((turn.kind, turn.key))
            return turn.own

        def mix(self, turn, received, weights, state):
            seen.append(("mix", turn.key))
            return turn.own, state

        def answer(self, turn, received):
            return turn.own

    play(
        [Send((1,), 0), Send((2,), 0), mix()],
        [Send((1,), 0)],  # again, for one that was away
        [Send((1,), 1), Answer(message(1, 4, 6.0, 0.0)), Answer(message(2, 4, 6.0, 0.0))],
        [mix(round=1), mix(round=2), Send((1,), 3)],
        events=[PeerJoined(1)] * 4,
        mixing=Keyed(),
    )
    assert {(seed, agent) for _, (seed, agent, _) in seen} == {(1, 0)}
    assert [(what, number) for what, (_, _, number) in seen] == [
        ("update", 0),  # the vector that the compressor sizes its memory by
        ("prepare", 0),
        ("update", 0),
        ("update", 0),
        ("mix", 0),
        ("update", 0),
        ("prepare", 1),
        ("update", 1),
        ("reply", 2),
        ("reply", 3),
        ("mix", 1),
        ("prepare", 4),
        ("mix", 4),
        ("prepare", 5),
        ("update", 5),
    ]
