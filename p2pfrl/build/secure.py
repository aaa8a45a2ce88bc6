"""Secure sums of a run: where their keys come from, what is promised, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES

if TYPE_CHECKING:
    from p2pfrl.consensus.coordinator import Sums
    from p2pfrl.consensus.mixing.base import Weights
    from p2pfrl.exchange.outbox import Hiding
    from p2pfrl.exchange.secure.keys import Source
    from p2pfrl.exchange.secure.members import Signer

SIMULATED = "simulated: they follow from the seed of the run"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of the agents of a world.

    Attributes:
        source: (agent, incarnation) -> its random bytes.
        signer: id -> what signs its keys, and checks those of others.
        origin: where the random bytes come from, in words.
    """

    source: Callable[[int, int], Source]
    signer: Callable[[int], Signer]
    origin: str


def simulated_keyring(seed: int) -> Keyring:
    """Return the keys of a simulation, which follow from the seed of the run."""
    from p2pfrl.exchange.secure.keys import simulated
    from p2pfrl.exchange.secure.members import Unsigned

    return Keyring(
        lambda agent, incarnation: simulated(seed, agent, incarnation),
        lambda agent: Unsigned(),
        SIMULATED,
    )


def member_of(
    scenario: Scenario, keyring: Keyring, agent: int, incarnation: int, unit: float
) -> Hiding:
    """Return an agent's part in the sums of a coordinator.

    Args:
        scenario: of the run.
        keyring: of its world.
        agent: its id.
        incarnation: how many times it was started before.
        unit: environment steps of weight 1, where vectors are weighted by steps.
    """
    from p2pfrl.exchange.secure.hiding import OfMember

    secure = scenario.secure
    member = secure.member(
        agent,
        run=scenario.name,
        source=keyring.source(agent, incarnation),
        signer=keyring.signer(agent),
        incarnation=incarnation,
    )
    by_steps = scenario.coordinator.aggregator.reads_samples
    assert secure.ring is not None
    extras = scenario.correction.extras
    return OfMember(member, secure.ring, unit if by_steps else 0.0, extras)


def circle_of(
    scenario: Scenario, keyring: Keyring, agent: int, row: Callable[[int, int], Weights]
) -> Hiding:
    """Return what hides an agent's vectors among the neighbors of its neighbors.

    `row` gives the row of the mixing matrix of an agent in a round.
    """
    from p2pfrl.exchange.secure.hiding import OfCircle
    from p2pfrl.exchange.secure.keys import KEY, public_of

    def private(who: int) -> bytes:
        return keyring.source(who, 0)(0, "neighbors", KEY)

    assert scenario.secure.ring is not None
    return OfCircle(
        agent,
        run=scenario.name,
        private=private(agent),
        public=lru_cache(maxsize=1024)(lambda who: public_of(private(who))),
        circle=lambda round, to: row(to, round),
        ring=scenario.secure.ring,
    )


def sums_of(scenario: Scenario, keyring: Keyring, id: int) -> Sums:
    """Return the coordinator's part of secure sums."""
    return scenario.secure.sums(run=scenario.name, signer=keyring.signer(id))


def promised(scenario: Scenario) -> dict[str, Any]:
    """Return what is promised of a scenario's sums, under the key "secure"; nothing without any.

    agents_needed: of the n of a round, who must go on to its end; rounding: of an agent's numbers,
    at most.
    """
    secure, ring = scenario.secure, scenario.secure.ring
    if ring is None or not MODES[scenario.mode].exchanges:
        return {}
    needed = {"agents_needed": secure.fewest(scenario.agents)} if secure.phases else {}
    rounding = 2.0 ** -(ring.bits + 1)
    return {"secure": {"guarantee": secure.guarantee, **needed, "rounding": rounding}}


def achieved(scenario: Scenario, keyring: Keyring, sums: Sums | None) -> dict[str, Any]:
    """Return what is promised, where keys came from, and how many sums were known or given up."""
    found = promised(scenario)
    if not found:
        return {}
    counts = (
        {"sums": sums.made, "given_up": {**sums.given_up}, "refused": {**sums.refused}}
        if sums
        else {}
    )
    return {"secure": {**found["secure"], "keys": keyring.origin, **counts}}
