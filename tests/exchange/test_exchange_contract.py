"""Laws of what leaves an agent, over every member of every axis of the room."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from p2pfrl.exchange.compressors import RULES as COMPRESSORS
from p2pfrl.exchange.gates import RULES as GATES
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.exchange.privacy import RULES as PRIVACY

vectors = arrays(np.float64, 6, elements=st.floats(-1e6, 1e6))


@pytest.mark.parametrize("kind", PAYLOADS)
@given(start=vectors, own=vectors)
def test_one_agent_s_payload_leads_a_coordinator_at_its_start_to_where_the_agent_is(kind, start, own):
    payload = PAYLOADS[kind]()
    start.setflags(write=False)
    own.setflags(write=False)
    target = payload.target(start, payload.extract(start, own))
    assert np.allclose(target, own, rtol=1e-12, atol=1e-9)
    assert payload.parts(("actor", "critic")) == ("actor", "critic")


def test_delta_is_the_change_and_parameters_are_the_thing_itself():
    start, own = np.array([1.0, 2.0]), np.array([4.0, 0.0])
    assert PAYLOADS["delta"]().extract(start, own).tolist() == [3.0, -2.0]
    assert PAYLOADS["parameters"]().extract(start, own) is own


@pytest.mark.parametrize("kind", COMPRESSORS)
@given(vector=vectors)
def test_what_is_compressed_is_decompressed(kind, vector):
    rule = COMPRESSORS[kind]()
    before = vector.copy()
    encoding, sent = rule.encode(vector)
    assert isinstance(encoding, str)
    assert np.array_equal(vector, before)
    if encoding == "raw":
        assert np.array_equal(rule.decode(sent), vector)


def test_rules_named_none_change_nothing():
    vector = np.arange(5.0)
    assert GATES["none"]().is_open(vector)
    assert PRIVACY["none"]().release(vector) is vector
    assert COMPRESSORS["none"]().encode(vector) == ("raw", vector)


@pytest.mark.parametrize("rules", [PAYLOADS, COMPRESSORS, GATES, PRIVACY])
def test_rules_of_equal_options_are_equal_and_frozen(rules):
    for cls in rules.values():
        assert cls() == cls()
        with pytest.raises(AttributeError):
            cls().anything = 1
