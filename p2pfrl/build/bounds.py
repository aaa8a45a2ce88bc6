"""The terms of convergence bounds, as far as they can be computed for a scenario."""

from __future__ import annotations

import math
from contextlib import closing

import numpy as np

from p2pfrl.consensus.aggregators import RULES as AGGREGATORS
from p2pfrl.consensus.constants import constants, disagreement_bound, local_bias
from p2pfrl.consensus.mixing import MATRICES
from p2pfrl.consensus.mixing.base import Mixing
from p2pfrl.consensus.participation import RULES as PARTICIPATION
from p2pfrl.consensus.server_optimizers import RULES as SERVER_OPTIMIZERS
from p2pfrl.consensus.theory import Prediction
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.exchange.compressors import RULES as COMPRESSORS
from p2pfrl.exchange.gates import RULES as GATES
from p2pfrl.exchange.privacy import RULES as PRIVACY
from p2pfrl.learning.corrections import RULES as CORRECTIONS
from p2pfrl.learning.learners import RULES as LEARNERS
from p2pfrl.learning.learners.base import Stack
from p2pfrl.learning.personal import RULES as PERSONAL
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import learning
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Availability


def bounds(
    scenario: Scenario,
    stack: Stack,
    view: TopologyView | None,
    mixing: Mixing,
    prediction: Prediction | None,
) -> dict[str, float]:
    """Return the terms by name; empty if the learner's problem is not linear, or too large.

    Entries:
        `mu`, `L`, `condition`, `dissimilarity`, `own_optima`: see consensus/constants.py.
        `sigma`: standard deviation of the gradient noise, of the whole vector.
        `spectral_gap`: 1 - |lambda_2|, where agents mix.
        `bias`: how far from the optimum averages of local steps end, where a coordinator averages
            the parameters of all agents and replaces its own by the mean.
        `disagreement`: a bound on the distance between the agents, sqrt(sum_i |x_i - mean|^2),
            where they take one step without noise and mix before it.

    Args:
        scenario: what is run.
        stack: its learner.
        view: the graphs, where agents mix.
        mixing: fitted to the graph.
        prediction: of the mixing.
    """
    field = stack.objective.linear()
    found = None if field is None else constants(*field)
    if field is None or found is None:
        return {}
    A, b = field
    learner = scenario.learner
    terms = {
        "mu": found.mu,
        "L": found.L,
        "condition": found.condition,
        "dissimilarity": found.dissimilarity,
        "own_optima": found.own_optima,
    }
    if noise := getattr(learner, "noise", 0.0):
        terms["sigma"] = noise * math.sqrt(b.shape[1])
    if prediction is not None:
        terms["spectral_gap"] = prediction.spectral_gap
    steps = getattr(learner, "steps", 1) * scenario.schedule.every
    if _averages_all(scenario):
        terms["bias"] = local_bias(A, b, learner.lr, steps)
    if view is not None and view.period == 1 and steps == 1 and _descends(scenario):
        start = stack.start(range(scenario.agents), same=learner.same_start)[:, : b.shape[1]]
        if np.array_equal(start, np.broadcast_to(start[0], start.shape)):
            weights = mixing.weights(view.at(0))
            bound = disagreement_bound(A, b, np.asarray(start[0], np.float64), weights, learner.lr)
            terms |= {} if bound is None else {"disagreement": bound}
    return {name: value for name, value in terms.items() if math.isfinite(value)}


_MOST_AGENTS = 256


def previewed(
    scenario: Scenario, stack: Stack, view: TopologyView | None, prediction: Prediction | None
) -> dict[str, float]:
    """Return the terms before a run; empty where they would need many environments.

    Args:
        scenario: what would be run.
        stack: its outline.
        view: the graphs, where agents mix.
        prediction: of the mixing.
    """
    mixing = scenario.mixing if view is None else scenario.mixing.fit(view.at(0))
    if scenario.environment is None:
        return bounds(scenario, stack, view, mixing, prediction)
    if LEARNERS.name_of(type(scenario.learner)) != "td" or scenario.agents > _MOST_AGENTS:
        return {}
    with closing(learning(scenario)) as found:
        return bounds(scenario, found.stack, view, mixing, prediction)


def _is_plain(scenario: Scenario) -> bool:
    """Whether every agent takes its own steps and sends all of its parameters, in every round."""
    kinds = (
        CORRECTIONS.name_of(type(scenario.correction)),
        GATES.name_of(type(scenario.gate)),
        COMPRESSORS.name_of(type(scenario.compressor)),
        PRIVACY.name_of(type(scenario.privacy)),
        PERSONAL.name_of(type(scenario.personal)),
    )
    return (
        {*kinds} == {"none"}
        and scenario.exchange.shared is None
        and not scenario.schedule.is_asynchronous
        and not scenario.attacks
        and not scenario.faults
        and scenario.work.assign != "speed"
        and scenario.availability == Availability()
        and getattr(scenario.network.loss, "probability", 1.0) == 0.0
    )


def _averages_all(scenario: Scenario) -> bool:
    coordinator, mode = scenario.coordinator, MODES[scenario.mode]
    aggregator = coordinator.aggregator
    return (
        _is_plain(scenario)
        and mode.averages
        and not mode.has_edges
        and scenario.exchange.payload in ("parameters", "delta")
        and AGGREGATORS.name_of(type(aggregator)) == "mean"
        and getattr(aggregator, "weights", "") in ("uniform", "samples")
        and SERVER_OPTIMIZERS.name_of(type(coordinator.server_optimizer)) == "replace"
        and PARTICIPATION.name_of(type(coordinator.participation)) == "all"
    )


def _descends(scenario: Scenario) -> bool:
    return (
        _is_plain(scenario)
        and MODES[scenario.mode].mixes
        and scenario.exchange.payload == "parameters"
        and scenario.exchange.order == "combine_while_adapting"
        and LEARNERS.name_of(type(scenario.learner)) == "quadratic"
        and not getattr(scenario.learner, "noise", 0.0)
        and not scenario.mixing.is_pairwise
        and MATRICES.name_of(type(scenario.mixing)) is not None
    )
