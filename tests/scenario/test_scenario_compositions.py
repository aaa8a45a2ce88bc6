"""Rules of different axes that exclude each other are refused, each with its reason.

Rules that fit together run.
"""

import pytest

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.needs import Need
from p2pfrl.laws.runs import play, text
from p2pfrl.scenario import loads

PPO = {"learner": {"kind": "ppo"}, "environment": {"id": "CartPole-v1"}}
A2C = {"learner": {"kind": "a2c"}, "environment": {"id": "CartPole-v1"}}
CARTPOLE = {"environment": A2C["environment"]}
TOPK = {"kind": "topk"}
DIFFERENCE = {"kind": "difference", "compressor": TOPK}
CRASH = ({"kind": "crash", "at": 1.0, "agents": [1]},)
COUNTS = {
    "mode": "central",
    "exchange": {"payload": "statistics"},
    "coordinator": {"aggregator": {"kind": "optimistic"}},
    "learner": {"kind": "ucbvi"},
    "environment": {"id": "garnet"},
}

NOISE = {"clip": 1.0, "noise_multiplier": 1.0}
CLIPPED = {"exchange": {"payload": "delta"}, "privacy": {"kind": "clip_noise", **NOISE}}
REFUSED = {
    "a larger batch of episodes for updates of steps": (
        {
            "environment": A2C["environment"],
            "learner": {"kind": "reinforce"},
            "correction": {"kind": "page", "fresh": 8},
        },
        "correction",
        "whole episodes",
    ),
    "gradients between neighbors": (
        {"exchange": {"payload": "gradient"}},
        "exchange.payload",
        "mode gossip",
    ),
    "gradients after several updates": (
        {"mode": "central", "exchange": {"payload": "gradient"}, "schedule": {"every": 2}},
        "schedule.every",
        "of one local update",
    ),
    "the gradient of a learner that takes many steps": (
        {"mode": "central", "exchange": {"payload": "gradient"}, **PPO},
        "exchange.payload",
        "one step",
    ),
    "averaged moments that no agent has": (
        {
            "mode": "central",
            "exchange": {"payload": "gradient"},
            "environment": A2C["environment"],
            "learner": {"kind": "a2c", "moments": "average"},
        },
        "learner.moments",
        "moments",
    ),
    "a gate that waits for returns where no episode ends": (
        {"gate": {"kind": "performance", "threshold": 1.0}},
        "gate.kind",
        "plays no episodes",
    ),
    "a gate that waits for a return where no episode ends": (
        {"gate": {"kind": "reached", "value": 1.0}},
        "gate.kind",
        "plays no episodes",
    ),
    "a gate that may keep all agents silent where they do not wait": (
        {
            "mode": "central",
            "schedule": {"kind": "asynchronous"},
            "gate": {"kind": "reached", "value": 1.0},
            "learner": {"kind": "a2c"},
            **CARTPOLE,
        },
        "gate.kind",
        "set stop.virtual_time",
    ),
    "weights by returns where no episode ends": (
        {"mode": "central", "coordinator": {"aggregator": {"kind": "mean", "weights": "rank"}}},
        "coordinator.aggregator",
        "plays no episodes",
    ),
    "weights by their variance where no episode ends": (
        {
            "mode": "central",
            "coordinator": {"aggregator": {"kind": "mean", "weights": "inverse_variance"}},
            "learner": {"kind": "td"},
            "environment": {"id": "garnet"},
        },
        "coordinator.aggregator",
        "plays no episodes",
    ),
    "the worst by a return that nobody has": (
        {
            "mode": "central",
            "coordinator": {"participation": {"kind": "power_of_choice", "by": "return"}},
        },
        "coordinator.participation",
        "plays no episodes",
    ),
    "an age limit where nothing old is used": (
        {"mode": "central", "schedule": {"max_staleness": 3}},
        "schedule.max_staleness",
        "leave it out",
    ),
    "a step size of a learner that takes no steps": (
        {
            "mode": "central",
            "exchange": {"payload": "statistics"},
            "coordinator": {"aggregator": {"kind": "optimistic"}},
            "gate": {"kind": "news"},
            "learner": {"kind": "ucbvi", "lr": 0.5},
            "environment": {"id": "garnet"},
        },
        "learner.lr",
        "leave it out",
    ),
    "control variates between neighbors": (
        {"correction": {"kind": "control_variate"}},
        "correction",
        "mode central",
    ),
    "control variates for a learner with momentum": (
        {"mode": "central", "correction": {"kind": "control_variate"}, **A2C},
        "correction",
        "plain gradient descent",
    ),
    "control variates that are compressed": (
        {
            "mode": "central",
            "correction": {"kind": "control_variate"},
            "compressor": {"kind": "qsgd"},
        },
        "compressor",
        "exactly as they were sent",
    ),
    "residual variates without rounds": (
        {
            "mode": "central",
            "correction": {"kind": "residual_variate"},
            "schedule": {"kind": "asynchronous"},
        },
        "schedule.kind",
        "to a model in the next one",
    ),
    "residual variates of agents that are not always asked": (
        {
            "mode": "central",
            "correction": {"kind": "residual_variate"},
            "coordinator": {"participation": {"kind": "uniform"}},
        },
        "coordinator.participation",
        "does not ask all agents",
    ),
    "control variates of agents that take no step": (
        {
            "mode": "central",
            "correction": {"kind": "control_variate"},
            "exchange": {"payload": "gradient"},
        },
        "correction",
        "plain gradient descent",
    ),
    "pairs in rounds": ({"mixing": {"kind": "pairwise"}}, "schedule.kind", "has no rounds"),
    "pairs of compressed vectors": (
        {
            "mixing": {"kind": "pairwise"},
            "schedule": {"kind": "asynchronous"},
            "compressor": {"kind": "qsgd"},
        },
        "compressor",
        "exactly as they were sent",
    ),
    "gradient tracking over lossy links": (
        {"mixing": {"kind": "gradient_tracking"}, "network": {"loss": 0.1}},
        "network.loss",
        "needs every message",
    ),
    "EXTRA over lossy links": (
        {"mixing": {"kind": "extra"}, "network": {"loss": 0.1}},
        "network.loss",
        "every message",
    ),
    "EXTRA without rounds": (
        {"mixing": {"kind": "extra"}, "schedule": {"kind": "asynchronous"}},
        "schedule.kind",
        "in its round",
    ),
    "EXTRA with agents that sit out": (
        {"mixing": {"kind": "extra"}, "availability": {"dropout": 0.1}},
        "availability",
        "agents may be absent; remove it",
    ),
    "EXTRA with a closed gate": (
        {"mixing": {"kind": "extra"}, "gate": {"kind": "every", "tau": 2}},
        "gate",
        "closed gate",
    ),
    "EXTRA with its own order": (
        {"mixing": {"kind": "extra"}, "exchange": {"order": "combine_while_adapting"}},
        "exchange.order",
        "has an order of its own",
    ),
    "Chebyshev on a directed graph": (
        {"mixing": {"kind": "chebyshev"}, "topology": {"kind": "exponential"}},
        "mixing",
        "undirected",
    ),
    "Chebyshev on a graph that changes": (
        {"mixing": {"kind": "chebyshev"}, "topology": {"kind": "random_matchings"}},
        "topology.kind",
        "changes",
    ),
    "Metropolis weights on a directed graph": (
        {"topology": {"kind": "exponential"}},
        "mixing",
        "undirected",
    ),
    "push-sum of compressed sums": (
        {"mixing": {"kind": "push_sum"}, "compressor": {"kind": "qsgd"}},
        "compressor",
        "exactly as they were sent",
    ),
    "push-sum with receivers' memory": (
        {"mixing": {"kind": "push_sum"}, "compressor": DIFFERENCE},
        "compressor",
        "exactly as they were sent",
    ),
    "push-sum whose agents take their mass away": (
        {"mixing": {"kind": "push_sum"}, "faults": [{"at": "1s", "kind": "leave", "agents": [0]}]},
        "faults.0",
        "the mass that every agent holds",
    ),
    "top-k of parameters": ({"compressor": TOPK}, "compressor", "too little of the parameters"),
    "top-k of a model, centrally": (
        {"mode": "central", "compressor": TOPK},
        "compressor",
        "payload = 'delta'",
    ),
    "CHOCO without memory": (
        {"mixing": {"kind": "choco"}, "compressor": {"kind": "qsgd"}},
        "compressor.kind",
        "difference",
    ),
    "CHOCO without rounds": (
        {
            "mixing": {"kind": "choco"},
            "compressor": DIFFERENCE,
            "schedule": {"kind": "asynchronous"},
        },
        "schedule.kind",
        "needs every message",
    ),
    "differences over lossy links": (
        {"compressor": DIFFERENCE, "network": {"loss": 0.2}},
        "network.loss",
        "cannot recover a missing one",
    ),
    "differences without rounds": (
        {"compressor": DIFFERENCE, "schedule": {"kind": "asynchronous"}},
        "compressor",
        "only the newest",
    ),
    "differences for a coordinator": (
        {"mode": "central", "compressor": DIFFERENCE},
        "compressor",
        "mode gossip",
    ),
    "importance without counts": (
        {"mode": "central", "coordinator": {"aggregator": {"kind": "importance"}}},
        "coordinator.aggregator",
        "table",
    ),
    "two rankings in one message": (
        {
            "mode": "central",
            "coordinator": {
                "aggregator": {"kind": "mean", "weights": "rank"},
                "participation": {"kind": "power_of_choice"},
            },
            **A2C,
        },
        "coordinator.participation",
        "only one",
    ),
    "a look-ahead that comes back within the parameters": (
        {"mode": "central", "correction": {"kind": "lookahead"}},
        "exchange.payload",
        "needs exchange.payload 'gradient' or 'delta'",
    ),
    "gradients taken for places": (
        {"mode": "central", "exchange": {"payload": "gradient"}},
        "coordinator.server_optimizer",
        "use 'sgd'",
    ),
    "push-sum of sums that fade": (
        {"mixing": {"kind": "push_sum"}, "schedule": {"kind": "asynchronous"}},
        "schedule.staleness",
        "in full at any staleness",
    ),
    "second moments that are tracked": (
        {"mixing": {"kind": "extra"}, "learner": {"kind": "a2c", "moments": "average"}, **CARTPOLE},
        "learner.moments",
        "negative",
    ),
    "averaged moments without a barrier": (
        {
            "schedule": {"kind": "asynchronous"},
            "learner": {"kind": "a2c", "moments": "average"},
            **CARTPOLE,
        },
        "learner.moments",
        "agents do not wait",
    ),
    "averaged moments of the agents that were quick": (
        {
            "mode": "central",
            "schedule": {"quorum": 0.5},
            "learner": {"kind": "a2c", "moments": "average"},
            **CARTPOLE,
        },
        "schedule.quorum",
        "stragglers may answer later",
    ),
    "averaged moments that a server optimizer steps beyond": (
        {
            "mode": "central",
            "coordinator": {"server_optimizer": {"kind": "yogi"}},
            "learner": {"kind": "a2c", "moments": "average"},
            **CARTPOLE,
        },
        "learner.moments",
        "takes other steps; use kind = 'replace'",
    ),
    "averaged moments that a compressor rounds": (
        {
            "compressor": {"kind": "quantize"},
            "learner": {"kind": "a2c", "moments": "average"},
            **CARTPOLE,
        },
        "learner.moments",
        "exactly as they were sent",
    ),
    "own control variates around a mean of samples": (
        {
            "mode": "central",
            "correction": {"kind": "residual_variate"},
            "coordinator": {"aggregator": {"kind": "mean", "weights": "samples"}},
        },
        "coordinator.aggregator",
        "plain mean",
    ),
    "own control variates behind a gate": (
        {
            "mode": "central",
            "correction": {"kind": "residual_variate"},
            "gate": {"kind": "every", "tau": 2},
        },
        "gate",
        "closed gate",
    ),
    "own control variates of agents that leave": (
        {
            "mode": "central",
            "correction": {"kind": "residual_variate"},
            "faults": ({"at": "1s", "kind": "leave", "agents": [1]},),
        },
        "faults.0",
        "lack the share",
    ),
    "own control variates of agents that do not come back": (
        {
            "mode": "central",
            "correction": {"kind": "residual_variate"},
            "faults": (
                {"at": "1s", "kind": "crash", "agents": [1, 2]},
                {"at": "2s", "kind": "restart", "agents": [1]},
            ),
        },
        "faults.0",
        "lack the share",
    ),
    "preferred updates where each makes a model": (
        {
            "mode": "central",
            "schedule": {"kind": "asynchronous"},
            "coordinator": {"aggregator": {"kind": "preferred", "by": "loss"}},
        },
        "schedule.kind",
        "use kind = 'buffered' or 'synchronous'",
    ),
    "preferred updates of a buffer of one": (
        {
            "mode": "central",
            "schedule": {"kind": "buffered", "size": 1},
            "coordinator": {"aggregator": {"kind": "preferred", "by": "loss"}},
        },
        "schedule.size",
        "use at least 2",
    ),
    "natural gradients of several models without their policies": (
        {
            "mode": "central",
            "learner": {"kind": "softmax_pg"},
            "environment": {"id": "garnet"},
            "exchange": {"payload": "fisher"},
            "coordinator": {
                "aggregator": {"kind": "natural", "latest": True},
                "server_optimizer": {"kind": "sgd"},
            },
            "schedule": {"kind": "asynchronous"},
        },
        "exchange.payload",
        "'fisher_policy'",
    ),
    "natural gradients without rounds": (
        {
            "mode": "central",
            "learner": {"kind": "softmax_pg"},
            "environment": {"id": "garnet"},
            "exchange": {"payload": "fisher"},
            "coordinator": {"aggregator": {"kind": "natural"}, "server_optimizer": {"kind": "sgd"}},
            "schedule": {"kind": "asynchronous"},
        },
        "schedule.kind",
        "for one model",
    ),
    "natural gradients of stragglers": (
        {
            "mode": "central",
            "learner": {"kind": "softmax_pg"},
            "environment": {"id": "garnet"},
            "exchange": {"payload": "fisher"},
            "coordinator": {"aggregator": {"kind": "natural"}, "server_optimizer": {"kind": "sgd"}},
            "schedule": {"quorum": 0.5},
        },
        "schedule.quorum",
        "for one model",
    ),
    "a mixing rule whose agents leave with what they remember": (
        {
            "mixing": {"kind": "extra"},
            "faults": ({"kind": "leave", "at": 1.0, "agents": [1]},),
        },
        "faults.0",
        "besides their parameters",
    ),
    "control variates without rounds of agents that crash": (
        {
            "mode": "central",
            "correction": {"kind": "control_variate"},
            "schedule": {"kind": "asynchronous"},
            "faults": CRASH,
        },
        "faults.0",
        "may count or not",
    ),
    "transitions for a learner that takes none": (
        {"mode": "pooled", "learner": {"kind": "tabular_q"}, "environment": {"id": "garnet"}},
        "mode",
        "transitions of others",
    ),
    "silence that means no change beside a mean": (
        {
            "mode": "central",
            "exchange": {"payload": "gradient"},
            "gate": {"kind": "lag", "alpha": 0.1},
            "coordinator": {"server_optimizer": {"kind": "sgd", "lr": 0.1}},
        },
        "coordinator.aggregator",
        "use kind = 'latest'",
    ),
    "gradients that only the agent knows": (
        {"mode": "pooled", "learner": {"kind": "quadratic", "steps": 2}},
        "learner.steps",
        "must be 1 in mode pooled, got 2",
    ),
    "a gate that believes lost messages heard": (
        {"gate": {"kind": "norm", "threshold": 0.1}, "network": {"loss": 0.1}},
        "gate.max_silence",
        "lost message",
    ),
    "gates that may all fall silent": (
        {
            "mode": "central",
            "gate": {"kind": "norm", "threshold": 0.1},
            "schedule": {"kind": "asynchronous"},
        },
        "gate.max_silence",
        "no update would arrive",
    ),
    "differences between changing neighbors": (
        {"compressor": DIFFERENCE, "topology": {"kind": "random_matchings"}},
        "topology.kind",
        "changes",
    ),
    "a sum of parameters": (
        {"mode": "central", "coordinator": {"aggregator": {"kind": "latest", "reduce": "sum"}}},
        "coordinator.aggregator",
        "no model",
    ),
    "a step toward chances": (
        {
            "mode": "central",
            "exchange": {"payload": "logits"},
            "coordinator": {"server_optimizer": {"kind": "adam"}},
            "learner": {"kind": "a2c", "distill": {"coef": 1.0}},
            **CARTPOLE,
        },
        "coordinator.server_optimizer",
        "moves to its target",
    ),
    "a few of all chances": (
        {
            "exchange": {"payload": "logits"},
            "compressor": TOPK,
            "learner": {"kind": "a2c", "distill": {"coef": 1.0}},
            **CARTPOLE,
        },
        "compressor",
        "all numbers of a message",
    ),
    "an order without rounds": (
        {
            "exchange": {"order": "combine_while_adapting"},
            "schedule": {"kind": "asynchronous"},
        },
        "schedule.kind",
        "needs a synchronous schedule",
    ),
    "losses that both ends share, with a crash": (
        {"mixing": {"on_loss": "symmetric"}, "faults": CRASH},
        "faults.0",
        "both ends of a link",
    ),
    "pairs behind a gate": (
        {
            "mixing": {"kind": "pairwise"},
            "schedule": {"kind": "asynchronous"},
            "gate": {"kind": "every", "tau": 2},
        },
        "gate",
        "completely or not at all",
    ),
    "pairs of an age": (
        {
            "mixing": {"kind": "pairwise"},
            "schedule": {"kind": "asynchronous", "max_staleness": 3},
        },
        "schedule.max_staleness",
        "completely or not at all",
    ),
    "parts of parameters that do not travel": (
        {
            "exchange": {"payload": "logits", "shared": ("actor",)},
            "learner": {"kind": "a2c", "distill": {"coef": 1.0}},
            **CARTPOLE,
        },
        "exchange.shared",
        "needs parameters that travel",
    ),
    "a corrected model of counts": (
        {**COUNTS, "correction": {"kind": "lookahead"}},
        "correction",
        "without correction",
    ),
    "a model of counts half the way": (
        {
            **COUNTS,
            "coordinator": {
                "aggregator": {"kind": "optimistic"},
                "server_optimizer": {"kind": "adam"},
            },
        },
        "coordinator.server_optimizer",
        "moves to its target",
    ),
    "the gradient of a learner that has none": (
        {
            "mode": "central",
            "exchange": {"payload": "gradient"},
            "learner": {"kind": "tabular_q"},
            "environment": {"id": "garnet"},
        },
        "exchange.payload",
        "a learner that gives its gradient",
    ),
    "a correction of gradients that are not taken": (
        {
            "correction": {"kind": "prox"},
            "learner": {"kind": "tabular_q"},
            "environment": {"id": "garnet"},
        },
        "correction",
        "a learner that takes gradient steps",
    ),
    "a guide of a learner without a policy": (
        {"correction": {"kind": "guide"}},
        "correction",
        "use ppo, a2c or reinforce",
    ),
    "a buffer that nobody holds": (
        {"schedule": {"kind": "buffered"}},
        "schedule.kind",
        "needs a coordinator",
    ),
    "noise on parameters, which have no bound": (
        {"mode": "central", "privacy": {"kind": "clip_noise", **NOISE}},
        "exchange.payload",
        "releases whose size can be bounded",
    ),
    "weights by steps, which noise keeps in": (
        {"mode": "central", **CLIPPED, "coordinator": {"aggregator": {"weights": "samples"}}},
        "privacy.kind",
        "the number of steps of every agent",
    ),
    "scores beside noise, which keeps them in": (
        {"mode": "central", **CLIPPED, "coordinator": {"participation": {"kind": "weighted"}}},
        "privacy.kind",
        "in the clear",
    ),
    "a median of vectors of which only the sum is known": (
        {
            "mode": "central",
            "secure": {"kind": "secure_aggregation"},
            "coordinator": {"aggregator": {"kind": "median"}},
        },
        "secure.kind",
        "the vector of every agent, not their sum alone",
    ),
    "a control variate beside a noised mean": (
        {
            "mode": "central",
            "exchange": {"payload": "delta"},
            "privacy": {"kind": "central_noise", **NOISE},
            "correction": {"kind": "control_variate"},
        },
        "privacy.kind",
        "vectors that travel beside the payload",
    ),
    "compressed vectors in a sum": (
        {
            "mode": "central",
            "secure": {"kind": "secure_aggregation"},
            "exchange": {"payload": "delta"},
            "compressor": {"kind": "qsgd"},
        },
        "compressor",
        "encoded vectors that add up without being opened",
    ),
    "an unknown payload": (
        {"exchange": {"payload": "gradients"}},
        "exchange.payload",
        "did you mean 'gradient'?",
    ),
}


def problems(tables):
    with pytest.raises(ScenarioError) as caught:
        loads(text(4, 3, **tables))
    return caught.value.problems


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_its_place_and_a_reason(name):
    tables, place, reason = REFUSED[name]
    said = problems(tables)
    assert any(f" {place}" in problem and reason in problem for problem in said), said


def test_every_need_is_refused_by_some_combination_above():
    said = [problem for tables, *_ in REFUSED.values() for problem in problems(tables)]
    missing = [need.name for need in Need if not any(need.value in problem for problem in said)]
    assert not missing


TOGETHER = {
    "SCAFFOLD with partial participation": {
        "mode": "central",
        "correction": {"kind": "control_variate"},
        "coordinator": {"participation": {"kind": "uniform", "fraction": 0.5}},
    },
    "top-k of changes with error feedback": {
        "mode": "central",
        "exchange": {"payload": "delta"},
        "compressor": {"kind": "error_feedback", "compressor": TOPK},
    },
    "push-sum over lossy directed links": {
        "mixing": {"kind": "push_sum"},
        "topology": {"kind": "exponential"},
        "network": {"loss": 0.2},
    },
    "push-sum without rounds": {
        "mixing": {"kind": "push_sum"},
        "schedule": {"kind": "asynchronous", "staleness": {"kind": "constant"}},
    },
    "CHOCO": {"mixing": {"kind": "choco", "gamma": 0.3}, "compressor": DIFFERENCE},
    "gradients and Adam at the coordinator, without rounds": {
        "mode": "central",
        "exchange": {"payload": "gradient"},
        "schedule": {"kind": "asynchronous"},
        "coordinator": {"server_optimizer": {"kind": "adam"}},
    },
    "proximal terms between neighbors": {"correction": {"kind": "prox", "mu": 0.1}},
    "tracking of variance-reduced gradients": {
        "mixing": {"kind": "gradient_tracking"},
        "correction": {"kind": "storm"},
    },
}


@pytest.mark.parametrize("name", TOGETHER)
def test_it_runs(name):
    record = play(4, 3, **TOGETHER[name])
    assert record.summary["rounds"] == 3
    assert record.metrics["error"][-1] < 1e3
