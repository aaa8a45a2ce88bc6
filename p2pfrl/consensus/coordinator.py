"""The coordinator: an agent of the same world that holds a model instead of training one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived
from p2pfrl.consensus.participation.base import MOVES, Participation, Standing
from p2pfrl.consensus.server_optimizers.base import ServerOptimizer
from p2pfrl.consensus.suspicion import scores
from p2pfrl.core.contract import ARRAY_AND_STATE, is_pair, require_like, returned
from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import State, Stateful
from p2pfrl.core.types import (
    COORDINATOR,
    FINAL,
    REVEAL,
    SKIP,
    UPDATE,
    Action,
    Gather,
    Message,
    Mix,
    Port,
    Scores,
    Send,
    Trained,
)
from p2pfrl.core.wire import Encoder
from p2pfrl.exchange.compressors.base import Compressor, Raw
from p2pfrl.exchange.payloads.base import Payload
from p2pfrl.exchange.privacy.base import Plain, Privacy
from p2pfrl.exchange.privacy.ledger import Ledger
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.exchange.secure.hiding import weighed
from p2pfrl.exchange.secure.ring import FixedPoint, Ring


class Witness(Protocol):
    """The writer of the record. Nothing flows back from it."""

    def excused(self, round: int, participants: Sequence[int]) -> None:
        """Model `round` goes out to `participants` only: nobody else ends the round before."""

    def applied(self, agent: int, tau: int) -> None:
        """An update of `agent`, of staleness `tau`, was applied."""

    def judged(self, round: int, scores: Scores) -> None:
        """A robust aggregator met the vectors of `round`: (distance, cosine) by sender."""

    def took_office(self, id: int, epoch: int) -> None:
        """A coordinator or one of its standbys takes office in an epoch."""


class Correction(Protocol):
    """The coordinator's part of a correction of local training (learning/corrections)."""

    extras: ClassVar[int]

    def serve(self, extra: Vector, mean: Vector, share: float) -> Vector:
        """Return the vector that travels beside the next model."""

    def point(self, model: Vector, previous: Vector) -> Vector:
        """Return the point at which agents start to train."""


class Sums(Protocol):
    """The coordinator's part of secure sums (exchange/secure/sums.py)."""

    @property
    def made(self) -> int:
        """Sums that were known."""

    @property
    def given_up(self) -> Mapping[str, int]:
        """Reason -> rounds whose sum was given up."""

    @property
    def refused(self) -> Mapping[str, int]:
        """Reason -> messages that were refused."""

    def relay(self, kind: str, round: int, messages: Mapping[int, bytes]) -> dict[int, bytes]:
        """Return what each agent is sent after the phase of keys, or of shares."""

    def take(self, vectors: Mapping[int, Ring]) -> dict[int, bytes]:
        """Take the masked vectors, by sender; return what the senders are sent."""

    def finish(self, answers: Mapping[int, bytes]) -> tuple[Ring, int]:
        """Return the sum of the vectors that were taken, and how many they are."""

    def lose(self, reason: str) -> None:
        """Count a round whose sum was given up."""

    def save(self) -> State:
        """Return what it remembers."""

    def restore(self, state: State) -> None:
        """Take over a state."""


@dataclass(frozen=True, slots=True)
class CoordinatorRules:
    """The rules, one of every axis, that a coordinator applies.

    Attributes:
        capacities: sender -> its capacity, if the aggregator weighs by it.
        privacy: what may leave of the aggregate.
        ring: how vectors become elements of secure sums; None where they are not hidden.
        compressor: which of the numbers of vectors secure sums have.
    """

    payload: Payload
    aggregator: Aggregator
    optimizer: ServerOptimizer
    correction: Correction
    participation: Participation
    capacities: Mapping[int, float] = field(default_factory=dict)
    privacy: Privacy = field(default_factory=Plain)
    ring: FixedPoint | None = None
    compressor: Compressor = field(default_factory=Raw)


class Coordinator(Stateful):
    """Carries out what a coordinator's schedule decides: aggregate, step, send the model.

    Attributes:
        id: its number, below 0.

    Args:
        model: the first model, `(k,)`.
        agents: number of agents n.
        seed: of the run.
        rules: one of every axis.
        encoder: makes its frames.
        parts: names of the parts in the model.
        port: its world.
        witness: writes the record.
        ledger: pays for its models, where `privacy.is_central`. It outlives the coordinator.
        sums: its part of secure sums; None where it sees every vector.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "model",
        "_previous",
        "_extra",
        "_memory",
        "_state",
        "_repeats",
    )

    def __init__(
        self,
        model: Vector,
        *,
        agents: int,
        seed: int,
        rules: CoordinatorRules,
        encoder: Encoder,
        parts: tuple[str, ...],
        port: Port,
        witness: Witness,
        ledger: Ledger | None = None,
        sums: Sums | None = None,
    ) -> None:
        self.model = model
        self._previous = model
        self._extra = np.zeros(rules.correction.extras * len(model), dtype=model.dtype)
        self._agents = agents
        self._rules = rules
        self._encoder = encoder
        self._parts = parts
        self._port = port
        self._witness = witness
        self._ledger = ledger
        self._sums = sums
        self._seed = seed
        self._clip = rules.privacy.first()
        self._memory = rules.aggregator.init(model)
        self._state = rules.optimizer.init(model)
        self._standing = Standing(seed if ledger is None else ledger.secret(seed), model)
        self._repeats: dict[int, int] = {}
        self.id = encoder.sender
        self._round = 0

    @override
    def save(self) -> State:
        """Return the state: the model, memories of the rules and of agents, and the frames sent."""
        own = {"standing": self._standing.save(), "encoder": self._encoder.save()}
        clip = {"clip": self._clip} if self._rules.privacy.is_central else {}
        sums = {} if self._sums is None else {"sums": self._sums.save()}
        return {**super().save(), **own, **clip, **sums}

    @override
    def restore(self, state: State) -> None:
        """Take over a state."""
        super().restore(state)
        self._standing.restore(state["standing"])
        self._encoder.restore(state["encoder"])
        self._clip = state.get("clip", self._clip)
        if self._sums is not None:
            self._sums.restore(state["sums"])

    def choose(self, round: int, present: Sequence[int]) -> Sequence[int]:
        """Return the agents that are asked to train in `round`."""
        self._standing.model = self.model
        rule = self._rules.participation
        chosen = rule.choose(round, present, self._standing)
        is_list = isinstance(chosen, Sequence | np.ndarray)
        is_enough = is_list and (len(chosen) > 0 or rule.may_choose_nobody)
        is_choice = is_enough and {*chosen} <= {*present}
        expected = f"at least one of the {len(present)} agents that are present"
        drawn = Counter(returned(is_choice, chosen, expected, rule, "choose", self.id))
        self._repeats = {i: times for i, times in drawn.items() if times > 1}
        return sorted(drawn)

    def place(self) -> str:
        """Return the round that it is in, counted from 1 as in the record."""
        return f"round {self._round + 1}"

    def perform(self, action: Action | Trained) -> None:
        """Carry out `Send`, `Gather` and `Mix`."""
        if isinstance(action, Mix | Send | Gather):
            self._round = action.round
        if isinstance(action, Gather):
            self._gather(action)
        elif isinstance(action, Mix) and self._sums is not None:
            self._add_up(action, self._sums)
        elif isinstance(action, Mix):
            if action.received or (self._rules.aggregator.goes_on and self._memory):
                self._aggregate(action)
            elif self._rules.privacy.releases_always:
                self._move(self._aggregated([], action.round), 1.0)
        elif isinstance(action, Send):
            assert action.kind != SKIP, f"agent {COORDINATOR} always has something to say"
            is_last = action.kind == FINAL
            model = (
                self.model if is_last else self._rules.correction.point(self.model, self._previous)
            )
            vector = np.concatenate([model, self._extra])
            if action.asked is not None:
                self._witness.excused(action.round, action.asked)
            for score, to in self._groups(action):
                frame = self._encoder.encode(
                    vector, kind=action.kind, round=action.round, score=score, parts=self._parts
                )
                self._port.send(to, frame)

    def _gather(self, action: Gather) -> None:
        """Tell agents what follows from the messages of a phase of a secure sum."""
        sums = self._sums
        assert sums is not None, "only secure sums have phases"
        if action.kind == UPDATE:
            told, kind = sums.take(_vectors(action.received)), REVEAL
        else:
            told, kind = (
                sums.relay(action.kind, action.round, _contents(action.received)),
                action.kind,
            )
        alike: dict[bytes, list[int]] = {}
        for agent, content in told.items():
            alike.setdefault(content, []).append(agent)
        for content, to in alike.items():
            data = np.frombuffer(content, np.uint8)
            self._port.send(to, self._encoder.encode(data, kind=kind, round=action.round))

    def _add_up(self, action: Mix, sums: Sums) -> None:
        """Move the model to the mean of vectors of which only the sum is known."""
        ring, aggregator = self._rules.ring, self._rules.aggregator
        assert ring is not None
        if not action.received:
            sums.lose("too_few")
            return
        sums.take(_vectors(action.received))
        try:
            total, count = sums.finish(_contents(action.revealed))
        except SecureError:
            action.is_lost = True
            return  # counted; nothing is known, and the model stays
        correction, dtype = self._rules.correction, self.model.dtype
        by_steps = aggregator.reads_samples
        mean, extra = weighed(total, ring, count, by_steps=by_steps, extras=correction.extras)
        compressor, size = self._rules.compressor, len(self.model)
        if compressor.kept(size) != size:
            mean = compressor.scatter(mean, size, self._seed, action.round)
        before = self._move(mean.astype(dtype), 1.0)
        if correction.extras:
            share = count / self._agents
            self._extra = correction.serve(self._extra, extra.astype(dtype), share)
        self._remember(action.received, before)
        for message in action.received:
            self._witness.applied(message.sender, 0)

    def _groups(self, action: Send) -> list[tuple[float, Sequence[int]]]:
        """Return the scores to send, each with its receivers.

        There is one score for all where agents need not know which of their updates counted.
        Otherwise a receiver whose last update did not count gets 1 + the round of the last one that
        did, or -1 if none did.
        """
        if not (self._rules.correction.extras and action.unused):
            return [(0.0, action.to)]
        groups: dict[float, list[int]] = {}
        for i in action.to:
            round = action.unused.get(i)
            score = 0.0 if round is None else -1.0 if round < 0 else round + 1.0
            groups.setdefault(score, []).append(i)
        return sorted(groups.items())

    def _aggregate(self, action: Mix) -> None:
        width = (
            len(action.received[0].payload) // (1 + self._rules.correction.extras)
            if action.received
            else 0
        )
        own = self._rules.capacities
        arrived = [
            Arrived(m.sender, m.payload[:width], m.weight, m.score, own.get(m.sender, 1.0))
            for m in action.received
        ]
        factor = action.factors[0] if action.received else 1.0
        if len(arrived) > 1 and any(f != 1.0 for f in action.factors):
            arrived, factor = self._scaled(arrived, action.factors), 1.0
        rule = self._rules.aggregator
        used = rule.prefer(arrived)
        is_choice = isinstance(used, Sequence | np.ndarray) and {*used} <= {*range(len(arrived))}
        returned(is_choice, used, "positions of received vectors", rule, "prefer", self.id)
        arrived = [arrived[position] for position in used]
        if self._repeats:
            arrived = [a for a in arrived for _ in range(self._repeats.get(a.sender, 1))]
        aggregate = self._aggregated(arrived, action.round)
        if arrived:  # a payload may be longer than the model, and so may the aggregate
            sent = arrived[0].vector
            like = sent if np.shape(aggregate) == sent.shape else self.model
            require_like(aggregate, like, rule, "aggregate", self.id)
        if rule.is_robust and arrived:
            none = self._rules.payload.scaled(aggregate, self.model, 0.0)
            heard = {one.sender: one.vector for one in arrived}
            self._witness.judged(action.round, scores(heard, aggregate, none))
        before = self._move(aggregate, factor)
        if self._rules.correction.extras and action.received:
            extras = np.array([m.payload[width:] for m in action.received])
            self._extra = self._rules.correction.serve(
                self._extra, extras.mean(axis=0), len(extras) / self._agents
            )
        self._remember(action.received, before)
        for position in used:
            self._witness.applied(action.received[position].sender, action.staleness[position])

    def _move(self, aggregate: Vector, factor: float) -> Vector:
        """Move the model as payload and server optimizer say; return the one before."""
        optimizer = self._rules.optimizer
        target = self._rules.payload.target(self.model, aggregate)
        require_like(target, self.model, self._rules.payload, "target", self.id)
        before = self.model
        moved = optimizer.step(self.model, target, factor, self._state)
        returned(is_pair(moved), moved, ARRAY_AND_STATE, optimizer, "step", self.id)
        require_like(moved[0], before, optimizer, "step", self.id)
        self.model, self._state = moved
        self._previous = before
        return before

    def _aggregated(self, arrived: Sequence[Arrived], round: int) -> Vector:
        """Return the aggregate, or what may leave of it."""
        rule, privacy = self._rules.aggregator, self._rules.privacy
        if not privacy.is_central:
            found = rule.aggregate(arrived, self.model, self._memory)
            fits = is_pair(found) and isinstance(found[0], np.ndarray)
            returned(fits, found, "(array, memory)", rule, "aggregate", self.id)
            aggregate, self._memory = found
            return aggregate
        assert self._ledger is not None, "the world of a coordinator with privacy has its ledger"
        changes = [one.vector for one in arrived] or [np.zeros_like(self.model)]
        released = privacy.sum(changes, self._clip, self._ledger, round)
        if released is None:
            return np.zeros_like(changes[0])
        total, self._clip = released
        return (total / privacy.divisor(len(arrived), self._agents)).astype(self.model.dtype)

    def _scaled(self, received: Sequence[Arrived], factors: Sequence[float]) -> list[Arrived]:
        """Return the received payloads, each scaled by its factor."""
        return [
            replace(arrived, vector=self._rules.payload.scaled(arrived.vector, self.model, factor))
            for arrived, factor in zip(received, factors, strict=True)
        ]

    def _remember(self, received: Sequence[Message], before: Vector) -> None:
        """Remember what the choice of participants may depend on."""
        standing = self._standing
        standing.samples = {**standing.samples, **{m.sender: m.weight for m in received}}
        standing.scores = {**standing.scores, **{m.sender: m.score for m in received}}
        standing.trained = {**standing.trained, **{m.sender: before for m in received}}
        if len(before) == len(self.model):
            standing.moves = (
                float(np.square(self.model - before).sum()),
                *standing.moves[: MOVES - 1],
            )


def _contents(messages: Sequence[Message]) -> dict[int, bytes]:
    """Return the bytes of messages that are no vectors, by sender."""
    return {message.sender: message.payload.tobytes() for message in messages}


def _vectors(messages: Sequence[Message]) -> dict[int, Ring]:
    """Return the masked vectors of messages, by sender."""
    return {message.sender: message.payload.view(np.uint64) for message in messages}
