"""The coordinator's part of a secure sum: a state machine without I/O, bytes in and bytes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from typing_extensions import override

from p2pfrl.core.state import Stateful
from p2pfrl.core.types import KEYS
from p2pfrl.exchange.secure.entries import pack, unpack
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.exchange.secure.keys import KEY, common, mask_of, public_of
from p2pfrl.exchange.secure.members import (
    DEAD,
    LIVES,
    AggregationMember,
    Member,
    SharingMember,
    Signer,
    commitment,
    pairwise,
    signed_text,
)
from p2pfrl.exchange.secure.ring import Ring, ring_sum
from p2pfrl.exchange.secure.shamir import ShareError, combine, threshold


class Sums(Stateful, ABC):
    """Relays the messages of a sum, and takes the masks off what arrived.

    Attributes:
        made: sums that were known.
        refused: reason -> messages that were refused; their senders count as absent.
        given_up: reason -> rounds whose sum was given up.

    Args:
        run: name of the run.
        signer: checks the signatures of keys.
    """

    member: ClassVar[type[Member]]
    STATE: ClassVar[tuple[str, ...]] = (
        "made",
        "refused",
        "given_up",
        "_round",
        "_roster",
        "_went_on",
        "_vectors",
    )

    def __init__(self, *, run: str, signer: Signer) -> None:
        self._run, self._signer = run, signer
        self.made = 0
        self.refused: dict[str, int] = {}
        self.given_up: dict[str, int] = {}
        self._round = -1
        self._roster: dict[int, bytes] = {}
        self._went_on: tuple[int, ...] = ()
        self._vectors: dict[int, Ring] = {}

    def relay(self, kind: str, round: int, messages: Mapping[int, bytes]) -> dict[int, bytes]:
        """Return what each agent is sent after the phase of keys, or of shares.

        A sender whose message is refused is sent nothing: it is out of the round.
        """
        return self._of_keys(round, messages) if kind == KEYS else self._of_shares(messages)

    def take(self, vectors: Mapping[int, Ring]) -> dict[int, bytes]:
        """Take the masked vectors, by sender; return what the senders are sent.

        That is nothing where they have nothing to reveal.
        """
        self._vectors = {agent: vectors[agent] for agent in sorted(vectors)}
        return self._question()

    def finish(self, answers: Mapping[int, bytes]) -> tuple[Ring, int]:
        """Return the sum of the vectors that were taken, and how many they are.

        Args:
            answers: what agents revealed, by sender.

        Raises:
            SecureError: it cannot be known, or something is not as it was announced; nothing is
                known of any vector then.
        """
        masked = self._vectors
        self._vectors = {}
        try:
            if not masked:
                raise SecureError("too_few", "no vector arrived")
            lengths = {len(vector) for vector in masked.values()}
            if len(lengths) > 1:
                raise SecureError("malformed", f"vectors of {sorted(lengths)} numbers")
            total = ring_sum(list(masked.values()))
            self._unmask(total, tuple(masked), answers)
        except SecureError as error:
            self.lose(error.reason)
            raise
        self.made += 1
        return total, len(masked)

    def lose(self, reason: str) -> None:
        """Count a round whose sum was given up."""
        self._vectors = {}
        self.given_up = {**self.given_up, reason: self.given_up.get(reason, 0) + 1}

    def _refuse(self, error: SecureError) -> None:
        self.refused = {**self.refused, error.reason: self.refused.get(error.reason, 0) + 1}

    def _of_keys(self, round: int, messages: Mapping[int, bytes]) -> dict[int, bytes]:
        """Return the roster for everyone on it."""
        self._round, self._vectors, self._went_on = round, {}, ()
        size = KEY * self.member.keys
        roster = {}
        for agent, entry in sorted(messages.items()):
            try:
                if len(entry) < size:
                    raise SecureError("malformed", f"keys of {len(entry)} bytes")
                text = signed_text(self._run, round, agent, entry[:size])
                self._signer.verify(agent, text, entry[size:])
            except SecureError as error:
                self._refuse(error)
                continue
            roster[agent] = entry
        self._roster = {agent: entry[:size] for agent, entry in roster.items()}
        told = pack(roster)
        return dict.fromkeys(roster, told)

    def _of_shares(self, messages: Mapping[int, bytes]) -> dict[int, bytes]:
        """Return for every agent what the others sealed for it."""
        sealed: dict[int, dict[int, bytes]] = {}
        for agent, message in sorted(messages.items()):
            try:
                entries = unpack(message)
                if entries.keys() != self._roster.keys() - {agent}:
                    raise SecureError("malformed", "shares for others than those on the roster")
            except SecureError as error:
                self._refuse(error)
                continue
            sealed[agent] = entries
        self._went_on = tuple(sealed)
        return {
            to: pack({agent: entries[to] for agent, entries in sealed.items() if agent != to})
            for to in sealed
        }

    @abstractmethod
    def _question(self) -> dict[int, bytes]:
        """Return what those whose vectors arrived are sent."""

    @abstractmethod
    def _unmask(self, total: Ring, living: tuple[int, ...], answers: Mapping[int, bytes]) -> None:
        """Take the masks off the sum of masked vectors, in place."""


class SharingSums(Sums):
    """Adds what agents send of additive shares; a sum needs everyone who gave shares."""

    member: ClassVar[type[Member]] = SharingMember

    @override
    def _question(self) -> dict[int, bytes]:
        return {}

    @override
    def _unmask(self, total: Ring, living: tuple[int, ...], answers: Mapping[int, bytes]) -> None:
        """Do nothing, if nobody is missing: the shares add up."""
        if missing := [agent for agent in self._went_on if agent not in living]:
            raise SecureError("too_few", f"agents {missing} gave shares and no sum of theirs")


class AggregationSums(Sums):
    """Takes off self masks of the living, and pairwise masks of the living with the dead."""

    member: ClassVar[type[Member]] = AggregationMember

    @override
    def _question(self) -> dict[int, bytes]:
        told = pack({a: LIVES if a in self._vectors else DEAD for a in self._went_on})
        return dict.fromkeys(self._vectors, told)

    @override
    def _unmask(self, total: Ring, living: tuple[int, ...], answers: Mapping[int, bytes]) -> None:
        t = threshold(len(self._roster))
        revealed = self._revealed(living, answers)
        if len(revealed) < t:
            raise SecureError("too_few", f"{len(revealed)} agents revealed shares: expected {t}")
        for agent in self._went_on:
            secret = self._secret(agent, revealed, t)
            own = self._roster[agent]
            if agent in living:
                if commitment(secret) != own[2 * KEY :]:
                    raise SecureError("tampered", f"the shares of agent {agent} give another seed")
                total -= mask_of(secret, len(total))
                continue
            if public_of(secret) != own[KEY : 2 * KEY]:
                raise SecureError("tampered", f"the shares of agent {agent} give another key")
            for other in living:
                shared = common(secret, self._roster[other][KEY : 2 * KEY])
                seed, is_added = pairwise(shared, self._run, self._round, other, agent)
                mask = mask_of(seed, len(total))
                if is_added:
                    total -= mask
                else:
                    total += mask

    def _revealed(
        self, living: tuple[int, ...], answers: Mapping[int, bytes]
    ) -> dict[int, dict[int, bytes]]:
        """Return the answers of right form, by sender."""
        found = {}
        for agent, message in sorted(answers.items()):
            try:
                entries = unpack(message)
                if agent not in living or entries.keys() != {*self._went_on}:
                    raise SecureError("malformed", "shares of others than those who went on")
            except SecureError as error:
                self._refuse(error)
                continue
            found[agent] = entries
        return found

    def _secret(self, agent: int, revealed: Mapping[int, Mapping[int, bytes]], t: int) -> bytes:
        """Return the secret of an agent.

        Raises:
            SecureError: its shares do not belong together.
        """
        try:
            return combine({giver + 1: own[agent] for giver, own in revealed.items()}, t)
        except ShareError as error:
            raise SecureError("tampered", f"shares of agent {agent}: {error}") from error
