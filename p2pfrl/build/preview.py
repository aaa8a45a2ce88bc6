"""Preview: the cost of a scenario and its predicted rate of agreement. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2pfrl.build.bounds import previewed
from p2pfrl.build.estimate import Estimate, estimate
from p2pfrl.build.modes import BUILDERS
from p2pfrl.build.privacy import plan
from p2pfrl.build.secure import promised
from p2pfrl.consensus.theory import Prediction, predict
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.learning.environments.base import longest
from p2pfrl.learning.learners.base import Stack, Traits
from p2pfrl.scenario import Scenario, hash8
from p2pfrl.scenario.bind import differences, outline
from p2pfrl.scenario.byzantine import byzantine
from p2pfrl.scenario.modes import MODES, Mode
from p2pfrl.scenario.resources import assigned, resources, shares
from p2pfrl.scenario.traffic import beside, message_bytes, shared_parts

_MOST_SHARES = 64
"""Number of agents up to which each one's share is shown."""


def preview(scenario: Scenario) -> dict[str, Any]:
    """Return sizes, bytes and rates: the keys of `validate --json`.

    `bytes_per_round` and `messages_per_round` are sums over all agents (and the coordinator), when
    every payload is sent; bytes are not known in mode pooled, where experience travels. `lambda_2`
    and what follows from it are those of gossip, None in other modes. `edges` and `degree` are
    those of all rounds together; of the first, where every round is a fresh draw. Environment steps
    and seconds that vary from update to update are bounds.
    """
    stack, n = outline(scenario), scenario.agents
    layout, every = stack.layout, scenario.schedule.every
    mode = MODES[scenario.mode]
    whole = TopologyView(scenario.topology, n, scenario.seed)
    view = whole if mode.mixes else None
    prediction = (
        predict(view, scenario.mixing.with_resources(resources(scenario))) if view else None
    )
    messages = BUILDERS[mode.name]().messages(scenario, whole)
    parts = shared_parts(scenario, stack)
    upload, model = message_bytes(scenario, stack, parts)
    frame = (upload + model) / 2 if mode.has_coordinator else upload
    phases = max(1, len(scenario.secure.phases))
    of_round = messages / phases * (frame + beside(scenario) / 2)
    terms = previewed(scenario, stack, view, prediction)
    needed = estimate(
        scenario, stack, messages=messages, message_bytes=frame, edges=_edges(whole, mode)
    )
    return {
        "name": scenario.name,
        "hash": hash8(scenario),
        "mode": scenario.mode,
        "agents": n,
        "parameters": layout.size,
        "parts": {part: layout.slices([part])[-1][0].stop for part in layout.parts},
        "travels": list(parts),
        "dtype": layout.dtype,
        "env_steps_per_round": _of_round(scenario, stack.traits, n * every),
        "update_seconds": _bounds(stack.traits, scenario.compute.seconds_per_env_step),
        "evaluation": _evaluation(scenario),
        "bytes_per_message": upload,
        "messages_per_round": messages,
        "bytes_per_round": None if mode.pools else round(of_round),
        **_agreement(prediction),
        **_graph(view),
        **({"byzantine": lying} if (lying := [*byzantine(scenario)]) else {}),
        "heterogeneity": differences(scenario),
        **({"bound": terms} if terms else {}),
        **_energy(scenario, stack.traits, upload),
        **_allocation(scenario),
        **_assigned(scenario),
        **plan(scenario, _shared(stack, parts)),
        **promised(scenario),
        **needed.shown(),
    }


def needs(scenario: Scenario, *, draws: bool = True) -> Estimate:
    """Return what a run of the scenario in the simulator will need, and nothing else.

    `draws`: whether figures and report are made.
    """
    stack, mode = outline(scenario), MODES[scenario.mode]
    whole = TopologyView(scenario.topology, scenario.agents, scenario.seed)
    upload, model = message_bytes(scenario, stack, shared_parts(scenario, stack))
    return estimate(
        scenario,
        stack,
        messages=BUILDERS[mode.name]().messages(scenario, whole),
        message_bytes=(upload + model) / 2 if mode.has_coordinator else upload,
        edges=_edges(whole, mode),
        draws=draws,
    )


def _assigned(scenario: Scenario) -> dict[str, Any]:
    """Return the updates per exchange that agents are assigned by their speed."""
    if scenario.work.assign != "speed":
        return {}
    found = [int(k) for k in assigned(scenario, resources(scenario).speed)]
    few = found if len(found) <= _MOST_SHARES else {"min": min(found), "max": max(found)}
    return {"updates_per_exchange": few}


def _allocation(scenario: Scenario) -> dict[str, Any]:
    """Return the shares of an allocation: of every agent, or of many the least and the greatest."""
    section, n = scenario.allocation, scenario.agents
    if section.exponent is None:
        return {}
    found = shares(scenario)
    return {
        "allocated": section.resource,
        "shares": [round(share, 6) for share in found.tolist()]
        if n <= _MOST_SHARES
        else {"min": float(found.min()), "max": float(found.max())},
        "shares_sum": float(found.sum()),
    }


def _shared(stack: Stack, parts: Sequence[str]) -> int:
    """Return how many numbers of its parameters an agent shares."""
    return stack.layout.slices(parts)[-1][0].stop if parts else 0


def _energy(scenario: Scenario, traits: Traits, upload: int) -> dict[str, Any]:
    """Return the joules of all agents' updates in a round, and of a message of a mean agent."""
    if not scenario.energy.is_counted:
        return {}
    own = resources(scenario)
    updates = float((own.per_step * assigned(scenario, own.speed)).sum())
    return {
        "joules_per_round_of_updates": _of_round(scenario, traits, updates),
        "joules_per_message": float(own.per_byte.mean()) * upload,
    }


def _of_round(scenario: Scenario, traits: Traits, factor: float) -> Any:
    """Return the steps of updates times `factor`, or bounds where their number is measured."""
    if scenario.work.assign != "time":
        return _bounds(traits, factor)
    least = factor / scenario.schedule.every * traits.min_steps
    return {"at least": int(least) if least.is_integer() else least, "at most": None}


def _bounds(traits: Traits, factor: float) -> Any:
    """Return the environment steps of an update times `factor`, or bounds where they vary."""
    if traits.fixed_steps:
        return factor * traits.min_steps
    most = traits.most_steps
    return {
        "at least": factor * traits.min_steps,
        "at most": None if most is None else factor * most,
    }


def _evaluation(scenario: Scenario) -> dict[str, int] | None:
    """Return the rounds between evaluations, and the most environment steps that one can take.

    Each agent plays its own model and the mean model.
    """
    section = scenario.evaluation
    sections = [(len(make.agents), make.environment) for make in scenario.makes]
    limits = [
        agents * longest(environment.rule.spec)
        for agents, environment in sections
        if environment is not None
    ]
    if not section.episodes or not limits:
        return None
    return {"every": section.every, "env_steps at most": 2 * section.episodes * sum(limits)}


def _agreement(prediction: Prediction | None) -> dict[str, Any]:
    if prediction is None:
        return {"lambda_2": None, "spectral_gap": None, "rounds_to_1e-6": None, "keeps_mean": None}
    return {
        "lambda_2": prediction.lambda_2,
        "spectral_gap": prediction.spectral_gap,
        "rounds_to_1e-6": prediction.rounds_to(1e-6),
        "keeps_mean": prediction.doubly_stochastic,
    }


def _edges(whole: TopologyView, mode: Mode) -> int:
    """Return the number of pairs of agents that exchange, of all rounds if that is known."""
    if not mode.mixes:
        return 0
    return (whole.at(0) if whole.period is None else whole.union).size


def _graph(view: TopologyView | None) -> dict[str, Any]:
    if view is None:
        return {"edges": None, "degree": None}
    graph = view.at(0) if view.period is None else view.union
    degrees = [len(receivers) for receivers in graph.successors]
    return {"edges": graph.size, "degree": {"min": min(degrees), "max": max(degrees)}}
