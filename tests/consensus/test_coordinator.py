from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.consensus.coordinator import Coordinator, CoordinatorRules
from p2pfrl.consensus.hierarchy import EdgeCoordinator, GroupWitness
from p2pfrl.consensus.participation.base import All, Standing
from p2pfrl.consensus.participation.selection import Uniform
from p2pfrl.consensus.server_optimizers.base import Replace
from p2pfrl.consensus.server_optimizers.momentum import StalenessMix
from p2pfrl.core.types import (
    COORDINATOR,
    FINAL,
    MODEL,
    SKIP,
    UPDATE,
    Adopt,
    Frame,
    Message,
    Mix,
    Send,
    edge_id,
)
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.exchange.payloads.base import Parameters
from p2pfrl.exchange.payloads.changes import Delta
from p2pfrl.learning.corrections import RULES as CORRECTIONS
from p2pfrl.scenario.hierarchy import split


class Port:
    """Writes down what is sent."""

    def __init__(self):
        self.sent: list[tuple[tuple[int, ...], Frame]] = []

    def send(self, to, frame):
        self.sent.append((tuple(to), frame))


class Witness:
    """Writes down what it is told."""

    def __init__(self):
        self.told: list[tuple[object, ...]] = []

    def excused(self, round, participants):
        self.told.append(("excused", round, tuple(participants)))

    def applied(self, agent, tau):
        self.told.append(("applied", agent, tau))


def coordinator(
    payload=None, optimizer=None, aggregator=None, make=Coordinator, id=COORDINATOR, **options
):
    port, witness = Port(), Witness()
    c = make(
        np.array([1.0, 2.0]),
        rules=CoordinatorRules(
            payload=payload or Parameters(),
            aggregator=aggregator or Mean(),
            optimizer=optimizer or Replace(),
            correction=CORRECTIONS["none"](),
            participation=All(),
        ),
        encoder=Encoder("run", id),
        parts=("p",),
        port=port,
        witness=witness,
        agents=3,
        seed=0,
        **options,
    )
    return c, port, witness


def edge(**options):
    return coordinator(make=partial(EdgeCoordinator, id=edge_id(1)), id=edge_id(1), **options)


def update(sender, *values, weight=1.0):
    return Message("update", sender, 0, 1, 0, weight, "raw", ("p",), 0, np.array(values))


def mix(*messages, tau=0, factor=1.0, factors=None):
    return Mix(0, messages, [tau] * len(messages), factors or [factor] * len(messages))


def test_a_round_replaces_the_model_by_the_mean_of_what_arrived():
    c, _, witness = coordinator()
    c.perform(mix(update(0, 3.0, 0.0), update(2, 5.0, 4.0)))
    assert c.model.tolist() == [4.0, 2.0]
    assert witness.told == [("applied", 0, 0), ("applied", 2, 0)]


def test_deltas_move_the_model_from_where_it_is():
    c, _, _ = coordinator(payload=Delta())
    c.perform(mix(update(0, 3.0, 0.0), update(2, 5.0, 4.0)))
    assert c.model.tolist() == [5.0, 4.0]


def test_samples_weigh_updates_by_the_steps_behind_them():
    c, _, _ = coordinator(aggregator=Mean(weights="samples"))
    c.perform(mix(update(0, 0.0, 0.0, weight=1.0), update(1, 4.0, 8.0, weight=3.0)))
    assert c.model.tolist() == [3.0, 6.0]


def test_a_stale_update_moves_the_model_by_alpha_s_of_the_way():
    c, _, witness = coordinator(optimizer=StalenessMix(alpha=0.5))
    c.perform(mix(update(1, 9.0, 2.0), tau=3, factor=0.25))
    assert c.model == pytest.approx([1.0 + 0.125 * 8.0, 2.0])
    assert witness.told == [("applied", 1, 3)]


def test_nothing_received_changes_nothing():
    c, _, witness = coordinator()
    c.perform(mix())
    assert c.model.tolist() == [1.0, 2.0]
    assert witness.told == []


@pytest.mark.parametrize("kind", [MODEL, FINAL])
def test_the_model_that_is_sent_is_a_copy_that_later_rounds_do_not_touch(kind):
    c, port, witness = coordinator()
    c.perform(Send([0, 2], 7, kind, asked=[0, 2]))
    c.perform(Send([1], 7, kind))
    c.model += 100.0
    (to, frame), _ = port.sent
    message = Decoder("run", agents=3, parts=("p",), size=2, dtype="float64").decode(frame)
    assert (to, message.kind, message.round, message.sender) == ((0, 2), kind, 7, COORDINATOR)
    assert message.payload.tolist() == [1.0, 2.0]
    assert witness.told == [("excused", 7, (0, 2))], "one that gets it again excuses nobody"


@pytest.mark.parametrize("factors", [(0.5, 1.0, 1.0), (1.0, 1.0, 0.5), (0.5, 0.5, 0.5)])
def test_of_several_updates_each_is_weakened_by_its_own_factor(factors):
    c, _, _ = coordinator(payload=Delta())
    c.perform(mix(*(update(i, 3.0 * (i + 1), 0.0) for i in range(3)), factors=factors))
    assert c.model[0] == pytest.approx(1.0 + sum(f * (i + 1) for i, f in enumerate(factors)))


@pytest.mark.parametrize(("kind", "rule"), [("all", All()), ("uniform", Uniform())])
@given(
    present=st.lists(st.integers(0, 30), unique=True, min_size=1).map(sorted),
    round=st.integers(0, 50),
)
def test_someone_who_is_present_takes_part_and_the_choice_is_repeatable(kind, rule, present, round):
    standing = Standing(3, np.zeros(1))
    chosen = list(rule.choose(round, present, standing))
    assert chosen
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(present)
    assert list(rule.choose(round, present, standing)) == chosen


def test_everyone_or_a_fraction_of_equal_probability():
    standing = Standing(1, np.zeros(1))
    assert All().choose(0, [2, 5], standing) == [2, 5]
    rule, rounds = Uniform(fraction=0.3), 2000
    counts = Counter(
        agent for round in range(rounds) for agent in rule.choose(round, list(range(10)), standing)
    )
    assert sum(counts.values()) == 3 * rounds
    assert all(
        abs(count - 0.3 * rounds) < 5 * (rounds * 0.3 * 0.7) ** 0.5 for count in counts.values()
    )
    sizes = {
        n: len(Uniform(fraction=0.5).choose(0, list(range(n)), standing)) for n in (1, 2, 3, 4, 5)
    }
    assert sizes == {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}


def cloud_model(*values):
    return Adopt(Message(MODEL, COORDINATOR, 0, 1, 0, 0.0, "raw", ("p",), 0, np.array(values)), -1)


def sent(port):
    decoder = Decoder("run", agents=9, parts=("p",), size=2, dtype="float64", coordinators=3)
    return [(to, decoder.decode(frame)) for to, frame in port.sent]


@pytest.mark.parametrize(
    ("payload", "expected"), [(Parameters(), [5.0, 1.0]), (Delta(), [-5.0, -9.0])]
)
def test_an_edge_sends_the_cloud_what_an_agent_would_and_the_steps_behind_it(payload, expected):
    e, port, _ = edge(payload=payload)
    e.perform(cloud_model(10.0, 10.0))
    first = (4.0, 0.0) if isinstance(payload, Parameters) else (-6.0, -10.0)
    second = (5.0, 1.0) if isinstance(payload, Parameters) else (1.0, 1.0)
    e.perform(mix(update(0, *first, weight=3.0), update(2, *first, weight=4.0)))
    e.perform(mix(update(0, *second, weight=5.0)))
    e.perform(Send((COORDINATOR,), 0, UPDATE))
    ((to, message),) = sent(port)
    assert (to, message.kind, message.sender, message.weight) == ((COORDINATOR,), UPDATE, -3, 12.0)
    assert message.payload.tolist() == expected


def test_an_edge_that_answers_a_model_again_says_the_same():
    e, port, _ = edge()
    e.perform(cloud_model(10.0, 10.0))
    e.perform(mix(update(0, 4.0, 0.0, weight=3.0)))
    e.perform(Send((COORDINATOR,), 0, UPDATE))
    e.perform(Send((COORDINATOR,), 0, UPDATE))
    (_, first), (_, second) = sent(port)
    assert (first.kind, first.weight, first.payload.tolist()) == (UPDATE, 3.0, [4.0, 0.0])
    assert (second.kind, second.weight, second.payload.tolist()) == (UPDATE, 3.0, [4.0, 0.0])


def test_an_edge_that_heard_nobody_skips():
    e, port, witness = edge()
    e.perform(cloud_model(10.0, 10.0))
    e.perform(mix())
    e.perform(Send((COORDINATOR,), 4, UPDATE))
    ((_, message),) = sent(port)
    assert (message.kind, message.round) == (SKIP, 4)
    assert witness.told == []


def test_an_edge_excuses_nobody_of_another_edge():
    witness = Witness()
    GroupWitness(witness, [3, 4]).excused(2, (0,))
    assert witness.told == [("excused", 2, (0, 3, 4))]


@given(agents=st.integers(1, 200), data=st.data())
def test_groups_are_contiguous_and_of_one_size_or_two(agents, data):
    groups = split(agents, data.draw(st.integers(1, agents)))
    assert [i for group in groups for i in group] == list(range(agents))
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert min(map(len, groups)) >= 1
