"""READ FIRST. An agent carries out what its schedule decides.

The loop between them is core/actor.py.

    Send        own vector -> privacy -> order (before or after training) -> payload.extract -> gate
                -> mixing.payload -> + correction.extra -> privacy -> (attack) -> compressor -> port
    Mix, Adopt  inbox decodes -> mixing averages, or the model of a coordinator -> next round
    Answer      a neighbor asked in a pairwise exchange: reply, then move toward it
    Respond     the coordinator goes on with a secure sum: answer as the agent's part in it says

`mixing.prepare` runs once per exchange, before the first payload. So does `privacy.protect`, before
it: all that is sent is made of what it returns.

The schedule decides when, and the rules of the other axes decide what. The port is the world,
simulated or real; this module, the schedules and the rules do not know which. An agent that trains
still answers its neighbors: `Train` returns at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from typing_extensions import override

from p2pfrl.consensus.mixing.base import Mixing, Weights
from p2pfrl.consensus.mixing.order import ORDERS
from p2pfrl.consensus.suspicion import scores
from p2pfrl.core.contract import is_vector, require_like, returned
from p2pfrl.core.errors import AgentError, RecordError
from p2pfrl.core.needs import Need
from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import State, Stateful
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import (
    COORDINATOR,
    KEYS,
    REPLY,
    SKIP,
    UPDATE,
    Action,
    Adopt,
    Answer,
    Blend,
    Frame,
    Mix,
    Observer,
    Port,
    Respond,
    Send,
    Train,
    Trained,
)
from p2pfrl.core.wire import Encoder
from p2pfrl.exchange.attacks.attacker import Attacker
from p2pfrl.exchange.compressors.base import Compressor, Raw
from p2pfrl.exchange.gates.base import Always, Gate
from p2pfrl.exchange.inbox import PLAIN, Inbox, RememberingInbox
from p2pfrl.exchange.outbox import KEPT, Hiding, Outbox, Sent
from p2pfrl.exchange.payloads.base import Parameters, Payload, Shared
from p2pfrl.exchange.privacy.base import Plain, Privacy
from p2pfrl.exchange.privacy.ledger import Ledger
from p2pfrl.exchange.secure.base import Secure, Visible
from p2pfrl.exchange.secure.hiding import OfCircle, OfMember
from p2pfrl.learning.corrections.base import Correction

_VISIBLE = Visible()


@dataclass(frozen=True, slots=True)
class Rules:
    """One rule of every axis that an agent applies.

    Attributes:
        seed: of the run.
        order: with "adapt_then_combine" the vector after training is sent and mixed.
            With "combine_while_adapting" the vector before training is, and the local change is
            added to the result.
        max_staleness: rounds after which an earlier payload does not stand in for a missing one.
        score: what receivers rank senders by; None for nothing.
        rate: learning rate times gradient steps of one local update, where that is plain gradient
            descent; else 0. `Turn.rate` is this times the updates since the last exchange.
        need_every_message: whether agents wait for neighbors that are down, and send them again
            what they missed.
        send_own_vector: whether an agent sends its own vector every time, and no rule changes it on
            its way.

    The other attributes are the rules, one of each axis.
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
    secure: Secure = _VISIBLE
    need_every_message: bool = field(init=False)
    send_own_vector: bool = field(init=False)

    def __post_init__(self) -> None:
        # All agents share one object, so what follows from the rules is found once.
        mixing = type(self.mixing)
        own = (self.mixing, self.compressor, self.privacy, self.gate, self.correction, self.secure)
        every = any(rule.has_need(Need.EVERY_MESSAGE) for rule in own)
        object.__setattr__(self, "need_every_message", every)
        sends_own = (
            self.order == "adapt_then_combine"
            and type(self.payload) is Parameters
            and type(self.gate) is Always
            and mixing.payload is Mixing.payload
            and not mixing.is_per_neighbor
            and not self.correction.extras
            and type(self.privacy) is Plain
            and type(self.compressor) is Raw
        )
        object.__setattr__(self, "send_own_vector", sends_own)

    def inbox(self) -> Inbox:
        """Return an inbox that remembers what these rules need."""
        stands_in = self.mixing.on_loss == "last_known"
        if not (stands_in or self.compressor.is_difference):
            return PLAIN
        return RememberingInbox(self.compressor, self.max_staleness, stands_in=stands_in)

    def outbox(
        self,
        encoder: Encoder,
        parts: tuple[str, ...],
        attacker: Attacker | None = None,
        hiding: Hiding | None = None,
    ) -> Outbox:
        """Return an outbox with these rules, for payloads of the shared `parts`."""
        kept = KEPT if self.need_every_message else 0
        return Outbox(self, encoder, self.payload.parts(parts), kept, attacker, hiding)


_SPENT = (
    "its privacy budget is spent, and its neighbors need every message: raise privacy.budget or privacy.releases, "
    "or use rules that do without a missing message"
)


class Agent(Stateful):
    """Carries out what its schedule decides.

    Its memory is a value: `save` returns it, `restore` takes it over. Its parameters are not part
    of it; the trainer has them.

    Attributes:
        has_begun_exchange: whether the exchange of this round has begun. If the rules need every
            message, the outbox then holds its frames, and a restart sends them again, because they
            may not have left.

    Args:
        id: its number, 0 to n-1.
        model: the parameters it shares.
        rules: one of every axis.
        weights: round -> its row of the mixing matrix.
        encoder: makes its frames.
        port: its world.
        observer: writes the record.
        attacker: replaces the vectors in its messages; None for an honest agent.
        ledger: pays for what leaves, where `privacy.is_accounted`. It outlives the agent, so it is
            no part of its memory.
        hiding: its part in secure sums; None where receivers may see its vectors.
    """

    __slots__ = (
        "_env_steps",
        "_exchanges",
        "_inbox",
        "_ledger",
        "_loss",
        "_mixing_state",
        "_model",
        "_number",
        "_observer",
        "_outbox",
        "_own",
        "_port",
        "_returns",
        "_round",
        "_rules",
        "_sends_itself",
        "_start",
        "_trains",
        "_updates",
        "_weights",
        "has_begun_exchange",
        "id",
    )
    _start: Vector
    _returns: tuple[float, ...]
    _env_steps: int
    _updates: int
    _exchanges: int
    """Exchanges that have begun, answers included."""
    _number: int
    """Number of the round's exchange among them; of the last round's where none has begun."""
    _own: Vector | None
    """Its vector as it was last read; None where that may have changed since."""
    STATE: ClassVar[tuple[str, ...]] = (
        "_start",
        "_round",
        "has_begun_exchange",
        "_exchanges",
        "_number",
        "_mixing_state",
        "_env_steps",
        "_updates",
        "_loss",
        "_returns",
    )

    def __init__(
        self,
        id: int,
        *,
        model: Shared,
        rules: Rules,
        weights: Callable[[int], Weights],
        encoder: Encoder,
        port: Port,
        observer: Observer,
        attacker: Attacker | None = None,
        ledger: Ledger | None = None,
        hiding: Hiding | None = None,
    ) -> None:
        self.id = id
        self._model, self._rules, self._weights = model, rules, weights
        self._port, self._observer = port, observer
        self._ledger = ledger
        self._inbox = rules.inbox()
        self._outbox = rules.outbox(encoder, model.parts, attacker, hiding)
        self._sends_itself = rules.send_own_vector and attacker is None and hiding is None
        self._exchanges = self._number = 0
        self._own, self._trains = None, False
        start = rules.payload.read(model)
        no_extra = start[:0]
        self._begin_round(0, start, no_extra, ended=None)
        self._mixing_state = state = rules.mixing.init(start)
        returned(state is not None, state, "a state", rules.mixing, "init", id)
        # Only its length matters: the compressor sizes its memory by it. Some payloads are longer.
        like_all = rules.mixing.payload(self._turn(0, UPDATE), self._mixing_state, id)
        more = (rules.payload.size(len(start), None) or len(start)) - len(start)
        self._outbox.begin(start, np.pad(like_all, (0, more)) if more > 0 else like_all)

    @override
    def save(self) -> State:
        """Return everything the agent remembers, what its inbox and outbox remember included."""
        releases = {} if self._ledger is None else {"releases": self._ledger.releases}
        boxes = {"inbox": self._inbox.save(), "outbox": self._outbox.save()}
        return {**super().save(), **boxes, **releases}

    @override
    def restore(self, state: State) -> None:
        """Take over what an agent of the same rules remembered.

        Raises:
            RecordError: it had released more than its ledger knows of.
        """
        if self._ledger is not None and state["releases"] > self._ledger.releases:
            raise RecordError(
                f"agent {self.id} had made {state['releases']} releases, and its ledger has {self._ledger.releases}: "
                "what it has spent is not known; restore the ledger, or begin anew with another --out"
            )
        super().restore(state)
        self._own, self._trains = None, True  # at least it may train
        self._inbox.restore(state["inbox"])
        self._outbox.restore(state["outbox"])

    def place(self) -> str:
        """Return the round that it is in, counted from 1 as in the record."""
        return f"round {self._round + 1}"

    @property
    def round(self) -> int:
        """How many rounds it has ended."""
        return self._round

    def outgoing(self) -> Vector:
        """Return the vector `(k,)` that it would send if it sent now, without attacks."""
        rules = self._rules
        return rules.payload.extract(ORDERS[rules.order].outgoing(self._turn(self._round, UPDATE)))

    def perform(self, action: Action | Trained) -> None:
        """Carry out an action of the schedule, or note what training produced."""
        _ACTIONS[type(action)](self, action)

    def _train(self, action: Train) -> None:
        """Note that the vector may change: the port trains, and its result arrives as `Trained`."""
        self._own, self._trains = None, True

    def _trained(self, event: Trained) -> None:
        assert not (self._rules.privacy.is_accounted and self.has_begun_exchange), (
            "nothing is learned between a release and the end of its exchange"
        )
        self._own, self._trains = None, False
        update = event.update
        self._env_steps += update.env_steps
        self._updates += 1
        self._loss = update.loss
        self._returns = (*self._returns, *update.returns)
        self._observer.trained(self.id, update)

    def _send(self, action: Send) -> None:
        """Send a payload to each receiver.

        A skip is sent where the schedule says so or the gate is closed.
        """
        if not action.to:
            return
        if action.epoch:
            self._outbox.stamp(action.epoch)
        if action.kind == SKIP:
            frames: Iterable[Sent] = [(action.to, self._outbox.skip(action.round))]
        elif action.kind == KEYS:
            keys = self._member.keys(action.round)
            frames = [(action.to, self._content(keys, KEYS, action.round))]
        elif self._outbox.has(action.round):
            # Receivers may have used a copy already, so what was sent is sent again, unchanged.
            frames = self._outbox.again(action.round, action.to)
        else:
            frames = self._frames(action)
        for to, frame in frames:
            self._port.send(to, frame)

    def _frames(self, action: Send) -> Sequence[Sent]:
        """Return frames of the payload, or of a skip where the gate is closed."""
        turn, is_new = self._exchange(action.round, action.kind, action.to)
        if self._sends_itself:
            frames: Sequence[Sent] = [(action.to, self._outbox.itself(turn))]
        elif self._rules.privacy.is_accounted and not self._may_send:
            return [(action.to, self._outbox.skip(action.round))]
        else:
            frames = self._payloads(action, turn, is_new=is_new)
        if is_new and frames and self._outbox.keep(action.round, frames):
            # Write-ahead: an observer may save the agent here, and a restart sends the kept frames
            # again. So nothing may leave before.
            self._observer.sending(self.id, action.round)
        return frames

    def _payloads(self, action: Send, turn: Turn, *, is_new: bool) -> Sequence[Sent]:
        """Return the frames that the rules make of an exchange, which may be new."""
        rules = self._rules
        sent_turn = ORDERS[rules.order].outgoing(turn)
        vector = rules.payload.extract(sent_turn)
        returned(is_vector(vector), vector, "a vector", rules.payload, "extract", self.id)
        # The gate is asked once per exchange: a neighbor that comes back gets the payload anyway.
        if is_new and not self._outbox.admits(vector, sent_turn):
            return [(action.to, self._outbox.skip(action.round))]
        if vector is not sent_turn.own:
            sent_turn = replace(sent_turn, own=vector)
        # Without per-neighbor payloads one frame serves all: any receiver stands for them.
        attacker = self._outbox.attacker
        differs = attacker is not None and attacker.is_per_receiver(turn.round)
        hiding = self._outbox.hiding
        is_hidden = hiding is not None and hiding.is_per_receiver
        is_each = rules.mixing.is_per_neighbor or differs or is_hidden
        groups: Sequence[Sequence[int]] = [(j,) for j in action.to] if is_each else [action.to]
        made = ((to, self._frame(turn, sent_turn, to[0])) for to in groups)
        return [(to, frame) for to, frame in made if frame is not None]

    def _frame(self, turn: Turn, sent_turn: Turn, to: int) -> Frame | None:
        """Return the frame for `to`; None where it cannot leave yet.

        `turn` has the agent's own vector, `sent_turn` what order and payload made of it to send.
        """
        mixing = self._rules.mixing
        payload = mixing.payload(sent_turn, self._mixing_state, to)
        returned(is_vector(payload), payload, "a vector", mixing, "payload", self.id)
        return self._outbox.frame(payload, sent_turn, turn, to)

    @property
    def _member(self) -> OfMember:
        """The agent's part in the sums of a coordinator."""
        hiding = self._outbox.hiding
        assert isinstance(hiding, OfMember), "asked for where no sum has phases"
        return hiding

    def _respond(self, action: Respond) -> None:
        """Answer the coordinator of a secure sum; say that the round is over where it is."""
        message = action.message
        kind, content = self._member.respond(message)
        if kind and content is None:
            return
        if isinstance(content, bytes | None):
            frame = self._content(content, kind, message.round)
        else:
            frame = self._outbox.masked(content, kind, message.round)
        self._port.send((message.sender,), frame)

    def _content(self, content: bytes | None, kind: str, round: int) -> Frame:
        """Return a frame of a message of a secure sum, or of a skip."""
        outbox = self._outbox
        return outbox.skip(round) if content is None else outbox.content(content, kind, round)

    def _mix(self, action: Mix) -> None:
        """End a round with what arrived."""
        if not action.active:
            # Nothing was exchanged: start, steps, returns and updates count on until the next
            # exchange.
            self._round, self.has_begun_exchange = action.round + 1, False
            self._observer.sat_out(self.id, action.round)
            return
        turn, _ = self._exchange(action.round, UPDATE)
        received = self._inbox.decode(action.received)
        senders: Iterable[int] = received
        if len(received) < len(action.received):  # some could not be decoded
            senders = [m.sender for m in action.received]
        staleness = dict(zip(senders, action.staleness, strict=True))
        if self._rules.payload.is_averaged:
            if self._outbox.hiding is None:  # else nobody knows what single agents sent
                self._model.hear(received)
                if self._outbox.attacker is not None:
                    self._outbox.attacker.hear(received)
            factors = dict(zip(senders, action.factors, strict=True))
            if len(received) < len(factors):
                factors = {j: factor for j, factor in factors.items() if j in received}
            mixed = self._average(turn, received, factors)
        else:
            assert self._rules.payload.offer is not None
            self._model.receive(self._rules.payload.offer, received)
            mixed = turn.own
        self._end_round(turn, staleness, mixed, mixed[:0])

    def _average(
        self, turn: Turn, received: dict[int, Vector], factors: dict[int, float]
    ) -> Vector:
        """Return the agent's vector, mixed with those it received.

        Stand-ins for missing vectors count in full and are not in the recorded staleness.
        """
        mixing, row = self._rules.mixing, self._weights(turn.round)
        stand_ins = self._inbox.stand_ins(turn.round, row, received)
        if stand_ins:
            received = received | stand_ins
            factors = factors | dict.fromkeys(stand_ins, 1.0)
        weights = mixing.effective(row, self.id, factors)
        if isinstance(hiding := self._outbox.hiding, OfCircle):
            received, weights = hiding.opened(received, row, turn.own)
        order = ORDERS[self._rules.order]
        mixed, self._mixing_state = order.combine(
            mixing, turn, received, weights, self._mixing_state
        )
        if mixing.is_robust:
            chosen = mixed - (turn.own - order.outgoing(turn).own)
            heard = {j: received[j] for j in weights if j != self.id}
            self._observer.judged(turn.round, scores(heard, chosen, turn.start))
        return mixed

    def _answer(self, action: Answer) -> None:
        """Answer a neighbor that asked: send the own vector, then move toward the neighbor's.

        This bypasses inbox, order, extract and gate, because pairwise rules need the parameters
        themselves, exact messages and whole exchanges (consensus/mixing/pairwise.py).
        """
        rules, message = self._rules, action.message
        if not action.again:
            turn = self._turn(message.round, REPLY, number=self._exchanges)
            self._exchanges += 1
            reply = self._frame(turn, turn, message.sender)
            assert reply is not None, "pairwise exchanges are in the clear"
            self._outbox.remember(message.sender, reply)
            self._model.hear({message.sender: message.payload})
            if self._outbox.attacker is not None:
                self._outbox.attacker.hear({message.sender: message.payload})
            after = rules.mixing.answer(turn, message.payload)
            require_like(after, turn.own, rules.mixing, "answer", self.id)
            self._write(after)
            self._start = self._start + (after - turn.own)  # own - start remains what training did
            self._observer.answered(self.id, turn.own, after)
        self._port.send((message.sender,), self._outbox.reply(message.sender))

    def _blend(self, action: Blend) -> None:
        """Move to the average with neighbors while there is no coordinator; no round ends."""
        rules = self._rules
        turn = self._turn(action.round, UPDATE)
        received = self._inbox.decode(action.received)
        row = self._weights(turn.round)
        weights = rules.mixing.effective(row, self.id, dict.fromkeys(received, 1.0))
        self._model.hear(received)
        after = turn.own * turn.own.dtype.type(weights[self.id])
        for sender, vector in received.items():
            after = after + vector * vector.dtype.type(weights[sender])
        self._write(after)
        self._start = self._start + (after - turn.own)  # own - start remains what training did
        self._observer.answered(self.id, turn.own, after)

    def _adopt(self, action: Adopt) -> None:
        """Replace the shared vector by a coordinator's model."""
        rules, model = self._rules, action.message.payload
        # Without rounds the same model may come again: what is trained from it is another exchange.
        self._outbox.forget(action.message.round)
        # The message holds the model and `extras` vectors as long as it (see `Correction.serve`).
        width = len(model) // (1 + rules.correction.extras)
        # All that it knows of the others is the model, which they begin with, too.
        self._model.hear(dict.fromkeys(self._model.companions, model[:width]))
        if self._outbox.attacker is not None:
            self._outbox.attacker.hear({COORDINATOR: model[:width]})
        is_first = action.round < 0
        if is_first:  # there is no round to end
            self._write(model[:width])
            self._begin_round(0, model[:width], model[width:], ended=None)
        else:
            turn = replace(self._turn(action.round, UPDATE), used=action.used)
            self._end_round(turn, {}, model[:width], model[width:])

    def _end_round(
        self, turn: Turn, staleness: Mapping[int, int], after: Vector, extra: Vector
    ) -> None:
        """Take `after` as the shared vector, and begin the next round.

        The observer comes last: it may save the agent, which must be in the next round by then.
        `extra` came beside the coordinator's model.
        """
        self._write(after)
        self._begin_round(turn.round + 1, after, extra, ended=turn)
        self._observer.mixed(self.id, turn.round, staleness, turn.own, after)

    def _begin_round(self, round: int, start: Vector, extra: Vector, ended: Turn | None) -> None:
        """Begin a round at `start`, after the exchange `ended`; None before the first."""
        self._rules.correction.begin(self._model, ended, start, extra)
        self._own = None
        self._start, self._round, self.has_begun_exchange = start, round, False
        self._env_steps = self._updates = 0
        self._loss = 0.0
        self._returns = ()

    def _write(self, vector: Vector) -> None:
        """Take over a vector as the one that is shared."""
        self._rules.payload.write(self._model, vector)
        self._own = None

    def _exchange(self, round: int, kind: str, to: Sequence[int] = ()) -> tuple[Turn, bool]:
        """Return the exchange of `round`, and whether this call began it.

        An exchange begins once, when its payload is made, or in `_mix` where none was. An earlier
        round, which a neighbor that comes back asks for, begins nothing.
        """
        is_new = not self.has_begun_exchange and round >= self._round
        if is_new:  # numbered first: what an exchange sends, sends again and mixes has one key
            self.has_begun_exchange = True
            self._number = self._exchanges
            self._exchanges += 1
            if self._rules.privacy.is_accounted:
                self._protect(round)
        turn = self._turn(round, kind, to)
        if is_new:
            mixing = self._rules.mixing
            state = mixing.prepare(turn, self._mixing_state)
            returned(state is not None, state, "a state", mixing, "prepare", self.id)
            self._mixing_state = state
        return turn, is_new

    def _protect(self, round: int) -> None:
        """Replace what training changed since the last exchange by what may leave of it.

        Raises:
            AgentError: the budget is spent, and neighbors need every message.
        """
        rules, ledger = self._rules, self._ledger
        assert ledger is not None, "the world of an agent with accounted privacy has its ledger"
        takes_steps = not rules.payload.needs_gradient
        learned = self._turn(round, UPDATE)
        change = learned.own - learned.start if takes_steps else rules.payload.extract(learned)
        released = rules.privacy.protect(change, ledger, round)
        if released is None:
            if rules.need_every_message:
                raise AgentError(self.id, _SPENT)
            return
        require_like(released, change, rules.privacy, "protect", self.id)
        if takes_steps:
            self._write(self._start + released)
        else:
            self._model.store("gradient", released)
            self._own = None

    @property
    def _may_send(self) -> bool:
        """Whether what the agent holds now may leave.

        Not if its budget is spent, and not between exchanges: it may have learned since the last.
        """
        assert self._ledger is not None
        return self.has_begun_exchange and not self._ledger.is_closed

    def _turn(
        self, round: int, kind: str, to: Sequence[int] = (), number: int | None = None
    ) -> Turn:
        """Return what the rules see now.

        `number` is that of the exchange, where it is not the one of this round.
        """
        rules = self._rules
        own = self._own
        if own is None:
            own = rules.payload.read(self._model).view()
            own.setflags(write=False)  # rules return new arrays
            if not self._trains:  # else the result of training may come at any time
                self._own = own
        # By position, which is twice as fast: an agent has two turns in a round.
        return Turn(
            self.id,
            round,
            kind,
            self._start,
            own,
            self._env_steps,
            self._loss,
            self._returns,
            rules.rate * self._updates,
            (rules.seed, self.id, self._number if number is None else number),
            self._model,
            self._outbox.known,
            to,
        )


_ACTIONS: dict[type, Callable[[Agent, Any], None]] = {
    Train: Agent._train,
    Trained: Agent._trained,
    Send: Agent._send,
    Mix: Agent._mix,
    Adopt: Agent._adopt,
    Answer: Agent._answer,
    Blend: Agent._blend,
    Respond: Agent._respond,
}
