"""Secure sums of a run: where their keys come from, what is promised, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES

if TYPE_CHECKING:
    from p2pfrl.consensus.coordinator import Sums
    from p2pfrl.consensus.mixing.base import Weights
    from p2pfrl.exchange.outbox import Hiding
    from p2pfrl.exchange.privacy.base import OfRing
    from p2pfrl.exchange.secure.keys import Source
    from p2pfrl.exchange.secure.members import Signer

SIMULATED = "simulated: they follow from the seed of the run"


class OfRun(Protocol):
    """Keys that stay the same in a run, for masks between neighbors."""

    def private(self, agent: int) -> bytes:
        """Return the private key of an agent of this world."""

    def public(self, agent: int) -> bytes:
        """Return the public key of any agent with which one of this world hears a neighbor."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of the agents of a world.

    Attributes:
        source: (agent, incarnation) -> its random bytes.
        signer: id -> what signs its keys, and checks those of others.
        of_run: keys of masks between neighbors.
        origin: where the random bytes come from, in words.
    """

    source: Callable[[int, int], Source]
    signer: Callable[[int], Signer]
    of_run: OfRun
    origin: str


class Simulated:
    """Keys of a simulated run, which follow from its seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.public = lru_cache(maxsize=1024)(self._public)

    def private(self, agent: int) -> bytes:
        """Return the private key of an agent."""
        from p2pfrl.exchange.secure.keys import KEY, simulated

        return simulated(self._seed, agent)(0, "neighbors", KEY)

    def _public(self, agent: int) -> bytes:
        """Return the public key of an agent."""
        from p2pfrl.exchange.secure.keys import public_of

        return public_of(self.private(agent))


def simulated_keyring(seed: int) -> Keyring:
    """Return the keys of a simulation, which follow from the seed of the run."""
    from p2pfrl.exchange.secure.keys import simulated
    from p2pfrl.exchange.secure.members import Unsigned

    return Keyring(
        lambda agent, incarnation: simulated(seed, agent, incarnation),
        lambda agent: Unsigned(),
        Simulated(seed),
        SIMULATED,
    )


def member_of(
    scenario: Scenario,
    keyring: Keyring,
    agent: int,
    incarnation: int,
    unit: float,
    noised: OfRing | None = None,
) -> Hiding:
    """Return an agent's part in the sums of a coordinator.

    Args:
        scenario: of the run.
        keyring: of its world.
        agent: its id.
        incarnation: how many times it was started before.
        unit: environment steps of weight 1, where vectors are weighted by steps.
        noised: makes the elements of what may leave the agent, where noise is of whole numbers.
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
    return OfMember(member, secure.ring, unit if by_steps else 0.0, extras, noised)


def circle_of(
    scenario: Scenario, keyring: Keyring, agent: int, row: Callable[[int, int], Weights]
) -> Hiding:
    """Return what hides an agent's vectors among the neighbors of its neighbors.

    `row` gives the row of the mixing matrix of an agent in a round.
    """
    from p2pfrl.exchange.secure.hiding import OfCircle

    assert scenario.secure.ring is not None
    return OfCircle(
        agent,
        run=scenario.name,
        private=keyring.of_run.private(agent),
        public=keyring.of_run.public,
        circle=lambda round, to: row(to, round),
        ring=scenario.secure.ring,
    )


def circles(scenario: Scenario, row: Callable[[int, int], Weights]) -> dict[int, tuple[int, ...]]:
    """Return by agent who else is heard by a neighbor of it: they need each other's keys.

    Empty where no masks cancel between neighbors. `row` as in `circle_of`.
    """
    if not (scenario.secure.is_of_neighbors and MODES[scenario.mode].mixes):
        return {}
    met: dict[int, set[int]] = {agent: set() for agent in range(scenario.agents)}
    for receiver in met:
        heard = {j for j, weight in row(receiver, 0).items() if weight and j != receiver}
        for j in heard:
            met[j] |= heard - {j}
    return {agent: tuple(sorted(others)) for agent, others in met.items()}


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
