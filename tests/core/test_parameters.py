import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.core.parameters import ALIGNMENT, Layout, Tensor, aligned_zeros

LAYOUT = Layout(
    (
        Tensor("actor.w", (4, 5)),
        Tensor("actor.b", (5,)),
        Tensor("critic.w", (3,), aligned=False),
        Tensor("log_std", (2,)),
    )
)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    shapes = draw(
        st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=2), min_size=1, max_size=6)
    )
    tensors = tuple(
        Tensor(f"{draw(st.sampled_from('abc'))}.{i}", tuple(shape), aligned=draw(st.booleans()))
        for i, shape in enumerate(shapes)
    )
    return Layout(tensors, draw(st.sampled_from(["float32", "float64"])))


@given(layouts(), st.integers(1, 3))
def test_every_row_and_every_aligned_tensor_starts_on_64_bytes_and_none_overlap(layout, rows):
    memory = layout.zeros(rows)
    item = memory.itemsize
    taken = np.zeros(layout.stride, dtype=int)
    for tensor, offset in zip(layout.tensors, layout.offsets, strict=True):
        taken[offset : offset + tensor.size] += 1
        for row in range(rows):
            if tensor.aligned:
                assert (memory[row].ctypes.data + offset * item) % ALIGNMENT == 0
    assert taken.max() == 1
    assert taken.sum() == layout.size
    assert layout.stride * item % ALIGNMENT == 0
    assert all(memory[row].ctypes.data % ALIGNMENT == 0 for row in range(rows))


@given(layouts(), st.data())
def test_what_is_packed_is_unpacked_and_other_parts_and_the_padding_stay(layout, data):
    parts = data.draw(st.lists(st.sampled_from(layout.parts), unique=True, min_size=1).map(tuple))
    rows = layout.zeros(2)
    rows[:] = np.arange(rows.size).reshape(rows.shape)
    packed = layout.pack(rows, parts)
    assert packed.shape == (2, sum(t.size for t in layout.tensors if t.part in parts))
    assert not np.shares_memory(packed, rows)
    target = np.full_like(rows, -1.0)
    layout.unpack(packed, target, parts)
    for tensor, offset in zip(layout.tensors, layout.offsets, strict=True):
        where = slice(offset, offset + tensor.size)
        expected = rows[:, where] if tensor.part in parts else -1.0
        assert (target[:, where] == expected).all()
        target[:, where] = -1.0
    assert (target == -1.0).all()


def test_parts_are_named_by_the_text_before_the_first_dot_in_order_of_appearance():
    assert LAYOUT.parts == ("actor", "critic", "log_std")
    assert LAYOUT.size == 30
    assert LAYOUT.offsets == (0, 32, 37, 48)
    assert LAYOUT.stride == 64


def test_neighboring_tensors_travel_as_one_slice():
    assert LAYOUT.slices(("actor", "critic")) == (
        (slice(0, 20), slice(0, 20)),
        (slice(20, 28), slice(32, 40)),
    )
    assert LAYOUT.slices(()) == ()
    assert LAYOUT.pack(LAYOUT.zeros(3), ()).shape == (3, 0)


def test_the_signature_changes_with_names_shapes_and_type():
    others = [
        Layout(LAYOUT.tensors, "float64"),
        Layout(LAYOUT.tensors[:3]),
        Layout((Tensor("actor.w", (5, 4)), *LAYOUT.tensors[1:])),
        Layout((Tensor("actor.v", (4, 5)), *LAYOUT.tensors[1:])),
    ]
    assert len({LAYOUT.signature, *(other.signature for other in others)}) == 5
    assert Layout(LAYOUT.tensors).signature == LAYOUT.signature


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 7), (5, 0, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_aligned_memory_is_zero_aligned_and_writable(shape, dtype):
    array = aligned_zeros(shape, dtype)
    assert array.shape == shape
    assert array.dtype == np.dtype(dtype)
    assert not array.any()
    assert array.ctypes.data % ALIGNMENT == 0 or array.size == 0
    array[...] = 1
