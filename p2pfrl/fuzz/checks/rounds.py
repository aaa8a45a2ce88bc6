"""Invariants of rounds: their order, their staleness, and that every agent ends them."""

from __future__ import annotations

import numpy as np
from typing_extensions import override

from p2pfrl.agent import Agent
from p2pfrl.build.world import World
from p2pfrl.catalog import kind_of
from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.core.actor import Body
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import (
    UPDATE,
    Action,
    Adopt,
    Event,
    Finish,
    Message,
    Mix,
    Received,
    Send,
    Started,
    Tell,
    Trained,
)
from p2pfrl.fuzz.checks.facts import mixes_rounds
from p2pfrl.fuzz.watch import Check
from p2pfrl.results.record import Record


class InOrder(Check):
    """Rounds never go back, across restarts too.

    A coordinator with standbys ends a round again in a later term if no majority stored it.
    """

    says = "rounds never go back"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._mixed: dict[int, tuple[int, int, int]] = {}  # round, life and term
        self._adopted: dict[tuple[int, int], int] = {}
        self._terms: dict[int, int] = {}

    @override
    def before(self, body: Body, action: Action) -> None:
        life = self.lives[body.id]
        if isinstance(action, Tell):
            self._terms[body.id] = action.notice.epoch
        elif isinstance(action, Mix):
            term = self._terms.get(body.id, 0)
            last, before, last_term = self._mixed.get(body.id, (-1, life, term))
            least = last if term > last_term else last + 1
            if before != life and not self.world.assembly.mode.has_coordinator:
                every = self.scenario.checkpoint.rounds
                least = least // every * every
            if action.round < least:
                self.fail(f"{body.id} ended round {action.round} after round {last}")
            self._mixed[body.id] = action.round, life, term
        elif isinstance(action, Adopt):
            last = self._adopted.get((body.id, life), -1)
            if action.round < last:
                self.fail(f"{body.id} adopted the model of round {action.round} after {last}")
            self._adopted[body.id, life] = action.round


class Stale(Check):
    """The staleness of what is applied is what it is, within the bound, and weighs as it says.

    In pairwise exchanges it is the number of the asker's own updates since its question.
    """

    says = "staleness is counted as documented, and is within max_staleness"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._new: dict[int, list[Message]] = {}
        self._arrived: dict[int, dict[tuple[int, int, int], tuple[int, int]]] = {}
        self._ended: dict[int, int] = {}
        self._is_pairwise = self.scenario.mode == "gossip" and self.scenario.mixing.is_pairwise
        self._updates: dict[int, int] = {}
        self._asked: dict[int, tuple[int, int]] = {}

    @override
    def event(self, body: Body, event: Event) -> None:
        if isinstance(event, Started):
            self._new[body.id], self._arrived[body.id], self._ended[body.id] = [], {}, 0
            self._updates[body.id], self._asked[body.id] = 0, (-1, 0)
        elif isinstance(event, Trained):
            self._updates[body.id] += 1
        elif isinstance(event, Received):
            self._new[body.id].append(event.message)

    @override
    def before(self, body: Body, action: Action) -> None:
        if isinstance(action, Send) and action.kind == UPDATE:
            # A question that is sent again is the same question.
            asked = action.round, self._updates.get(body.id, 0)
            if self._asked.get(body.id, (-1, 0))[0] != action.round:
                self._asked[body.id] = asked
        if not isinstance(action, Mix):
            return
        ended, arrived = self._ended[body.id], self._arrived[body.id]
        # The round of this action has not changed since the last one, so it was that on arrival.
        for message in self._new[body.id]:
            lag = max(0, action.round - message.round)
            arrived.setdefault(_place(message), (lag, ended))
        self._new[body.id] = []
        limit = self.scenario.schedule.max_staleness
        for message, tau in zip(action.received, action.staleness, strict=True):
            if limit is not None and tau > limit:
                self.fail(f"{body.id} applied a message of staleness {tau}, beyond {limit}")
            expected = max(0, action.round - message.round)
            if self._is_pairwise:
                expected = self._updates[body.id] - self._asked[body.id][1]
            elif isinstance(body, Agent) and self.scenario.schedule.is_asynchronous:
                lag, then = arrived.get(_place(message), (expected, ended))
                expected = lag + ended - then
            if expected != tau:
                self.fail(f"{body.id} counted a staleness of {tau} where it is {expected}")
        if not all(0.0 < factor <= 1.0 for factor in action.factors):
            self.fail(f"{body.id} weighs messages by {list(action.factors)}")
        self._weigh(body, action)
        self._ended[body.id] = ended + 1

    def _weigh(self, body: Body, action: Mix) -> None:
        """Compare the factors of an asynchronous schedule with their formula."""
        rule = getattr(self.scenario.schedule, "staleness", None)
        if rule is None or not action.factors or self._is_pairwise:
            return
        for tau, factor in zip(action.staleness, action.factors, strict=True):
            name = type(rule).__name__
            if name == "Constant":
                expected = 1.0
            elif name == "Polynomial":
                expected = (1.0 + tau) ** -rule.power
            elif name == "Hinge":
                over = max(0, tau - rule.grace)
                expected = 1.0 / (rule.slope * over + 1.0)
            else:
                return
            if abs(expected - factor) > 1e-12:
                self.fail(f"{body.id}: factor {factor} of staleness {tau}, expected {expected}")


def _place(message: Message) -> tuple[int, int, int]:
    return message.sender, message.incarnation, message.sequence


class Absent(Check):
    """An agent that sits a round out keeps its parameters."""

    says = "who sits a round out keeps its parameters"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._before: Vector | None = None

    @override
    def before(self, body: Body, action: Action) -> None:
        if isinstance(action, Mix) and not action.active and isinstance(body, Agent):
            self._before = self.vector(body.id)

    @override
    def after(self, body: Body, action: Action) -> None:
        if self._before is not None:
            if not np.array_equal(self._before, self.vector(body.id)):
                self.fail(f"agent {body.id} sat out round {action.round} and moved")  # type: ignore[union-attr]
            self._before = None


class Complete(Check):
    """A run ends by its rounds, unless somebody needed is gone, and nobody is left behind."""

    says = "every agent that is there ends all rounds"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._last: dict[int, int] = {}
        self._early: set[int] = set()

    @override
    def before(self, body: Body, action: Action) -> None:
        if isinstance(action, Mix | Adopt):
            self._last[body.id] = action.round
        elif isinstance(action, Finish) and action.why:
            self._early.add(body.id)

    @override
    def ended(self, record: Record) -> None:
        reason, scenario = record.summary["stopped_by"], self.scenario
        kinds = {kind_of("faults", fault) for fault in scenario.faults}
        leavers = kinds & {"crash", "leave", "opt_out", "join"}
        allowed = {"rounds"}
        if leavers or scenario.availability.trace:
            allowed.add("agents_gone")
        if "crash" in kinds or "partition" in kinds:
            allowed.add("coordinator_gone")
        if scenario.schedule.patience < scenario.coordinator.standby_wait * len(scenario.voters):
            allowed.add("coordinator_gone")  # they may give up before anybody takes office
        if not scenario.network.loss.is_lossless or "loss" in kinds:
            allowed.add("unreachable")
            if scenario.coordinator.standbys:
                allowed.add("coordinator_gone")  # votes may be lost until nobody waits any more
        if reason not in allowed:
            self.fail(f"the run ended by {reason!r}, expected one of {sorted(allowed)}")
        rounds = scenario.stop.rounds
        if rounds is None or reason != "rounds" or scenario.schedule.is_asynchronous:
            return
        if not mixes_rounds(scenario) and scenario.mode != "independent":
            return
        simulation = self.world.simulation
        there = {i for i in range(scenario.agents) if simulation.body(i) is not None} - self._early
        for agent in sorted(there):
            if (last := self._last.get(agent, -1)) != rounds - 1:
                self.fail(f"agent {agent} is there and ended {last + 1} of {rounds} rounds")


class Finite(Check):
    """Parameters stay finite."""

    says = "nothing is infinite or not a number"

    @override
    def after(self, body: Body, action: Action) -> None:
        if not isinstance(action, Mix | Adopt) or not isinstance(body, Agent | Coordinator):
            return
        own = body.model if isinstance(body, Coordinator) else self.vector(body.id)
        if not np.isfinite(own).all():
            self.fail(f"{body.id} has numbers that are not finite")
