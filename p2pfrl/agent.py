"""READ FIRST. An agent: one coroutine that carries events to its schedule and carries out what that returns.

    train -> gate -> privacy -> compress -> send        (Train, Send)
    receive -> decompress -> mix                         (Mix, Adopt)

The schedule says when, the rules of the other axes say what, the port is the world: simulated or real. Nothing here,
nor in schedules and rules, knows which. An agent that trains still answers its neighbors: `Train` returns at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from p2pfrl.consensus.mixing import Mixing
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import (
    SKIP,
    Action,
    Adopt,
    Event,
    Finish,
    Message,
    Mix,
    Port,
    Schedule,
    Send,
    Started,
    Train,
    Trained,
    Update,
    WaitUntil,
)  # fmt: skip
from p2pfrl.core.wire import Encoder
from p2pfrl.exchange.compressors import Compressor
from p2pfrl.exchange.gates import Gate
from p2pfrl.exchange.payloads import Payload
from p2pfrl.exchange.privacy import Privacy


async def follow(schedule: Schedule, port: Port, perform: Callable[[Action], None]) -> None:
    """Carry events to `schedule` and its actions to `port` and `perform`, until it finishes."""
    has_finished = _carry_out(Started(), schedule, port, perform)
    while not has_finished:  # no event is kept while the next is awaited
        has_finished = _carry_out(await port.receive(), schedule, port, perform)


def _carry_out(event: Event, schedule: Schedule, port: Port, perform: Callable[[Action], None]) -> bool:
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


class Observer(Protocol):
    """Whoever writes the record. Nothing flows back from it."""

    def trained(self, agent: int, update: Update) -> None:
        """A local update ended."""

    def mixed(self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector) -> None:
        """A round of `agent` ended: mixing moved its shared vector from `before` to `after`."""

    def sat_out(self, agent: int, round: int) -> None:
        """A round of `agent` ended in which it took no part."""


class Shared(Protocol):
    """The vector an agent shares (learning/model.py)."""

    parts: tuple[str, ...]

    def shared(self) -> Vector:
        """Return it, a new array."""

    def replace(self, vector: Vector) -> None:
        """Put it back."""


@dataclass(frozen=True, slots=True)
class Rules:
    """One rule of every axis that an agent applies."""

    payload: Payload
    gate: Gate
    privacy: Privacy
    compressor: Compressor
    mixing: Mixing
    order: Literal["adapt_then_combine", "combine_while_adapting"]
    max_staleness: int | None


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
        "_encoder", "_env_steps", "_known", "_model", "_observer", "_port", "_rules", "_start", "_state", "_weights",
        "id",
    )  # fmt: skip

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
        self._weights = weights
        self._encoder = encoder
        self._port = port
        self._observer = observer
        self._start = model.shared()
        self._state = rules.mixing.init(self._start)
        self._env_steps = 0
        self._known: dict[int, Message] = {}

    def run(self, schedule: Schedule) -> Coroutine[None, None, None]:
        """Return the coroutine that takes part until the schedule finishes."""
        return follow(schedule, self._port, self._perform)

    def _perform(self, action: Action) -> None:
        _ACTIONS[type(action)](self, action)

    def _train(self, action: Train) -> None:
        """Training itself is the port's; its result arrives as `Trained`."""

    def _trained(self, event: Trained) -> None:
        self._env_steps += event.update.env_steps
        self._observer.trained(self.id, event.update)

    def _send(self, action: Send) -> None:
        rules, frame = self._rules, None
        if action.kind != SKIP:
            own = self._start if rules.order == "combine_while_adapting" else self._model.shared()
            payload = rules.payload.extract(self._start, rules.mixing.payload(own, self._state))
            if rules.gate.is_open(payload):
                encoding, payload = rules.compressor.encode(rules.privacy.release(payload))
                frame = self._encoder.encode(
                    payload, kind=action.kind, round=action.round, weight=float(self._env_steps),
                    encoding=encoding, parts=rules.payload.parts(self._model.parts),
                )  # fmt: skip
        if frame is None:
            frame = self._encoder.encode(None, kind=SKIP, round=action.round)
        self._port.send(action.to, frame)

    def _mix(self, action: Mix) -> None:
        if not action.active:
            self._observer.sat_out(self.id, action.round)
            return
        rules, own = self._rules, self._model.shared()
        factors = {m.sender: factor for m, factor in zip(action.received, action.factors, strict=True)}
        received = {m.sender: rules.compressor.decode(m.payload) for m in action.received}
        row = self._weights(action.round)
        if rules.mixing.on_loss == "last_known":
            self._stand_in(action, row, factors, received)
        weights = rules.mixing.effective(row, self.id, factors)
        if rules.order == "combine_while_adapting":
            mixed, self._state = rules.mixing.mix(self._start, received, weights, self._state)
            mixed += own - self._start
        else:
            mixed, self._state = rules.mixing.mix(own, received, weights, self._state)
        staleness = {m.sender: tau for m, tau in zip(action.received, action.staleness, strict=True)}
        self._end_round(action.round, staleness, own, mixed)

    def _stand_in(
        self, action: Mix, row: dict[int, float], factors: dict[int, float], received: dict[int, Vector]
    ) -> None:
        """Let the last payload of a neighbor stand in for a missing one while it is fresh enough."""
        for message in action.received:
            self._known[message.sender] = message
        for sender in row:
            known = self._known.get(sender)
            if sender in received or known is None:
                continue
            limit = self._rules.max_staleness
            if limit is None or action.round - known.round <= limit:
                received[sender] = self._rules.compressor.decode(known.payload)
                factors[sender] = 1.0

    def _adopt(self, action: Adopt) -> None:
        own, model = self._model.shared(), action.message.payload
        if action.round < 0:
            self._start = model
            self._model.replace(model)
        else:
            self._end_round(action.round, {}, own, model)

    def _end_round(self, round: int, staleness: Mapping[int, int], before: Vector, after: Vector) -> None:
        self._model.replace(after)
        self._start = after
        self._env_steps = 0
        self._observer.mixed(self.id, round, staleness, before, after)


_ACTIONS: dict[type, Callable[[Agent, Any], None]] = {
    Train: Agent._train, Trained: Agent._trained, Send: Agent._send, Mix: Agent._mix, Adopt: Agent._adopt,
}  # fmt: skip
