import numpy as np
import pytest

from p2pfrl.core.parameters import Layout, Tensor
from p2pfrl.learning.learners.base import Traits
from p2pfrl.learning.model import Model
from p2pfrl.learning.trainer import Trainer

LAYOUT = Layout((Tensor("actor.w", (3,)), Tensor("critic.w", (2,))), "float64")


class Stack:
    """Parameters and two moments of three agents, all different; nothing learns."""

    layout = LAYOUT
    traits = Traits(
        layout=LAYOUT, min_steps=1, chunk=4, moments=("m", "v"), squares=("v",), counts=("t",)
    )

    def start(self, agents, *, same):
        rows = LAYOUT.zeros(len(agents))
        LAYOUT.unpack(np.array([[100.0 * a + k for k in range(5)] for a in agents]), rows)
        return rows

    def common_start(self):
        return self.start([0], same=True)

    def init(self, agents):
        rows = self.start(agents, same=False)
        return {
            "m": rows + 0.25,
            "v": rows + 0.5,
            "t": np.array([float(a + 1) for a in agents]),
            "env": rows.copy(),
        }


def trainer():
    return Trainer(Stack(), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "expected"), [(("actor",), [100, 101, 102]), (("critic",), [103, 104])]
)
def test_only_what_is_shared_travels_and_the_rest_stays(parts, expected):
    t = trainer()
    m = Model(t, 1, parts=parts, moments="keep")
    assert m.size == len(expected)
    assert m.shared().tolist() == expected
    before = m.parameters()
    m.replace(np.full(m.size, -1.0))
    after = m.parameters()
    assert (after == -1.0).sum() == m.size
    assert np.array_equal(after[after != -1.0], before[after != -1.0])
    assert np.array_equal(t.parameters[[0, 2]], trainer().parameters[[0, 2]])
    assert all(np.array_equal(t.state[name], trainer().state[name]) for name in t.state)


def test_what_is_shared_is_a_copy():
    t = trainer()
    m = Model(t, 0, parts=("actor", "critic"), moments="keep")
    vector = m.shared()
    vector += 1.0
    assert m.shared().tolist() == [0, 1, 2, 3, 4]
    m.replace(vector)
    vector += 1.0
    assert m.shared().tolist() == [1, 2, 3, 4, 5]


def test_averaged_moments_travel_behind_the_parameters_and_come_back():
    t = trainer()
    m = Model(t, 2, parts=("critic",), moments="average")
    assert m.size == 6
    assert m.shared().tolist() == [203, 204, 203.25, 204.25, 203.5, 204.5]
    m.replace(np.arange(6.0))
    assert m.shared().tolist() == [0, 1, 2, 3, 4, 5]
    assert LAYOUT.pack(t.state["m"][2], ("actor",)).tolist() == [200.25, 201.25, 202.25]
    assert t.state["t"].tolist() == [1.0, 2.0, 3.0]
    assert m.first(t.stack).tolist() == [3, 4, 0, 0, 0, 0]


def test_a_second_moment_is_never_negative_and_a_first_one_may_be():
    t = trainer()
    m = Model(t, 2, parts=("critic",), moments="average")
    m.replace(-np.ones(6))
    assert m.shared().tolist() == [-1, -1, -1, -1, 0, 0]


def test_reset_moments_start_from_zero_after_every_mixing():
    t = trainer()
    m = Model(t, 1, parts=("actor",), moments="reset")
    assert m.size == 3
    m.replace(np.zeros(3))
    assert not t.state["m"][1].any()
    assert not t.state["v"][1].any()
    assert t.state["t"].tolist() == [1.0, 0.0, 3.0]
    assert t.state["m"][0].any()
    assert t.state["env"][1].any()
