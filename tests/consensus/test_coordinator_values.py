"""What a coordinator sends, aggregates and remembers, value by value, with rules made for it."""

from collections.abc import Sequence

import numpy as np
import pytest
from test_coordinator import Port, Witness, mix

from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.consensus.coordinator import Coordinator, CoordinatorRules
from p2pfrl.consensus.participation.base import MOVES
from p2pfrl.consensus.server_optimizers.base import ServerOptimizer
from p2pfrl.core.types import COORDINATOR, FINAL, MODEL, Message, Send
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.exchange.payloads.base import Parameters


class Correction:
    """Sends a vector beside the model, and a point that is ten moves ahead."""

    def __init__(self, extras: int = 1) -> None:
        self.extras = extras
        self.shares: list[float] = []

    def serve(self, extra: np.ndarray, mean: np.ndarray, share: float) -> np.ndarray:
        self.shares.append(share)
        return extra + share * mean

    def point(self, model: np.ndarray, previous: np.ndarray) -> np.ndarray:
        return model + 10.0 * (model - previous)


class Step(ServerOptimizer):
    """Replaces the model, and counts its steps and their factors."""

    def __init__(self) -> None:
        self.factors: list[float] = []

    def init(self, model: np.ndarray) -> int:
        return 0

    def step(self, model, target, factor, state):  # type: ignore[no-untyped-def]
        self.factors.append(factor)
        return target + state, state + 1


class Lasting(Mean):
    """A mean that goes on with its last result."""

    goes_on = True

    def init(self, model: np.ndarray) -> tuple[float, ...]:
        return ()

    def aggregate(self, received, model, state):  # type: ignore[no-untyped-def]
        mean = np.mean([a.vector for a in received], axis=0) if received else np.array(state)
        return mean, tuple(mean)


class Choice:
    """A choice that is given, and what the coordinator knew of its agents each time."""

    def __init__(self, chosen: Sequence[int] = (0, 1, 2)) -> None:
        self.chosen = chosen
        self.models: list[list[float]] = []

    def choose(self, round: int, present: Sequence[int], standing: object) -> Sequence[int]:
        self.models.append(standing.model.tolist())  # type: ignore[attr-defined]
        return self.chosen


def make(extras: int = 0, chosen: Sequence[int] = (0, 1, 2), aggregator: object = None):
    port, witness = Port(), Witness()
    rules = CoordinatorRules(
        payload=Parameters(),
        aggregator=aggregator or Mean(weights="uniform"),  # type: ignore[arg-type]
        optimizer=Step(),
        correction=Correction(extras),  # type: ignore[arg-type]
        participation=Choice(chosen),  # type: ignore[arg-type]
    )
    c = Coordinator(
        np.array([1.0, 2.0]),
        agents=4,
        seed=0,
        rules=rules,
        encoder=Encoder("run", COORDINATOR),
        parts=("p",),
        port=port,
        witness=witness,
    )
    return c, port, rules


def update(sender: int, *values: float, weight: float = 1.0, score: float = 0.0) -> Message:
    vector = np.array(values)
    return Message("update", sender, 0, 1, 0, weight, "raw", ("p",), 0, vector, score)


def sent(port: Port, extras: int = 0) -> list[tuple[tuple[int, ...], Message]]:
    size = 2 * (1 + extras)
    decoder = Decoder("run", agents=4, parts=("p",), size=size, dtype="float64")
    return [(to, decoder.decode(frame)) for to, frame in port.sent]


def test_beside_a_model_travels_the_vector_of_the_correction_and_the_last_is_no_point():
    c, port, rules = make(extras=1)
    c.perform(Send((0,), 0, MODEL))
    c.perform(mix(update(0, 3.0, 4.0, 8.0, 0.0), update(1, 5.0, 4.0, 0.0, 4.0)))
    c.perform(Send((0,), 1, MODEL))
    c.perform(Send((0,), 1, FINAL))
    payloads = [message.payload.tolist() for _, message in sent(port, extras=1)]
    assert payloads == [[1, 2, 0, 0], [34, 24, 2, 1], [4, 4, 2, 1]]
    assert rules.correction.shares == [0.5], "two of four agents"
    c.perform(mix())
    assert rules.correction.shares == [0.5], "nothing came beside nothing"
    c.perform(mix(update(0, 5.0, 5.0, 0.0, 0.0)))
    c.perform(Send((0,), 2, MODEL))
    assert sent(port, extras=1)[-1][1].payload.tolist()[:2] == [26.0, 26.0], "from (4, 4) to (6, 6)"


def test_agents_whose_update_did_not_count_are_told_which_one_did():
    c, port, _ = make(extras=1)
    c.perform(Send((0, 1, 2, 3), 9, MODEL, unused={1: -1, 2: 0, 3: 4}))
    scores = [(to, message.score) for to, message in sent(port, extras=1)]
    assert scores == [((1,), -1.0), ((0,), 0.0), ((2,), 1.0), ((3,), 5.0)]


@pytest.mark.parametrize(("extras", "unused"), [(0, {1: 3}), (1, {})])
def test_without_a_correction_or_unused_updates_one_model_goes_to_all(extras, unused):
    c, port, _ = make(extras=extras)
    c.perform(Send((0, 1), 9, MODEL, unused=unused))
    assert [(to, message.score) for to, message in sent(port, extras)] == [((0, 1), 0.0)]


def test_an_agent_that_was_drawn_twice_counts_twice_and_is_asked_once():
    c, _, rules = make(chosen=(2, 0, 0))
    assert c.choose(0, (0, 1, 2)) == [0, 2]
    c.perform(mix(update(0, 3.0, 0.0), update(2, 6.0, 3.0)))
    assert c.model.tolist() == [4.0, 1.0]
    rules.participation.chosen = (0, 2)
    c.choose(1, (0, 1, 2))
    c.perform(mix(update(0, 3.0, 0.0), update(2, 6.0, 3.0)))
    assert c.model.tolist() == [5.5, 2.5], "one more by the optimizer's second step"
    assert rules.participation.models == [[1, 2], [4, 1]]


@pytest.mark.parametrize(
    ("factors", "passed", "model"),
    [((0.5,), 0.5, 9.0), ((0.5, 1.0), 1.0, 7.0), ((1.0, 1.0), 1.0, 9.0)],
)
def test_a_single_factor_is_the_optimizer_s_and_several_scale_each_update(factors, passed, model):
    c, _, rules = make()
    c.perform(mix())
    assert rules.correction.shares == []
    c.perform(mix(*(update(i, 9.0, 0.0) for i in range(len(factors))), factors=list(factors)))
    assert rules.optimizer.factors == [passed]
    assert c.model[0] == model
    assert rules.correction.shares == [], "it sends no vector"


def test_a_round_without_updates_goes_on_only_with_an_aggregator_that_does_and_has_something():
    c, _, rules = make(aggregator=Lasting())
    c.perform(mix())
    assert rules.optimizer.factors == []
    c.perform(mix(update(0, 3.0, 4.0)))
    c.perform(mix())
    assert rules.optimizer.factors == [1.0, 1.0]
    plain, _, rules = make()
    plain.perform(mix(update(0, 3.0, 4.0)))
    plain.perform(mix())
    assert rules.optimizer.factors == [1.0]


def test_it_remembers_of_its_agents_what_the_next_choice_may_depend_on():
    c, _, _ = make()
    c.perform(mix(update(0, 4.0, 6.0, weight=3.0, score=0.5)))
    c.perform(mix(update(1, 4.0, 6.0, weight=5.0, score=0.25)))
    standing = c._standing
    assert (standing.samples, standing.scores) == ({0: 3.0, 1: 5.0}, {0: 0.5, 1: 0.25})
    assert {i: model.tolist() for i, model in standing.trained.items()} == {0: [1, 2], 1: [4, 6]}
    assert standing.moves == (2.0, 25.0), "newest first"
    for _ in range(MOVES):
        c.perform(mix(update(1, 4.0, 6.0)))
    assert len(standing.moves) == MOVES
    assert standing.moves[-1] == 2.0


def test_a_coordinator_that_takes_over_a_state_does_and_sends_the_same():
    rules = {"extras": 1, "chosen": (0, 0, 1), "aggregator": Lasting()}
    (one, port, _), (other, after, _) = make(**rules), make(**rules)
    one.choose(0, (0, 1))
    one.perform(Send((0,), 0, MODEL))
    one.perform(mix(update(0, 3.0, 4.0, 8.0, 0.0, weight=3.0, score=0.5)))
    one.perform(mix(update(1, 7.0, 4.0, 0.0, 8.0)))
    other.restore(one.save())
    port.sent.clear()
    for c in (one, other):
        c.perform(Send((0,), 1, MODEL, unused={0: 0}))
        c.perform(mix())
        c.perform(mix(update(0, 3.0, 4.0, 8.0, 0.0), update(1, 6.0, 7.0, 0.0, 0.0)))
        c.perform(mix())
        c.choose(1, (0, 1))
        c.perform(Send((0,), 3, MODEL))
    assert one._standing.samples == other._standing.samples != {}
    assert one._standing.scores == other._standing.scores
    assert one._standing.moves == other._standing.moves
    assert len(one._standing.moves) == 5
    first, second = ([frame for _, frame in side.sent] for side in (port, after))
    assert [f.sequence for f in first] == [f.sequence for f in second] == [2, 3]
    assert [f.payload.tobytes() for f in first] == [f.payload.tobytes() for f in second]


def test_its_place_is_the_round_of_what_it_did_last_counted_from_1():
    c, _, _ = make()
    assert c.place() == "round 1"
    c.perform(Send((0,), 4, MODEL))
    assert c.place() == "round 5"
    c.perform(mix())
    assert c.place() == "round 1"
