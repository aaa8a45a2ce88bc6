"""Laws of what leaves an agent, over every member of every axis of the room."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from p2pfrl.core.errors import WireError
from p2pfrl.core.needs import Need, OneOf
from p2pfrl.core.turn import NoMemory, Turn
from p2pfrl.exchange.compressors import RULES as COMPRESSORS
from p2pfrl.exchange.gates import RULES as GATES
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.exchange.privacy import RULES as PRIVACY

vectors = arrays(np.float64, 6, elements=st.floats(-1e6, 1e6))
sized = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda dtype: arrays(dtype, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32))
)
AGGREGATOR = "coordinator.aggregator"
OPTIONS = {
    "clip_noise": {"clip": 1.0},
    "distributed_noise": {"clip": 1.0, "parts": 3},
    "central_noise": {"clip": 1.0},
    "every": {"tau": 2},
    "norm": {"threshold": 1.0},
    "performance": {"threshold": 1.0},
    "reached": {"value": 1.0},
    "lag": {"alpha": 0.1, "agents": 4},
}


class Remembers(NoMemory):
    """The memory of an agent whose learner takes no step and has news.

    As no step is taken, the gradient points the other way.
    """

    def __init__(self, gradient):
        self.gradient = gradient

    def recall(self, name):
        return {"gradient": self.gradient, "news": np.ones(1)}[name]


def turn(start, own, count=0, **more):
    return Turn(
        0,
        count,
        "update",
        start,
        own,
        1,
        0.0,
        (),
        0.0,
        (1, 0, count),
        Remembers(start - own),
        **more,
    )


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind, cls in PAYLOADS.items()
        if cls.is_averaged
        and not any(isinstance(need, OneOf) and need.key == AGGREGATOR for need in cls().needs)
    ],
)
@given(start=vectors, own=vectors)
def test_one_agent_s_payload_leads_a_coordinator_at_its_start_to_where_the_agent_is(
    kind, start, own
):
    payload = PAYLOADS[kind]()
    seen = turn(start, own)
    start.setflags(write=False)
    own.setflags(write=False)
    target = payload.target(start, payload.extract(seen))
    assert np.allclose(target, own, rtol=1e-12, atol=1e-9)
    half = payload.target(start, payload.scaled(payload.extract(seen), start, 0.5))
    assert np.allclose(half, (start + own) / 2, rtol=1e-12, atol=1e-9)
    assert payload.parts(("actor", "critic")) == ("actor", "critic")


def test_delta_is_the_change_and_parameters_are_the_thing_itself():
    start, own = np.array([1.0, 2.0]), np.array([4.0, 0.0])
    assert PAYLOADS["delta"]().extract(turn(start, own)).tolist() == [3.0, -2.0]
    assert PAYLOADS["parameters"]().extract(turn(start, own)) is own


@pytest.mark.parametrize("kind", COMPRESSORS)
@given(vector=sized, data=st.data())
def test_what_is_encoded_is_decoded_to_what_the_sender_knows_that_receivers_know(
    kind, vector, data
):
    rule = COMPRESSORS[kind]()
    size, dtype = len(vector), vector.dtype
    state, fits = rule.init(np.zeros_like(vector)), rule.limit(size, dtype.itemsize)
    known = None
    for count in range(3):
        sent = vector * dtype.type(1 + count)
        before = sent.copy()
        made = rule.encode(sent, turn(vector, vector, count), state)
        state = made.state
        raw = made.data.tobytes()
        assert np.array_equal(sent, before)
        assert len(raw) <= fits
        decoded = rule.decode(memoryview(raw), size, dtype.newbyteorder("<"))
        if rule.is_difference:
            decoded, known = rule.receive(Sent(decoded, rule.encoding), known)
        assert decoded.dtype == dtype
        assert made.known.dtype == dtype
        assert decoded.tobytes() == made.known.tobytes()
        if Need.EXACT_MESSAGES not in rule.breaks:
            assert np.array_equal(decoded, sent)


class Sent:
    """What receivers read of a message."""

    def __init__(self, payload, encoding):
        self.payload, self.encoding = payload, encoding


@pytest.mark.parametrize("kind", [kind for kind in COMPRESSORS if kind != "none"])
@given(data=st.data(), size=st.integers(1, 30), dtype=st.sampled_from(["<f4", "<f8"]))
def test_bytes_that_are_no_vector_are_refused_and_never_crash(kind, data, size, dtype):
    rule, dtype = COMPRESSORS[kind](), np.dtype(dtype)
    vector = np.linspace(-2.0, 1.0, size).astype(dtype)
    good = rule.encode(vector, turn(vector, vector), rule.init(vector)).data.tobytes()
    change = data.draw(st.sampled_from(["bits", "cut", "longer", "random"]))
    if change == "bits":
        bad = bytearray(good)
        for _ in range(data.draw(st.integers(1, 4))):
            bad[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    elif change == "cut":
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    elif change == "longer":
        bad = good + data.draw(st.binary(min_size=1, max_size=9))
    else:
        bad = data.draw(st.binary(max_size=rule.limit(size, dtype.itemsize) + 8))
    try:
        decoded = rule.decode(memoryview(bytes(bad)), size, dtype)
    except WireError:
        return
    assert change in ("bits", "random")
    assert len(decoded) == size + 3 * rule.is_difference
    assert decoded.dtype == dtype


def test_rules_named_none_change_nothing():
    vector = np.arange(5.0)
    seen = turn(vector, vector)
    assert GATES["none"]().decide(vector, seen, ()) == (True, ())
    assert PRIVACY["none"]().release(vector) is vector
    made = COMPRESSORS["none"]().encode(vector, seen, ())
    assert made.data is made.known is vector
    assert COMPRESSORS["none"].encoding == "raw"


@pytest.mark.parametrize("kind", GATES)
@given(own=st.lists(vectors, min_size=1, max_size=5))
def test_gates_write_to_nothing_they_see_and_go_by_it_alone(kind, own):
    rule = GATES[kind](**OPTIONS.get(kind, {}))
    start = np.zeros(6)
    states = [rule.init(start), rule.init(start)]
    for count, vector in enumerate(own):
        before = vector.copy()
        (first, states[0]), (second, states[1]) = (
            rule.decide(vector, turn(start, vector, count), s) for s in states
        )
        assert first is second
        assert np.array_equal(vector, before)
        vector[:] = np.nan  # what is remembered is remembered apart
        vector[:] = before


@pytest.mark.parametrize("rules", [PAYLOADS, COMPRESSORS, GATES, PRIVACY])
def test_rules_of_equal_options_are_equal_and_frozen(rules):
    for kind, cls in rules.items():
        made = cls(**OPTIONS.get(kind, {}))
        assert made == cls(**OPTIONS.get(kind, {}))
        with pytest.raises(AttributeError):
            made.anything = 1
