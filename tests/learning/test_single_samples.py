"""Groups of one sample are not normalized, or the actor would never learn."""

import numpy as np
import pytest

import p2pfrl

TEXT = """name = "single"
agents = 2
mode = "independent"
stop = {rounds = 3}
environment = {id = "cartpole", instances = 1}
evaluation = {episodes = 0}
"""


@pytest.mark.parametrize(
    "learner",
    [
        {"kind": "ppo", "steps": 4, "num_minibatches": 4},
        {"kind": "ppo", "steps": 1, "num_minibatches": 1},
        {"kind": "a2c", "steps": 1, "norm_adv": True},
        {"kind": "reinforce", "steps": 1, "norm_adv": True},
        {"kind": "deep_npg", "steps": 1},
    ],
)
def test_the_actor_learns_from_a_single_advantage(learner: dict[str, object]) -> None:
    start = p2pfrl.run(p2pfrl.loads(TEXT, {"learner": {**learner, "lr": 0.0}})).parameters
    after = p2pfrl.run(p2pfrl.loads(TEXT, {"learner": {"ent_coef": 0.0, **learner}}))
    names = [name for name, _ in after.layout]
    sizes = [int(np.prod(shape)) for _, shape in after.layout]
    ends = np.cumsum(sizes)
    for name, size, end in zip(names, sizes, ends, strict=True):
        if name.startswith("actor"):
            assert (after.parameters[:, end - size : end] != start[:, end - size : end]).any(), name
