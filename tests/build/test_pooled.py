"""Mode pooled takes none of the rules that bend, encode or step along parameters."""

import numpy as np
import pytest

from p2pfrl.laws.runs import play

CARTPOLE = {
    "learner": {"kind": "a2c"},
    "environment": {"id": "CartPole-v1"},
    "evaluation": {"episodes": 0},
}
OPTIONS = {
    "a server optimizer": {"coordinator": {"server_optimizer": {"kind": "adam"}}},
    "a gradient": {
        "exchange": {"payload": "gradient"},
        "coordinator": {"server_optimizer": {"kind": "sgd"}},
    },
    "a correction": {"correction": {"kind": "prox", "mu": 0.1}},
    "a compressor": {"compressor": {"kind": "qsgd"}},
    "a part": {"exchange": {"shared": ["critic"]}},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_it_changes_nothing(name):
    plain = play(3, 3, mode="pooled", **CARTPOLE)
    record = play(3, 3, mode="pooled", **{**CARTPOLE, **OPTIONS[name]})
    assert np.array_equal(record.parameters, plain.parameters)
    (section,) = list(OPTIONS[name])[:1]
    assert f"[{section}]" in record.scenario or section in str(record.scenario)


def test_the_pool_reaches_the_optimum_of_all_whatever_the_server_optimizer():
    record = play(
        4,
        300,
        mode="pooled",
        learner={"lr": 0.1},
        coordinator={"server_optimizer": {"kind": "adam"}},
    )
    assert record.metrics["error"][-1] < 1e-10
