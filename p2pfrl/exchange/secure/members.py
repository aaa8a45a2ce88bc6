"""One agent's part of a secure sum: a state machine without I/O, bytes in and bytes out.

A round of a sum has phases. In each of them all agents send the coordinator a message, and the
coordinator answers all who sent one:

    keys      public keys                          -> the keys of all who take part (the roster)
    shares    something sealed for every other one -> what the others sealed for this one
    update    the masked vector                    -> who lives: whose masked vector arrived
    reveal    shares that take off the masks       (secure aggregation only)

An agent answers each phase once per round, and no round twice. What it cannot accept ends the round
for it: it says nothing more in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import ClassVar, Protocol

from typing_extensions import override

from p2pfrl.core.state import State, Stateful
from p2pfrl.core.types import KEYS, REVEAL, SHARES, UPDATE
from p2pfrl.exchange.secure.entries import pack, unpack
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.exchange.secure.keys import (
    KEY,
    Source,
    common,
    derived,
    mask_of,
    opened,
    public_of,
    sealed,
)
from p2pfrl.exchange.secure.ring import Ring
from p2pfrl.exchange.secure.shamir import SHARE, split, threshold

LIVES, DEAD = b"\1", b"\0"
"""What a list of the living says of an agent."""


class Signer(Protocol):
    """Signs an agent's keys, and checks the signatures of others."""

    def sign(self, text: bytes) -> bytes:
        """Return a signature of `text`."""

    def verify(self, agent: int, text: bytes, signature: bytes) -> None:
        """Raise a `SecureError` unless `agent` signed `text`."""


class Unsigned:
    """No signatures: whoever passes messages on can replace the keys in them by its own."""

    def sign(self, text: bytes) -> bytes:
        """Return nothing."""
        return b""

    def verify(self, agent: int, text: bytes, signature: bytes) -> None:
        """Refuse nothing but signatures."""
        if signature:
            raise SecureError("bad_signature", f"agent {agent} signs its keys, and others do not")


def signed_text(run: str, round: int, agent: int, keys: bytes) -> bytes:
    """Return what an agent signs: its keys, for one round of one run."""
    return b"p2pfrl keys\0" + pack({agent: keys}) + round.to_bytes(8, "little") + run.encode()


def commitment(seed: bytes) -> bytes:
    """Return what binds an agent to a seed that stays secret."""
    return sha256(b"p2pfrl self mask\0" + seed).digest()


class Member(Stateful, ABC):
    """One agent's part of the sums of a run.

    Args:
        me: its id.
        run: name of the run.
        source: of random bytes.
        signer: of keys.
        minimum: a sum of fewer vectors is refused.
        incarnation: how many times the agent was started before: the secrets of a round end with
            the life in which it began.
    """

    keys: ClassVar[int]
    """How many keys and commitments an agent makes public."""

    STATE: ClassVar[tuple[str, ...]] = (
        "incarnation",
        "round",
        "_phase",
        "_sent",
        "_roster",
        "_own",
        "_given",
        "_held",
    )
    __slots__ = (
        "_given",
        "_held",
        "_me",
        "_minimum",
        "_own",
        "_phase",
        "_roster",
        "_run",
        "_sent",
        "_signer",
        "_source",
        "incarnation",
        "round",
    )
    round: int
    """The newest round in which it took part; -1 before the first."""
    _phase: str
    """What it is asked for next; "" where it is done with the round."""
    _given: dict[int, bytes]
    """Whose keys may count -> what they sealed for this agent, itself included."""

    def __init__(
        self,
        me: int,
        *,
        run: str,
        source: Source,
        signer: Signer,
        minimum: int,
        incarnation: int = 0,
    ) -> None:
        self.incarnation = incarnation
        self._me, self._run, self._minimum = me, run, minimum
        self._source, self._signer = source, signer
        self.round, self._phase, self._sent = -1, "", b""
        self._roster: dict[int, bytes] = {}
        self._own: dict[int, bytes] = {}
        self._given = {}
        self._held: Ring | None = None

    @override
    def restore(self, state: State) -> None:
        """Take over a state; a round that began in another incarnation is over."""
        now = self.incarnation
        super().restore(state)
        if self.incarnation != now:
            self.incarnation, self._phase, self._held = now, "", None

    def begin(self, round: int) -> bytes:
        """Return the agent's keys for a new round; the same again until they are answered.

        Raises:
            SecureError: it has gone further in this round, or took part in a later one.
        """
        if round == self.round and self._phase == KEYS:
            return self._sent
        if round <= self.round:
            raise SecureError("repeated", f"round {round} was answered: expected a later one")
        keys = self._new_keys(round)
        signature = self._signer.sign(signed_text(self._run, round, self._me, keys))
        self.round, self._phase, self._sent = round, KEYS, keys + signature
        self._roster, self._given, self._held = {}, {}, None
        return self._sent

    def respond(self, kind: str, round: int, data: bytes) -> bytes | Ring | None:
        """Return the answer to the coordinator; None where the agent has nothing to say yet.

        Args:
            kind: of the coordinator's message.
            round: of it.
            data: its content.

        Raises:
            SecureError: the message cannot be accepted. The round is over for this agent then,
                unless the message is of another round, or came before.
        """
        if round != self.round:
            raise SecureError("stale", f"expected round {self.round}, got {round}")
        if kind != self._phase:
            raise SecureError("repeated", f"expected {self._phase or 'nothing'!r}, got {kind!r}")
        self._phase = ""  # unless the message is accepted
        return _ANSWERS[kind](self, data)

    def submit(self, round: int, vector: Ring) -> Ring | None:
        """Return the masked vector; None if the keys of the others are not here yet.

        It is returned by `respond` then.

        Raises:
            SecureError: there is no sum of this round, or it has been given up, or answered.
        """
        if round != self.round or not self._phase or self._phase == REVEAL:
            raise SecureError("given_up", f"no sum of round {round} waits for this agent")
        if self._held is not None:
            return None
        self._held = vector
        return self._masked() if self._phase == UPDATE else None

    def _take_roster(self, data: bytes) -> bytes:
        """Return something sealed for every other agent on the roster."""
        roster = unpack(data)
        if roster.get(self._me) != self._sent:
            raise SecureError("tampered", "the roster has other keys of this agent than its own")
        if len(roster) < self._minimum:
            raise SecureError(
                "too_few", f"expected at least {self._minimum} agents, got {len(roster)}"
            )
        size = KEY * self.keys
        for agent, entry in roster.items():
            if agent == self._me:
                continue
            keys, signature = entry[:size], entry[size:]
            if len(keys) != size:
                raise SecureError("malformed", f"the keys of agent {agent} are {len(entry)} bytes")
            text = signed_text(self._run, self.round, agent, keys)
            self._signer.verify(agent, text, signature)
        self._roster = {agent: entry[:size] for agent, entry in roster.items()}
        secrets = self._secrets()
        self._own = {}
        sealed_for = {}
        for agent in roster:
            if agent == self._me:
                self._given[agent] = secrets[agent]
                continue
            self._own[agent] = common(self._source_of(1), self._key(agent, 0))
            key = self._channel(agent, self._me, agent)
            sealed_for[agent] = sealed(key, secrets[agent], self._context(self._me, agent))
        self._phase = SHARES
        return pack(sealed_for)

    def _take_shares(self, data: bytes) -> Ring | None:
        """Note what others sealed for this agent; return the masked vector if it is here."""
        entries = unpack(data)
        if not entries.keys() <= self._own.keys():
            raise SecureError("tampered", "shares of agents that are not on the roster")
        count = len(entries) + 1
        if count < max(self._minimum, threshold(len(self._roster))):
            raise SecureError(
                "too_few", f"{count} of {len(self._roster)} agents went on: too few for a sum"
            )
        for agent, text in entries.items():
            key = self._channel(agent, agent, self._me)
            self._given[agent] = opened(key, text, self._context(agent, self._me))
        self._check_given()
        self._phase = UPDATE
        return None if self._held is None else self._masked()

    def _masked(self) -> Ring:
        """Return the vector with its masks, and forget it."""
        assert self._held is not None
        total = self._held.copy()
        for seed, is_added in self._masks():
            mask = mask_of(seed, len(total))
            if is_added:
                total += mask
            else:
                total -= mask
        self._held, self._phase = None, self._after_update()
        return total

    def _channel(self, other: int, sender: int, receiver: int) -> bytes:
        """Return the key that seals what `sender` sends `receiver`, of whom one is `other`."""
        secret = self._own[other]
        return derived(secret, "channel", self._run, self.round, sender, receiver)

    def _context(self, sender: int, receiver: int) -> bytes:
        """Return what a sealed message belongs to."""
        return pack({sender: b""}) + pack({receiver: b""})

    def _source_of(self, number: int) -> bytes:
        """Return the agent's secret of this round with a number: its keys, or a seed."""
        return self._source(self.round, str(number), KEY)

    def _key(self, agent: int, number: int) -> bytes:
        """Return a public key or commitment of an agent on the roster."""
        return self._roster[agent][KEY * number : KEY * (number + 1)]

    @abstractmethod
    def _new_keys(self, round: int) -> bytes:
        """Return the keys that are made public in a round."""

    @abstractmethod
    def _secrets(self) -> Mapping[int, bytes]:
        """Return what every agent on the roster is given, this one included."""

    @abstractmethod
    def _check_given(self) -> None:
        """Raise a `SecureError` unless what others sealed has the right form."""

    @abstractmethod
    def _masks(self) -> list[tuple[bytes, bool]]:
        """Return the seeds of this agent's masks, and whether each is added or taken off."""

    @abstractmethod
    def _after_update(self) -> str:
        """Return what the agent is asked for after its masked vector."""

    def _reveal(self, data: bytes) -> bytes:
        """Return what takes the masks off; only where there is such a phase."""
        raise AssertionError("asked for in a phase that this sum does not have")


_ANSWERS: dict[str, Callable[[Member, bytes], bytes | Ring | None]] = {
    KEYS: Member._take_roster,
    SHARES: Member._take_shares,
    REVEAL: lambda member, data: member._reveal(data),
}


class SharingMember(Member):
    """Additive secret sharing: x = r + sum_v s_v, the share s_v for agent v.

    Every agent sends the sum of the shares that it has, its own r included, so the sum of what all
    send is the sum of all x. The shares are keystreams, so a seed stands for each of them.
    """

    keys: ClassVar[int] = 1
    __slots__ = ()

    @override
    def _new_keys(self, round: int) -> bytes:
        return public_of(self._source(round, "1", KEY))

    @override
    def _secrets(self) -> Mapping[int, bytes]:
        return {agent: self._source(self.round, f"share {agent}", KEY) for agent in self._roster}

    @override
    def _check_given(self) -> None:
        for agent, seed in self._given.items():
            if len(seed) != KEY:
                raise SecureError("malformed", f"the share of agent {agent} is {len(seed)} bytes")

    @override
    def _masks(self) -> list[tuple[bytes, bool]]:
        others = [agent for agent in sorted(self._given) if agent != self._me]
        own = self._secrets()
        return [(self._given[v], True) for v in others] + [(own[v], False) for v in others]

    @override
    def _after_update(self) -> str:
        return ""


class AggregationMember(Member):
    """Secure aggregation: pairwise masks that cancel, and a self mask of which others hold shares.

    Reference: Bonawitz et al., Practical secure aggregation for privacy-preserving machine
        learning, ACM CCS 2017, protocol 1. There is no consistency check: an agent reveals one of
        two shares of every other one, once, and more than two thirds of all must reveal the same,
        so that a coordinator with fewer than a third of the agents on its side never gets both.
    """

    keys: ClassVar[int] = 3
    __slots__ = ()

    @override
    def _new_keys(self, round: int) -> bytes:
        channel, masks = self._source(round, "1", KEY), self._source(round, "2", KEY)
        seed = self._source(round, "3", KEY)
        return public_of(channel) + public_of(masks) + commitment(seed)

    @override
    def _secrets(self) -> Mapping[int, bytes]:
        agents = sorted(self._roster)
        points, t = [agent + 1 for agent in agents], threshold(len(agents))

        def draw(use: str) -> Callable[[int], bytes]:
            return lambda size: self._source(self.round, use, size)

        of_key = split(self._source_of(2), points, t, draw("split key"))
        of_seed = split(self._source_of(3), points, t, draw("split seed"))
        return {a: key + seed for a, key, seed in zip(agents, of_key, of_seed, strict=True)}

    @override
    def _check_given(self) -> None:
        for agent, shares in self._given.items():
            if len(shares) != 2 * SHARE:
                raise SecureError(
                    "malformed", f"the shares of agent {agent} are {len(shares)} bytes"
                )

    @override
    def _masks(self) -> list[tuple[bytes, bool]]:
        found = [(self._source_of(3), True)]
        for agent in sorted(self._given):
            if agent != self._me:
                secret = common(self._source_of(2), self._key(agent, 1))
                found.append(pairwise(secret, self._run, self.round, self._me, agent))
        return found

    @override
    def _after_update(self) -> str:
        return REVEAL

    @override
    def _reveal(self, data: bytes) -> bytes:
        """Return a share of the seed of every living agent, and of the key of every dead one."""
        told = unpack(data)
        if told.keys() != self._given.keys() or not {*told.values()} <= {LIVES, DEAD}:
            raise SecureError(
                "tampered", "expected a word on each agent that went on, and on nobody else"
            )
        living = [agent for agent, word in told.items() if word == LIVES]
        if self._me not in living:
            raise SecureError("tampered", "this agent answered, and is not among the living")
        if len(living) < max(self._minimum, threshold(len(self._roster))):
            raise SecureError(
                "too_few", f"{len(living)} of {len(self._roster)} answered: too few for a sum"
            )
        return pack(
            {
                agent: shares[SHARE:] if told[agent] == LIVES else shares[:SHARE]
                for agent, shares in self._given.items()
            }
        )


def pairwise(
    secret: bytes, run: str, round: int, me: int, other: int, purpose: str = "mask"
) -> tuple[bytes, bool]:
    """Return the seed of the mask of a pair, and whether `me` adds it; the other takes it off."""
    low, high = min(me, other), max(me, other)
    return derived(secret, purpose, run, round, low, high), me == low
