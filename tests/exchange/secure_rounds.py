"""Rounds of secure sums in memory: members and a coordinator that pass bytes to each other."""

from dataclasses import dataclass, field

import numpy as np

from p2pfrl.core.types import KEYS, REVEAL, SHARES, UPDATE
from p2pfrl.exchange.secure.keys import simulated
from p2pfrl.exchange.secure.members import AggregationMember, Unsigned
from p2pfrl.exchange.secure.ring import Ring, ring_sum
from p2pfrl.exchange.secure.sums import AggregationSums

PHASES = (KEYS, SHARES, UPDATE, REVEAL)


def vectors(n: int, size: int = 5, seed: int = 0) -> dict[int, Ring]:
    bits = np.random.default_rng(seed).integers(0, 2**64, (n, size), dtype=np.uint64)
    return {agent: bits[agent] for agent in range(n)}


def exact(given: dict[int, Ring], agents) -> list[int]:
    return ring_sum([given[agent] for agent in sorted(agents)]).tolist()


@dataclass
class Round:
    """One round, phase by phase. `gone` has the phase from which on an agent is silent."""

    n: int
    gone: dict[int, str] = field(default_factory=dict)
    number: int = 0
    member: type = AggregationMember
    server: type = AggregationSums
    minimum: int = 3
    seed: int = 1
    members: dict = field(default_factory=dict)
    errors: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)

    def __post_init__(self):
        for i in () if self.members else range(self.n):
            self.members[i] = self.member(
                i,
                run="test",
                source=simulated(self.seed, i),
                signer=Unsigned(),
                minimum=self.minimum,
            )
        self.sums = self.server(run="test", signer=Unsigned())

    def there(self, phase: str, agents) -> list[int]:
        late = PHASES.index(phase)
        return [i for i in agents if i not in self.gone or PHASES.index(self.gone[i]) > late]

    def answers(self, phase: str, told: dict[int, bytes]) -> dict:
        """Return what members answer to what the coordinator said after `phase`."""
        found = {}
        for agent, data in told.items():
            try:
                answer = self.members[agent].respond(phase, self.number, data)
            except Exception as error:  # noqa: BLE001
                self.errors[agent] = error
                continue
            if answer is not None:
                found[agent] = answer
        return found

    def keys(self) -> dict[int, bytes]:
        sent = {i: self.members[i].begin(self.number) for i in self.members}
        return self.sums.relay(KEYS, self.number, {i: sent[i] for i in self.there(KEYS, sent)})

    def shares(self, roster: dict[int, bytes]) -> dict[int, bytes]:
        sent = self.answers(KEYS, roster)
        return self.sums.relay(SHARES, self.number, {i: sent[i] for i in self.there(SHARES, sent)})

    def masked(self, delivered: dict[int, bytes], given: dict[int, Ring]) -> dict[int, Ring]:
        self.answers(SHARES, delivered)
        there = self.there(UPDATE, [i for i in delivered if i not in self.errors])
        return {i: self.members[i].submit(self.number, given[i]) for i in there}

    def run(self, given: dict[int, Ring]) -> tuple[Ring, int]:
        delivered = self.shares(self.keys())
        masked = self.masked(delivered, given)
        self.seen = masked
        asked = self.sums.take(masked)
        sent = self.answers(REVEAL, asked)
        return self.sums.finish({i: sent[i] for i in self.there(REVEAL, sent)})
