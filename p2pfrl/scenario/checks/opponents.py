"""Checks of self-play: what an agent needs to know of its opponents has to reach it."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import P2PFRLError, TopologyError
from p2pfrl.learning.personal.base import Common
from p2pfrl.scenario.bind import outline
from p2pfrl.scenario.checks.facts import Path, Problem
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario
from p2pfrl.scenario.traffic import shared_parts

NO_POLICY = frozenset({"critic", "reward", "temperature"})
"""Parts of learners that are no policy: nobody acts by them, and any roles may average them."""

_OPPONENTS = ("environment", "opponents")
_NO_MEMORY = "none"
_SELF_PLAY = "opponents = 'last_known'"


def self_play(scenario: Scenario, k: int) -> Iterator[Problem]:
    """Yield why agents could not play against what they know of the members of their worlds.

    Args:
        scenario: with shared worlds.
        k: members of a world.
    """
    section, mode = scenario.environment, MODES[scenario.mode]
    if scenario.groups:
        yield ("groups",), f"with {_SELF_PLAY} all agents have one learner: remove the groups"
        return
    if section is not None and section.rule.is_external:
        reason = f"{section.id} lives in objects, of which there is one per world: use 'present'"
        yield _OPPONENTS, reason
        return
    if not isinstance(scenario.personal, Common):
        yield ("personal",), f"with {_SELF_PLAY} agents have no second model: remove it"
        return
    if getattr(scenario.learner, "memory", _NO_MEMORY) != _NO_MEMORY:
        reason = f"with {_SELF_PLAY} nobody knows what opponents remember: use 'none'"
        yield ("learner", "memory"), reason
        return
    if mode.pools or not mode.exchanges:
        reason = f"mode {scenario.mode} tells nobody what the other members play"
        yield _OPPONENTS, f"{reason}: use mode gossip or central, or opponents = 'present'"
        return
    yield from _learner(scenario)
    if mode.mixes:
        yield from _messages(scenario, k)


def _learner(scenario: Scenario) -> Iterator[Problem]:
    """Yield opponents that would change in an update, and parts of policies that do not travel."""
    try:
        stack = outline(scenario)
    except P2PFRLError:
        return  # another check says why
    if not stack.traits.acts_as_started:
        kind = kind_of("learners", scenario.learner)
        reason = f"{kind!r} learns while it acts, and so would the copies of its opponents"
        yield ("learner", "kind"), f"with {_SELF_PLAY} {reason}: use 'ppo', 'a2c' or 'reinforce'"
        return
    acting = [part for part in stack.layout.parts if part not in {*NO_POLICY, "played"}]
    missing = [part for part in acting if part not in shared_parts(scenario, stack)]
    if not missing:
        return
    path: Path
    if missing[0] in stack.traits.personal:
        path, fix = ("learner",), "use learner.statistics = 'averaged' or 'merged'"
    else:
        path, fix = ("exchange", "shared"), f"add {missing[0]!r}"
    reason = f"opponents act by the part {missing[0]!r}, which does not travel"
    yield path, f"with {_SELF_PLAY} {reason}: {fix}"


def _messages(scenario: Scenario, k: int) -> Iterator[Problem]:
    """Yield why the messages of neighbors do not tell what all opponents play."""
    if scenario.exchange.payload != "parameters":
        reason = f"{_SELF_PLAY} needs messages with parameters: use 'parameters'"
        yield ("exchange", "payload"), reason
    if not scenario.mixing.sends_parameters:
        reason = "its messages hold something else than parameters"
        yield ("mixing",), f"with {_SELF_PLAY} {reason}: use 'metropolis', 'uniform' or 'by_role'"
    try:
        union = TopologyView(scenario.topology, scenario.agents, scenario.seed).union
    except (TopologyError, OSError):
        return  # another check says why
    for i, heard in enumerate(union.predecessors):
        first = i - i % k
        unheard = [j for j in range(first, first + k) if j != i and j not in heard]
        if unheard:
            reason = (
                f"agents {i} and {unheard[0]} share a world, and {i} never hears of {unheard[0]}"
            )
            fix = "topology kind = 'complete'"
            if scenario.agents > k:
                count = scenario.agents // k
                fix += f", or 'islands' with count = {count} and graph = {{kind = 'complete'}}"
            yield ("topology",), f"{reason}, which is no neighbor: let all members be, by {fix}"
            return
