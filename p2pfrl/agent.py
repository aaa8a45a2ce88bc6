"""READ FIRST. An agent: one coroutine that carries events to its schedule and carries out what that returns.

    train -> gate -> correct -> privacy -> compress -> send        (Train, Send)
    receive -> decompress -> mix                                   (Mix, Adopt, Answer)

The schedule says when, the rules of the other axes say what, the port is the world: simulated or
real. Nothing here, nor in schedules and rules, knows which. An agent that trains still answers its
neighbors: `Train` returns at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from p2pfrl.consensus.mixing import Mixing
from p2pfrl.core.parameters import Vector
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import (
    REPLY,
    SKIP,
    UPDATE,
    Action,
    Adopt,
    Answer,
    Event,
    Finish,
    Frame,
    Mix,
    Observer,
    Port,
    Schedule,
    Send,
    Started,
    Train,
    Trained,
    WaitUntil,
)
from p2pfrl.core.wire import Encoder
from p2pfrl.exchange.compressors import Compressor
from p2pfrl.exchange.gates import Gate
from p2pfrl.exchange.inbox import Hearing
from p2pfrl.exchange.payloads import Payload, Shared
from p2pfrl.exchange.privacy import Privacy
from p2pfrl.learning.corrections import Correction


async def follow(schedule: Schedule, port: Port, perform: Callable[[Action], None]) -> None:
    """Carry events to `schedule` and its actions to `port` and `perform`, until it finishes."""
    has_finished = _carry_out(Started(), schedule, port, perform)
    while not has_finished:  # no event is kept while the next is awaited
        has_finished = _carry_out(await port.receive(), schedule, port, perform)


def _carry_out(
    event: Event, schedule: Schedule, port: Port, perform: Callable[[Action], None]
) -> bool:
    """Do what `schedule` makes of `event`; return whether it finished."""
    if type(event) is Trained:
        perform(event)  # type: ignore[arg-type]
    for action in schedule.handle(event, port.now()):
        kind = type(action)
        if kind is Train:
            perform(action)
            port.train()
        elif kind is WaitUntil:
            port.wait_until(action.time)  # type: ignore[union-attr]
        elif kind is Finish:
            return True
        else:
            perform(action)
    return False


@dataclass(frozen=True, slots=True)
class Rules:
    """One rule of every axis that an agent applies.

    Attributes:
        seed: of the run.
        score: what receivers rank senders by; None for nothing.
        rate: learning rate times gradient steps of one local update, where that is plain gradient
            descent; else 0.
    """

    seed: int
    payload: Payload
    gate: Gate
    privacy: Privacy
    compressor: Compressor
    mixing: Mixing
    correction: Correction
    order: Literal["adapt_then_combine", "combine_while_adapting"]
    max_staleness: int | None
    score: Callable[[Turn], float] | None = None
    rate: float = 0.0


class Agent:
    """Carries out what its schedule decides.

    Args:
        id: its number, 0 to n-1.
        model: the parameters it shares.
        rules: one of every axis.
        weights: round -> its row of the mixing matrix.
        encoder: makes its frames.
        port: its world.
        observer: writes the record.
    """

    __slots__ = (
        "_encoder",
        "_encoding",
        "_env_steps",
        "_exchanges",
        "_gating",
        "_hearing",
        "_is_open",
        "_loss",
        "_model",
        "_observer",
        "_port",
        "_replies",
        "_returns",
        "_round",
        "_rules",
        "_sent",
        "_start",
        "_state",
        "_updates",
        "_weights",
        "id",
    )

    def __init__(
        self,
        id: int,
        *,
        model: Shared,
        rules: Rules,
        weights: Callable[[int], dict[int, float]],
        encoder: Encoder,
        port: Port,
        observer: Observer,
    ) -> None:
        self.id = id
        self._model = model
        self._rules = rules
        self._weights, self._encoder = weights, encoder
        self._port, self._observer = port, observer
        self._start = rules.payload.read(model)
        self._sent: Vector | None = None
        self._replies: dict[int, Frame] = {}
        remembers = rules.compressor.is_difference or rules.mixing.on_loss == "last_known"
        self._hearing = Hearing(rules.compressor, rules.max_staleness) if remembers else None
        self._exchanges = 0
        self._returns: tuple[float, ...] = ()
        self._begin(self._start, 0)
        rules.correction.begin(model, None, self._start, self._start[:0])
        self._state = rules.mixing.init(self._start)
        self._gating = rules.gate.init(self._start)
        self._encoding = rules.compressor.init(
            rules.mixing.payload(self._see(0, UPDATE), self._state, id)
        )

    def run(self, schedule: Schedule) -> Coroutine[None, None, None]:
        """Return the coroutine that takes part until the schedule finishes."""
        return follow(schedule, self._port, self._perform)

    def _perform(self, action: Action) -> None:
        _ACTIONS[type(action)](self, action)

    def _train(self, action: Train) -> None:
        """Training itself is the port's; its result arrives as `Trained`."""

    def _trained(self, event: Trained) -> None:
        update = event.update
        self._env_steps += update.env_steps
        self._updates += 1
        self._loss = update.loss
        self._returns = (*self._returns, *update.returns)
        self._observer.trained(self.id, update)

    def _send(self, action: Send) -> None:
        if not action.to:
            return
        rules, frame = self._rules, None
        if action.kind != SKIP:
            turn, is_new = self._exchange(action.round, action.kind, action.to)
            if rules.order == "combine_while_adapting" and rules.mixing.is_ordered:
                turn = replace(turn, own=turn.start)
            own, is_open = rules.payload.extract(turn), True
            if is_new:
                is_open, self._gating = rules.gate.decide(own, turn, self._gating)
            if own is not turn.own:
                turn = replace(turn, own=own)
            if is_open and rules.mixing.is_per_neighbor:
                for j in action.to:
                    self._port.send((j,), self._frame(turn, j, is_new))
                return
            frame = self._frame(turn, action.to[0], is_new) if is_open else None
        self._port.send(
            action.to, frame or self._encoder.encode(None, kind=SKIP, round=action.round)
        )

    def _frame(self, turn: Turn, to: int, is_new: bool) -> Frame:
        """Return the frame for `to`. Where frames say what changed, one that is sent again says everything."""
        rules = self._rules
        encoding, data = "raw", self._sent
        if is_new or data is None:
            vector = rules.mixing.payload(turn, self._state, to)
            extra = (
                rules.correction.extra(self._see(turn.round, turn.kind))
                if rules.correction.extras
                else None
            )
            if extra is not None:
                vector = np.concatenate([vector, extra])
            made = rules.compressor.encode(rules.privacy.release(vector), turn, self._encoding)
            encoding, data, self._encoding = rules.compressor.encoding, made.data, made.state
            if rules.compressor.is_difference:
                self._sent = made.known
        return self._encoder.encode(
            data,
            kind=turn.kind,
            round=turn.round,
            weight=float(turn.env_steps),
            score=rules.score(turn) if rules.score else 0.0,
            encoding=encoding,
            parts=rules.payload.parts(self._model.parts),
        )

    def _mix(self, action: Mix) -> None:
        if not action.active:
            self._round, self._is_open = action.round + 1, False
            self._observer.sat_out(self.id, action.round)
            return
        rules, (turn, _) = self._rules, self._exchange(action.round, UPDATE)
        received = (
            {m.sender: m.payload for m in action.received}
            if self._hearing is None
            else self._hearing.decode(action.received)
        )
        staleness = {
            m.sender: tau for m, tau in zip(action.received, action.staleness, strict=True)
        }
        if rules.payload.is_averaged:
            factors = {
                m.sender: f
                for m, f in zip(action.received, action.factors, strict=True)
                if m.sender in received
            }
            mixed = self._average(turn, received, factors)
        else:
            assert rules.payload.tells is not None
            self._model.take(rules.payload.tells, received)
            mixed = turn.own
        self._end_round(turn, staleness, mixed, mixed[:0])

    def _average(
        self, turn: Turn, received: dict[int, Vector], factors: dict[int, float]
    ) -> Vector:
        """Return the agent's vector, mixed with those it received."""
        mixing, row = self._rules.mixing, self._weights(turn.round)
        if mixing.on_loss == "last_known" and self._hearing is not None:
            known = self._hearing.stand_in(turn.round, row, received)
            received |= known
            factors |= dict.fromkeys(known, 1.0)
        weights = mixing.effective(row, self.id, factors)
        if self._rules.order == "combine_while_adapting" and mixing.is_ordered:
            mixed, self._state = mixing.mix(
                replace(turn, own=turn.start), received, weights, self._state
            )
            mixed += turn.own - turn.start
        else:
            mixed, self._state = mixing.mix(turn, received, weights, self._state)
        return mixed

    def _answer(self, action: Answer) -> None:
        """Answer a neighbor that asked: send what one has, then move toward what it has."""
        rules, message = self._rules, action.message
        if not action.again:
            self._exchanges += 1
            turn = self._see(message.round, REPLY)
            self._replies[message.sender] = self._frame(turn, message.sender, True)
            after = rules.mixing.answer(turn, message.payload)
            rules.payload.write(self._model, after)
            self._start = self._start + (after - turn.own)  # own - start remains what training did
            self._observer.answered(self.id, turn.own, after)
        self._port.send((message.sender,), self._replies[message.sender])

    def _adopt(self, action: Adopt) -> None:
        rules, model = self._rules, action.message.payload
        width = len(model) // (1 + rules.correction.extras)
        if action.round >= 0:
            self._end_round(self._see(action.round, UPDATE), {}, model[:width], model[width:])
        else:
            rules.payload.write(self._model, model[:width])
            self._begin(model[:width], 0)
            rules.correction.begin(self._model, None, model[:width], model[width:])

    def _end_round(
        self, turn: Turn, staleness: Mapping[int, int], after: Vector, extra: Vector
    ) -> None:
        rules = self._rules
        rules.payload.write(self._model, after)
        rules.correction.begin(self._model, turn, after, extra)
        self._begin(after, turn.round + 1)
        self._observer.mixed(self.id, turn.round, staleness, turn.own, after)

    def _begin(self, start: Vector, round: int) -> None:
        """A round begins at `start`."""
        self._start, self._round, self._is_open = start, round, False
        self._env_steps = self._updates = 0
        self._loss = 0.0
        self._returns = ()

    def _exchange(self, round: int, kind: str, to: Sequence[int] = ()) -> tuple[Turn, bool]:
        """Return the exchange of `round`, and whether it has only now begun: neither sent before, nor over."""
        turn = self._see(round, kind, to)
        is_new = not self._is_open and round >= self._round
        if is_new:
            self._is_open = True
            self._exchanges += 1
            self._state = self._rules.mixing.prepare(turn, self._state)
        return turn, is_new

    def _see(self, round: int, kind: str, to: Sequence[int] = ()) -> Turn:
        """Return what the rules see now."""
        rules = self._rules
        return Turn(
            self.id,
            round,
            kind,
            self._start,
            rules.payload.read(self._model),
            self._env_steps,
            self._loss,
            self._returns,
            rules.rate * self._updates,
            (rules.seed, self.id, self._exchanges),
            self._model,
            self._sent,
            to,
        )


_ACTIONS: dict[type, Callable[[Agent, Any], None]] = {
    Train: Agent._train,
    Trained: Agent._trained,
    Send: Agent._send,
    Mix: Agent._mix,
    Adopt: Agent._adopt,
    Answer: Agent._answer,
}
