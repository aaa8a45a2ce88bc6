"""Checks of secure sums: whether they fit 64 bits, the mode, and the number of agents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import TopologyError
from p2pfrl.exchange.secure.hiding import MOST_WEIGHT
from p2pfrl.exchange.secure.ring import BYTES, FixedPoint
from p2pfrl.scenario.checks.facts import Problem
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario

if TYPE_CHECKING:
    from p2pfrl.exchange.privacy.distributed import DistributedNoise

_LEAST = 4.0
"""Multiples of the grid that the noise of an agent has at least, if it is of whole numbers."""
_TAIL = 10.0
"""Scales of noise for which a sum has room, per agent."""
_FEWEST = 3
"""Neighbors of an agent from which on their sum hides each of them."""


def parts(scenario: Scenario) -> Iterator[Problem]:
    """Yield why a sum may have less noise than its agents' parts promise."""
    needed = getattr(scenario.privacy, "parts", None)
    if needed is None or not MODES[scenario.mode].exchanges:
        return
    kind, rule = kind_of("privacy", scenario.privacy), scenario.secure
    if not rule.phases:
        reason = "needs sums that nobody sees in part: use [secure] kind = 'secure_aggregation', in mode central"
        yield ("privacy", "kind"), f"{kind!r} {reason}"
    elif rule.fewest(0) < needed:
        reason = f"each of {needed} agents adds its part, and there may be sums of {rule.fewest(0)}"
        yield ("secure", "minimum"), f"{reason}: set minimum = {needed}, or lower privacy.parts"
    if getattr(scenario.privacy, "discrete", False):
        yield from _grid(scenario, cast("DistributedNoise", scenario.privacy))
        if getattr(scenario.compressor, "unbiased", False):
            reason = (
                "with discrete = true vectors are clipped as they enter the sum, after they were multiplied, and "
                "E Q(x) = x would not hold: leave it out, and raise the server optimizer's lr instead"
            )
            yield ("compressor", "unbiased"), reason
    if scenario.compressor.keeps_errors:
        reason = (
            "an agent that was away would send what it kept of several rounds, and the others add noise for one; use "
            "'randk' with common = true alone"
        )
        yield (
            ("compressor", "kind"),
            f"{kind_of('compressors', scenario.compressor)!r} and parts of noise exclude each other: {reason}",
        )


def _grid(scenario: Scenario, rule: DistributedNoise) -> Iterator[Problem]:
    """Yield why noise of whole numbers is too fine for the grid of a sum, or too large for it."""
    ring = scenario.secure.ring
    if ring is None or rule.misfit(scenario.stop.rounds):
        return  # another check says why
    scale = rule.planned(scenario.stop.rounds).scale(ring)
    if scale < _LEAST:
        bits = ring.bits + math.ceil(math.log2(_LEAST / scale))
        reason = f"an agent's noise is {scale:.3g} multiples of 2^-{ring.bits}: expected {_LEAST:g} at least"
        yield ("secure", "fraction_bits"), f"{reason}; use {bits} or more"
    most = ring.clip + _TAIL * scale * 2.0**-ring.bits
    if replace(ring, clip=most).capacity() < scenario.agents:
        width = f"{8 * ring.width} bits"
        reason = f"with noise numbers of up to {most:.4g} would travel, and sums overflow {width}"
        yield ("secure", "clip"), f"{reason}; lower clip or fraction_bits"


def secure(scenario: Scenario) -> Iterator[Problem]:
    """Yield why vectors cannot be summed without being seen."""
    ring, mode = scenario.secure.ring, MODES[scenario.mode]
    if ring is None or not mode.exchanges:
        return
    if mode.averages and scenario.coordinator.participation.may_choose_nobody:
        kind = kind_of("participation", scenario.coordinator.participation)
        reason = "in some rounds few or none would take part, and a sum of few hides little"
        yield ("coordinator", "participation"), f"{kind!r}: {reason}; use another rule"
    if mode.pools:
        kind = kind_of("secure", scenario.secure)
        reason = "agents send experience in mode pooled, which no sum can hold"
        yield ("secure", "kind"), f"{kind!r} needs vectors: {reason}"
        return
    if scenario.standbys and scenario.secure.phases:
        reason = "a sum lives and dies with its coordinator: leave the standbys out"
        yield ("coordinator", "standbys"), reason
    yield from _overflow(scenario, ring)
    if scenario.secure.is_of_neighbors and mode.mixes:
        yield from _neighborhoods(scenario)
    if not (mode.averages and scenario.secure.phases):
        return
    minimum = scenario.secure.fewest(0)
    expected = scenario.coordinator.participation.expected(scenario.agents)
    if expected < minimum:
        reason = f"sums need {minimum} agents, and {expected:g} take part in a round"
        yield ("secure", "kind"), f"{reason}: no sum would ever be known"


def _overflow(scenario: Scenario, ring: FixedPoint) -> Iterator[Problem]:
    """Yield why the numbers of all agents' vectors do not fit, or are all zero."""
    averages = MODES[scenario.mode].averages
    by_steps = averages and scenario.coordinator.aggregator.reads_samples
    vectors = scenario.agents * (int(MOST_WEIGHT) if by_steps else 1)
    is_too_small = ring.clip < 2.0**-ring.bits
    # With weights the weights themselves travel, too.
    least = 1.0 if by_steps else 0.0
    counted = replace(ring, clip=max(ring.clip, least))
    if not is_too_small and counted.capacity() >= vectors:
        return
    clip, bits = f"clip = {ring.clip:g}", f"fraction_bits = {ring.bits}"
    if is_too_small:
        reason = f"{clip} is below 2^-{ring.bits}, the smallest number that travels with {bits}"
        yield ("secure", "clip"), f"{reason}: every vector would become zeros; raise one of them"
        return
    whose = f"{scenario.agents} agents' vectors" + (", each weighed by steps," if by_steps else "")
    width = 8 * ring.width
    reason = f"sums of {whose} would overflow {width} bits with {clip} and {bits}"
    largest = ring.largest_clip(vectors)
    fixes = [f"lower clip to at most {_rounded_down(largest)}"] if largest > least else []
    fits = [n for n in range(ring.bits) if replace(counted, bits=n).capacity() >= vectors]
    fixes += [f"lower fraction_bits to at most {fits[-1]}"] if fits else []
    fixes += ["raise ring_bits"] if ring.width < BYTES else []
    yield ("secure", "clip"), f"{reason}: {', or '.join(fixes)}"


def _rounded_down(value: float) -> str:
    """Return four digits of a positive number that are at most the number."""
    text = f"{value:.4g}"
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return text if float(text) <= value else f"{value - step:.4g}"


def _neighborhoods(scenario: Scenario) -> Iterator[Problem]:
    """Yield an agent that hears too few for their sum to hide them, and self-play."""
    if any(
        make.environment and make.environment.opponents == "last_known" for make in scenario.makes
    ):
        reason = "with opponents = 'last_known' agents need the parameters of each of them"
        yield ("secure", "kind"), f"{reason}: use opponents = 'present'"
    try:
        graph = TopologyView(scenario.topology, scenario.agents, scenario.seed).at(0)
        rows = scenario.mixing.weights(graph)
    except (TopologyError, OSError):
        return  # another check says why
    for i, row in enumerate(rows):
        count = sum(weight != 0.0 for j, weight in row.items() if j != i)
        if count < _FEWEST:
            reason = f"agent {graph.name(i)} mixes with {count}, of whom the sum says too much"
            fix = f"use a topology and mixing with at least {_FEWEST} neighbors each"
            yield ("secure", "kind"), f"{reason}: {fix}"
            return
