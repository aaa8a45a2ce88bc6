"""Laws of secure sums: exact in the ring for all who drop out, and rounding that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np

from p2pfrl.core.types import KEYS, REVEAL, SHARES, UPDATE
from p2pfrl.exchange.secure.ring import Ring, ring_sum
from p2pfrl.laws.base import Figure, Law, at_most, near
from p2pfrl.laws.runs import Table, play

if TYPE_CHECKING:
    from p2pfrl.exchange.secure.members import Member
    from p2pfrl.exchange.secure.sums import Sums

PHASES = (KEYS, SHARES, UPDATE, REVEAL)
_BITS = 10
_ALIKE: Table = {
    "dimension": 20000,
    "lr": 0.1,
    "noise": 1.0,
    "curvature": [1.0, 1.0],
    "spread": 0.0,
}


def people(n: int) -> tuple[list[Member], Sums]:
    """Return n agents and a coordinator of secure aggregation, with simulated keys."""
    from p2pfrl.exchange.secure.keys import simulated
    from p2pfrl.exchange.secure.members import AggregationMember, Unsigned
    from p2pfrl.exchange.secure.sums import AggregationSums

    plain = Unsigned()
    members: list[Member] = [
        AggregationMember(i, run="law", source=simulated(1, i), signer=plain, minimum=3)
        for i in range(n)
    ]
    return members, AggregationSums(run="law", signer=plain)


def one_round(
    members: Sequence[Member],
    sums: Sums,
    vectors: Mapping[int, Ring],
    gone: Mapping[int, str],
    number: int = 0,
) -> tuple[Ring, int] | None:
    """Return the sum of a round, and of how many vectors it is; None where it is given up.

    Args:
        members: the agents.
        sums: the coordinator's part.
        vectors: of the agents.
        gone: agent -> the phase from which on it says nothing.
        number: of the round.
    """
    from p2pfrl.exchange.secure.errors import SecureError

    def speaks(agent: int, phase: str) -> bool:
        return agent not in gone or PHASES.index(gone[agent]) > PHASES.index(phase)

    def answers(kind: str, told: Mapping[int, bytes]) -> dict[int, bytes]:
        found = {}
        for agent, data in told.items():
            try:
                answer = members[agent].respond(kind, number, data)
            except SecureError:
                continue
            if isinstance(answer, bytes):
                found[agent] = answer
        return found

    def of(phase: str, sent: Mapping[int, bytes]) -> dict[int, bytes]:
        return {agent: data for agent, data in sent.items() if speaks(agent, phase)}

    keys = {agent: members[agent].begin(number) for agent in range(len(members))}
    sealed = answers(KEYS, sums.relay(KEYS, number, of(KEYS, keys)))
    delivered = sums.relay(SHARES, number, of(SHARES, sealed))
    answers(SHARES, delivered)
    masked = {}
    for agent in delivered:
        if speaks(agent, UPDATE):
            try:
                made = members[agent].submit(number, vectors[agent])
            except SecureError:
                continue
            assert made is not None, "the shares of the others are here"
            masked[agent] = made
    told = answers(REVEAL, sums.take(masked))
    try:
        return sums.finish(of(REVEAL, told))
    except SecureError:
        return None


def _dropouts() -> Iterator[Figure]:
    n, wrong, known = 4, 0, 0
    bits = np.random.default_rng(1).integers(0, 2**64, (n, 3), dtype=np.uint64)
    vectors = dict(enumerate(bits))
    members, sums = people(n)
    cases = [
        dict(zip(who, phases, strict=True))
        for count in (0, 1, 2)
        for who in combinations(range(n), count)
        for phases in product(PHASES, repeat=count)
    ]
    for number, gone in enumerate(cases):
        found = one_round(members, sums, vectors, gone, number)
        if found is not None:
            known += 1
            living = [i for i in range(n) if gone.get(i, REVEAL) == REVEAL]
            wrong += found[0].tolist() != ring_sum([vectors[i] for i in living]).tolist()
    yield at_most(f"4 agents, {len(cases)} rounds with up to 2 dropouts: wrong sums", 0, wrong)
    yield near("of these sums are known", _expected(cases), known, 0)


def _expected(cases: Sequence[Mapping[int, str]]) -> int:
    """Return how many rounds have enough agents in every phase."""
    count = 0
    for gone in cases:
        left = [
            sum(PHASES.index(gone.get(i, REVEAL)) > p or i not in gone for i in range(4))
            for p in range(4)
        ]
        count += min(left) >= max(3, 2 * left[0] // 3 + 1)
    return count


def _rounding() -> Iterator[Figure]:
    unit = 2.0**-_BITS / 12**0.5
    for n, kind in ((10, "secure_aggregation"), (10, "secret_shares")):
        secure = {"kind": kind, "fraction_bits": _BITS}
        plain = play(n, 1, mode="central", learner=_ALIKE)
        hidden = play(n, 1, mode="central", learner=_ALIKE, secure=secure)
        off = float((hidden.parameters[0] - plain.parameters[0]).std())
        yield near(f"{kind}: rounding of the mean of {n}", unit / n**0.5, off, 0.03 * unit / n**0.5)
    narrow = {"kind": "secret_shares", "fraction_bits": _BITS, "clip": 64.0, "ring_bits": 24}
    wide = play(10, 1, mode="central", learner=_ALIKE, secure={**narrow, "ring_bits": 64})
    small = play(10, 1, mode="central", learner=_ALIKE, secure=narrow)
    differ = int((small.parameters != wide.parameters).sum())
    yield near("numbers of a sum in 24 bits that differ from those in 64", 0, differ, 0)
    graph: Table = {"kind": "complete"}
    secure = {"kind": "neighborhood_masks", "fraction_bits": _BITS}
    plain = play(5, 1, topology=graph, learner=_ALIKE)
    hidden = play(5, 1, topology=graph, learner=_ALIKE, secure=secure)
    off = float((hidden.parameters - plain.parameters).std())
    yield near("4 neighbors each: rounding of their sum", unit * 4**0.5, off, 0.03 * unit * 2)


LAWS = (
    Law(
        "secure_dropouts",
        "sums are exact in the ring for every dropout that leaves more than two thirds, and unknown below",
        "Bonawitz et al., ACM CCS 2017",
        _dropouts,
    ),
    Law(
        "secure_rounding",
        "a secure mean of n vectors of f fraction bits is the plain one with an error of 2^-f / sqrt(12 n)",
        "computed",
        _rounding,
    ),
)
