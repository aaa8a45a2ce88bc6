"""State as a value: what is written is what is read, and what is damaged is refused by name."""

import tracemalloc
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strings import strings

from p2pfrl.core.errors import RecordError
from p2pfrl.core.state import Stateful, pack, read, unpack, write
from p2pfrl.core.types import Expired, Message, Received, Trained, Update
from p2pfrl.core.wire import Decoder, Encoder

FACTS = {"scenario": "abc"}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | strings(5)
    | st.binary(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.integers(-5, 5) | strings(3) | st.tuples(st.integers(0, 3)), inner)
    ),
    max_leaves=12,
)


def through(path: Path, value: object) -> object:
    write(path, {"value": value}, FACTS)
    return read(path, FACTS)["value"]


@given(value=VALUES)
def test_any_plain_value_comes_back_equal_and_of_the_same_types(tmp_path_factory, value):
    found = through(tmp_path_factory.mktemp("state") / "s", value)
    assert repr(found) == repr(value)


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<i8", "u1", "?", "<u4"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_arrays_come_back_with_shape_and_dtype(tmp_path, dtype, shape):
    array = np.ones(shape, dtype)
    found = through(tmp_path / "s", array)
    assert found.shape == shape
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_messages_events_and_frames_come_back_and_what_was_shared_is_shared(tmp_path):
    vector = np.arange(3.0)
    frame = Encoder("run", 1).encode(vector, kind="update", round=4, parts=("p",))
    decoder = Decoder("run", agents=2, parts=("p",), size=3, dtype="float64")
    message = decoder.receive(frame).message
    events = [Received(message, again=True), Trained(Update(0, 5, 0.5, (1.0,))), Expired(7)]
    found = through(tmp_path / "s", {"frames": (frame, frame), "events": events})
    one, other = found["frames"]
    assert one is other
    assert bytes(one.head) == frame.head
    assert bytes(one.payload) == bytes(frame.payload)
    received, trained, expired = found["events"]
    assert received.again
    assert received.message is one.message
    assert asdict(trained) == asdict(events[1])
    assert expired.deadline == 7
    np.testing.assert_array_equal(received.message.payload, vector)
    assert isinstance(received.message, Message)


def test_large_dicts_come_back_equal_and_take_16_bytes_an_entry(tmp_path):
    message = Expired(7)
    wide = {
        "numbers": {k: k * k - 5 for k in range(-20, 900)},
        "events": {k: message if k % 3 else None for k in range(900)},
        "nothing": dict.fromkeys(range(900)),
        "mixed": {k: k if k % 2 else None for k in range(40)},
        "truths": {k: k % 2 == 0 for k in range(40)},
        "huge": {k: 2**70 + k for k in range(40)},
        "far": {2**70 + k: k for k in range(40)},
        "names": {str(k): k for k in range(40)},
        "floats": {k: float(k) for k in range(40)},
    }
    found = through(tmp_path / "s", wide)
    events = found["events"]
    assert list(events) == list(range(900))
    assert events[0] is None
    assert events[1] is events[2]
    assert events[1].deadline == 7
    assert repr({**found, "events": {}}) == repr({**wide, "events": {}})
    text, arrays = pack({"wide": [wide["events"]] * 100})
    assert len(text) < 5000
    assert sum(array.nbytes for array in arrays) == 100 * 900 * 16


@pytest.mark.parametrize("at", [0, 9, 100, -20, -1])
def test_a_damaged_file_is_refused_by_name(tmp_path, at):
    path = tmp_path / "s"
    write(path, {"x": np.arange(8.0), "y": (1, 2)}, FACTS)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(RecordError, match=str(path)):
        read(path, FACTS)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, b"\x80\x04K\x01."])
def test_what_is_no_state_is_refused_by_name(tmp_path, content):
    path = tmp_path / "s"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=str(path)):
        read(path, FACTS)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "s"
    write(path, {"x": np.arange(64.0)}, FACTS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RecordError, match="not a saved state"):
        read(path, FACTS)


def test_a_state_of_something_else_is_refused_with_both_values(tmp_path):
    write(tmp_path / "s", {}, FACTS)
    with pytest.raises(RecordError, match="scenario: expected other, got abc"):
        read(tmp_path / "s", {"scenario": "other"})


class Counter(Stateful):
    STATE = ("seen",)

    def __init__(self) -> None:
        self.seen: dict[int, list[int]] = {}


def test_a_saved_state_does_not_change_with_its_object_nor_the_object_with_it():
    counter, other = Counter(), Counter()
    counter.seen[1] = [2]
    saved = counter.save()
    counter.seen[1].append(3)
    assert saved == {"seen": {1: [2]}}
    other.restore(saved)
    other.seen[1].append(4)
    assert saved == {"seen": {1: [2]}}


def test_a_state_of_another_version_is_refused_by_name() -> None:
    class Counter(Stateful):
        STATE = ("count", "why")

    with pytest.raises(RecordError, match=r"Counter lacks why: another version of p2pfrl"):
        Counter().restore({"count": 1})


def test_what_was_one_object_is_one_object_again_and_is_stored_once_again() -> None:
    shared = np.arange(3.0)
    text, arrays = pack({"model": shared, "before": shared, "bytes": [b"ab", b"ab"]})
    again = unpack(text, arrays)
    assert again["model"] is again["before"]
    assert pack(again)[0] == text


def test_the_header_of_a_file_does_not_grow_with_the_state(tmp_path):
    # safetensors refuses headers of 100 MB: the metadata of a run of 10,000 agents had more.
    write(tmp_path / "s", {"value": list(range(100_000))}, FACTS)
    assert int.from_bytes((tmp_path / "s").read_bytes()[:8], "little") < 1000


def test_writing_a_state_takes_little_memory_beside_it(tmp_path):
    state = {"value": np.ones(4_000_000)}
    tracemalloc.start()
    try:
        write(tmp_path / "large.state", state, FACTS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * 32_000_000, "a copy of 32 MB, or two, would be more"
    assert (read(tmp_path / "large.state", FACTS)["value"] == 1.0).all()
