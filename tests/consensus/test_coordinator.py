from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.consensus.aggregators import Mean
from p2pfrl.consensus.coordinator import (
    PARTICIPATION,
    SERVER_OPTIMIZERS,
    All,
    Coordinator,
    Replace,
    StalenessMix,
    UniformParticipation,
)
from p2pfrl.core.types import COORDINATOR, FINAL, MODEL, Message, Mix, Send
from p2pfrl.core.wire import Decoder, Encoder, Frame
from p2pfrl.exchange.payloads import Delta, Parameters


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


def coordinator(payload=None, optimizer=None, aggregator=None):
    c = Coordinator(
        np.array([1.0, 2.0]), payload=payload or Parameters(), aggregator=aggregator or Mean(),
        optimizer=optimizer or Replace(), encoder=Encoder("run", COORDINATOR), parts=("p",), port=Port(),
        witness=Witness(),
    )  # fmt: skip
    return c, c._port, c._witness


def update(sender, *values, weight=1.0):
    return Message("update", sender, 0, 1, 0, weight, "raw", ("p",), 0, np.array(values))


def mix(*messages, tau=0, factor=1.0):
    return Mix(0, messages, [tau] * len(messages), [factor] * len(messages))


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
    c.perform(Send([0, 2], 7, kind))
    c.model += 100.0
    ((to, frame),) = port.sent
    message = Decoder("run", agents=3, parts=("p",), size=2, dtype="float64").decode(frame)
    assert (to, message.kind, message.round, message.sender) == ((0, 2), kind, 7, COORDINATOR)
    assert message.payload.tolist() == [1.0, 2.0]
    assert witness.told == [("excused", 7, (0, 2))]


@pytest.mark.parametrize("kind", SERVER_OPTIMIZERS)
def test_server_steps_go_toward_the_target_and_change_neither_input(kind):
    rule = SERVER_OPTIMIZERS[kind]()
    model, target = np.array([0.0, 1.0]), np.array([10.0, 1.0])
    model.setflags(write=False)
    target.setflags(write=False)
    full, half = rule.step(model, target, 1.0), rule.step(model, target, 0.5)
    assert 0.0 < half[0] < full[0] <= 10.0
    assert half[0] == pytest.approx(full[0] / 2)
    assert full[1] == half[1] == 1.0


@pytest.mark.parametrize("kind", PARTICIPATION)
@given(present=st.lists(st.integers(0, 30), unique=True, min_size=1).map(sorted), round=st.integers(0, 50))
def test_someone_who_is_present_takes_part_and_the_choice_is_repeatable(kind, present, round):
    rule = PARTICIPATION[kind]()
    chosen = list(rule.choose(3, round, present))
    assert chosen
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(present)
    assert list(rule.choose(3, round, present)) == chosen


def test_everyone_or_a_fraction_of_equal_probability():
    assert All().choose(0, 0, [2, 5]) == [2, 5]
    rule, rounds = UniformParticipation(fraction=0.3), 2000
    counts = Counter(agent for round in range(rounds) for agent in rule.choose(1, round, list(range(10))))
    assert sum(counts.values()) == 3 * rounds
    assert all(abs(count - 0.3 * rounds) < 5 * (rounds * 0.3 * 0.7) ** 0.5 for count in counts.values())
    sizes = {n: len(UniformParticipation(fraction=0.5).choose(0, 0, list(range(n)))) for n in (1, 2, 3, 4, 5)}
    assert sizes == {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}
