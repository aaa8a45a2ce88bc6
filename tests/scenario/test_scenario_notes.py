"""Keys that a mode has no use for are named, and what gives experience away is said."""

import pytest

from p2pfrl.core.options import construct
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.checks.notes import notes

SERVER, SGD = {"kind": "normalized_momentum", "lr": 0.1, "alpha": 0.2}, {"kind": "sgd", "lr": 0.1}
GRADIENTS = {
    "mode": "central",
    "exchange": {"payload": "gradient"},
    "learner": {"kind": "quadratic"},
}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, []),
        (
            {"mode": "central", "mixing": {"kind": "laplacian"}},
            ["in mode 'central' without effect: mixing"],
        ),
        (
            {"mode": "central", "topology": {"kind": "star"}},
            ["in mode 'central' without effect: topology"],
        ),
        (
            {
                "mode": "central",
                "topology": {"kind": "random_geometric"},
                "network": {"latency": {"kind": "edge"}},
            },
            [],
        ),
        ({"coordinator": {"at": 1}}, ["in mode 'gossip' without effect: coordinator"]),
        (
            {
                "mode": "independent",
                "compressor": {"kind": "topk", "fraction": 0.5},
                "network": {"loss": 0.1},
            },
            ["in mode 'independent' without effect: compressor, network"],
        ),
        (
            {"mode": "pooled", "coordinator": {"server_optimizer": {"kind": "sgd", "lr": 0.1}}},
            ["in mode 'pooled' without effect: coordinator.server_optimizer"],
        ),
        (GRADIENTS, []),
        (
            {**GRADIENTS, "learner": {"kind": "quadratic", "lr": 0.3}},
            [
                "with payload 'gradient' without effect: learner.lr; coordinator.server_optimizer takes the step"
            ],
        ),
        (
            {
                **GRADIENTS,
                "correction": {"kind": "lookahead", "alpha": 0.3},
                "coordinator": {"server_optimizer": SERVER},
            },
            [
                "correction 'lookahead' assumes a server optimizer of alpha = 0.3; 'normalized_momentum' has 0.2"
            ],
        ),
        (
            {
                **GRADIENTS,
                "correction": {"kind": "lookahead"},
                "coordinator": {"server_optimizer": SERVER},
            },
            [],
        ),
        ({**GRADIENTS, "correction": {"kind": "lookahead", "alpha": 1.0}}, []),
        (
            {
                **GRADIENTS,
                "correction": {"kind": "lookahead"},
                "coordinator": {"server_optimizer": SGD},
            },
            [
                "correction 'lookahead' assumes a server optimizer of alpha = 0.2; 'sgd' has no such option"
            ],
        ),
        (
            {"exchange": {"payload": "transitions"}, "learner": {"kind": "dqn"}},
            ["payload 'transitions' shares raw experience"],
        ),
        (
            {"correction": {"kind": "prox"}, "learner": {"kind": "a2c"}},
            [
                "correction 'prox' has no effect on the first gradient step of a round, and a round has only one: set "
                "schedule.every = 5, or more steps per update"
            ],
        ),
        (
            {"correction": {"kind": "prox"}, "learner": {"kind": "reinforce"}},
            [
                "correction 'prox' has no effect on the first gradient step of a round, and a round has only one: set "
                "schedule.every = 5, or more steps per update"
            ],
        ),
        (
            {"correction": {"kind": "prox"}, "learner": {"kind": "deep_npg"}},
            [
                "correction 'prox' has no effect on the first gradient step of a round, and a round has only one: set "
                "schedule.every = 5, or more steps per update"
            ],
        ),
        (
            {"correction": {"kind": "guide"}, "learner": {"kind": "a2c"}},
            [
                "correction 'guide' has no effect on the first gradient step of a round, and a round has only one: set "
                "schedule.every = 5, or more steps per update"
            ],
        ),
        (
            {
                "learner": {"kind": "a2c", "episodes": 2, "steps": 9},
                "environment": {"id": "CartPole-v1", "instances": 1},
            },
            ["with learner.episodes = 2 without effect: learner.steps = 9"],
        ),
        ({"correction": {"kind": "prox"}}, []),
        ({"correction": {"kind": "prox"}, "learner": {"kind": "dqn"}}, []),
        (
            {
                "correction": {"kind": "prox"},
                "learner": {"kind": "ppo", "update_epochs": 1, "num_minibatches": 1},
                "schedule": {"every": 2},
            },
            [],
        ),
        (
            {
                "correction": {"kind": "prox"},
                "learner": {"kind": "quadratic", "steps": 2},
                "environment": None,
            },
            [],
        ),
        ({"correction": {"kind": "storm"}, "learner": {"kind": "a2c"}}, []),
    ],
)
def test_keys_without_effect_are_named(settings, said):
    plain = {"name": "here", "agents": 4, "stop": {"rounds": 1}, "learner": {"kind": "ppo"}}
    plain["environment"] = {"id": "CartPole-v1"}
    assert [*notes(construct(Scenario, {**plain, **settings}))] == said
