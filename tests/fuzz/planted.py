"""Bugs that are planted into the product, one at a time, to count how many the fuzzer finds.

`python tests/fuzz/planted.py` plants each and prints the table of docs/fuzz.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from p2pfrl.agent import Agent
from p2pfrl.catalog import kind_of
from p2pfrl.consensus.aggregators import coordinates, krum
from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.consensus.mixing import base as mixing
from p2pfrl.consensus.mixing import metropolis
from p2pfrl.consensus.mixing.order import CombineWhileAdapting
from p2pfrl.consensus.mixing.push_sum import PushSum
from p2pfrl.consensus.schedules.arrivals import AsynchronousCoordinator
from p2pfrl.consensus.schedules.asynchronous import Push
from p2pfrl.consensus.schedules.gossip import Gossip
from p2pfrl.consensus.staleness import Polynomial
from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import Adopt, Mix, Received
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.exchange.attacks.attacker import Attacker
from p2pfrl.exchange.compressors import sparse
from p2pfrl.exchange.compressors.memory import ErrorFeedback
from p2pfrl.exchange.privacy.gaussian import Gaussian
from p2pfrl.exchange.privacy.ledger import Ledger
from p2pfrl.fuzz.cases import Base, case
from p2pfrl.fuzz.execute import FAILED, execute
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import Scenario
from p2pfrl.simulator.digest import DROP, Log
from p2pfrl.simulator.network import Network
from p2pfrl.simulator.simulation import Simulation

Patch = pytest.MonkeyPatch
SCENARIO = "consensus_ring"
MOST = 1500
"""Seeds after which a bug counts as not found."""


def wrap(patch: Patch, cls: type, name: str, around: Callable[..., Any]) -> None:
    """Replace a method; `around` gets the method itself first."""
    before = getattr(cls, name)
    patch.setattr(cls, name, lambda self, *args, **more: around(before, self, *args, **more))


def double_count(patch: Patch) -> None:
    def mix(before: Any, self: Any, turn: Any, received: Any, weights: Any, state: Any) -> Any:
        own, given, _, nothing, missed = state
        return before(self, turn, received, weights, (own, given, {}, nothing, missed))

    wrap(patch, PushSum, "mix", mix)


def single_shares(patch: Patch) -> None:
    def payload(before: Any, self: Any, turn: Any, state: Any, to: int) -> Any:
        return before(self, turn, state, to) / 2

    wrap(patch, PushSum, "payload", payload)


def other_row(patch: Patch) -> None:
    def average(before: Any, self: Any, turn: Any, received: Any, factors: Any) -> Any:
        weights = self._weights
        self._weights = lambda round: {j: 1.0 / len(row) for row in [weights(round)] for j in row}
        try:
            return before(self, turn, received, factors)
        finally:
            self._weights = weights

    wrap(patch, Agent, "_average", average)


def own_degree(patch: Patch) -> None:
    def rows(graph: Any) -> Any:
        return tuple(
            metropolis.with_own(dict.fromkeys(heard, 1.0 / (1 + len(heard))), i)
            for i, heard in enumerate(graph.predecessors)
        )

    patch.setattr(metropolis, "metropolis", rows)


def no_fold(patch: Patch) -> None:
    patch.setitem(mixing._ON_LOSS, "fold", lambda weights, own_id, kept: kept)


def stale_again(patch: Patch) -> None:
    def trained(before: Any, self: Any, now: int) -> Any:
        inbox = dict(self._inbox)
        actions = before(self, now)
        if len(actions) > 1:
            self._inbox = {**inbox, **self._inbox}
        return actions

    wrap(patch, Push, "_trained", trained)


def fresh_forever(patch: Patch) -> None:
    def received(before: Any, self: Any, message: Any) -> Any:
        before(self, message)
        if message.sender in self._inbox:
            found, _, arrived = self._inbox[message.sender]
            self._inbox[message.sender] = found, 0, arrived
        return ()

    wrap(patch, Push, "_received", received)


def beyond_the_bound(patch: Patch) -> None:
    def too_old(before: Any, self: Any, tau: int) -> bool:
        limit = self._options.max_staleness
        return limit is not None and tau > limit + 1

    wrap(patch, Push, "_too_old", too_old)


def full_weight(patch: Patch) -> None:
    patch.setattr(Polynomial, "factor", lambda self, tau: 1.0)


def uncounted_bytes(patch: Patch) -> None:
    def send(before: Any, self: Any, sender: int, size: int, count: int, *, is_empty: bool) -> None:
        before(self, sender, 0 if is_empty else size, count, is_empty=is_empty)

    wrap(patch, Traffic, "send", send)


def uncounted_drops(patch: Patch) -> None:
    def drop(before: Any, self: Any, sender: int, receiver: int, frame: Any) -> None:
        self._note((self._loop.now, DROP, sender, receiver, frame.sequence, frame.crc32))

    wrap(patch, Network, "_drop", drop)


def counted_twice(patch: Patch) -> None:
    def hand_over(before: Any, self: Any, sender: int, receiver: int, frame: Any) -> None:
        before(self, sender, receiver, frame)
        self.traffic.messages_delivered += 1

    wrap(patch, Network, "hand_over", hand_over)


def digest_of_events_alone(patch: Patch) -> None:
    wrap(patch, Log, "digest", lambda before, self, parameters: before(self, 0 * parameters))


def after_leaving(patch: Patch) -> None:
    def leave(before: Any, self: Any, agent: int) -> None:
        self._note_fault(agent)
        self._network.down.add(agent)

    wrap(patch, Simulation, "leave", leave)


def stays_on(patch: Patch) -> None:
    wrap(patch, Simulation, "opt_out", lambda before, self, agent: None)


def through_a_partition(patch: Patch) -> None:
    def can_reach(before: Any, self: Any, sender: int, receiver: int) -> bool:
        return sender not in self.down and receiver not in self.down

    wrap(patch, Network, "can_reach", can_reach)


def not_clipped(patch: Patch) -> None:
    patch.setattr(Gaussian, "clipped", lambda self, change: np.array(change, dtype=np.float64))


def noise_again(patch: Patch) -> None:
    wrap(patch, Ledger, "noise", lambda before, self, size: self._normal(0, size))


def not_charged(patch: Patch) -> None:
    def charge(before: Any, self: Any, cost: float, most: float, round: int) -> bool:
        return bool(before(self, cost / 2, most, round))

    wrap(patch, Ledger, "charge", charge)


def beyond_the_budget(patch: Patch) -> None:
    def charge(before: Any, self: Any, cost: float, most: float, round: int) -> bool:
        return bool(before(self, cost, np.inf, round))

    wrap(patch, Ledger, "charge", charge)


def error_forgotten(patch: Patch) -> None:
    def encode(before: Any, self: Any, vector: Any, turn: Any, state: Any) -> Any:
        made = before(self, vector, turn, state)
        return replace(made, state=(np.zeros_like(vector), *made.state[1:]))

    wrap(patch, ErrorFeedback, "encode", encode)


def by_signed_value(patch: Patch) -> None:
    def largest(vector: Any, count: int) -> Any:
        return np.sort(np.argsort(-vector, kind="stable")[:count])

    patch.setattr(sparse, "largest", largest)


def draws_again(patch: Patch) -> None:
    def restore(before: Any, self: Any, agent: int, snapshot: Any) -> None:
        before(self, agent, replace(snapshot, index=0))

    wrap(patch, Trainer, "restore", restore)


def from_the_beginning(patch: Patch) -> None:
    wrap(patch, Trainer, "restore", lambda before, self, agent, snapshot: self.reset(agent))


def one_incarnation(patch: Patch) -> None:
    before = Encoder.__init__

    def made(self: Any, run: str, sender: int, incarnation: int = 0) -> None:
        before(self, run, sender, 0)

    patch.setattr(Encoder, "__init__", made)


def to_the_wrong_one(patch: Patch) -> None:
    def average(before: Any, self: Any, action: Any) -> None:
        if isinstance(action, Mix) and len(action.received) > 1:
            first, second, *rest = action.received
            swapped = replace(first, payload=second.payload), second, *rest
            action = replace(action, received=swapped)
        before(self, action)

    wrap(patch, Agent, "perform", average)


def one_left_out(patch: Patch) -> None:
    def aggregate(before: Any, self: Any, received: Any, model: Any, state: Any) -> Any:
        return before(self, received[:-1] if len(received) > 2 else received, model, state)

    wrap(patch, Mean, "aggregate", aggregate)


def trimmed_on_one_side(patch: Patch) -> None:
    def reduce(self: Any, rows: Any, f: int, place: Any) -> Any:
        return np.mean(np.sort(rows, axis=0)[f:], axis=0)

    patch.setattr(coordinates.TrimmedMean, "reduce", reduce)


def lower_median(patch: Patch) -> None:
    def reduce(self: Any, rows: Any, f: int, place: Any) -> Any:
        return np.sort(rows, axis=0)[(len(rows) - 1) // 2]

    patch.setattr(coordinates.Median, "reduce", reduce)


def farthest(patch: Patch) -> None:
    def reduce(self: Any, rows: Any, f: int, place: Any) -> Any:
        squares = np.square(rows[:, None] - rows[None]).sum(axis=2)
        return rows[int(np.argmax(squares.sum(axis=1)))]

    patch.setattr(krum.Krum, "reduce", reduce)


def no_timer(patch: Patch) -> None:
    wrap(patch, MailboxPort, "wait_until", lambda before, self, time: None)


def trained_twice(patch: Patch) -> None:
    def commit(before: Any, self: Any, agent: int) -> Any:
        row = self.parameters[self.row(agent)].copy()
        update = before(self, agent)
        self.parameters[self.row(agent)] += self.parameters[self.row(agent)] - row
        return update

    wrap(patch, Trainer, "commit", commit)


def attacks_itself(patch: Patch) -> None:
    def encode(before: Any, self: Any, message: Any, turn: Any, to: int) -> Any:
        made = before(self, message, turn, to)
        if made[1] == "raw" and len(made[0]) == len(turn.own) and np.isfinite(made[0]).all():
            turn.memory.replace(made[0].astype(turn.own.dtype))
        return made

    wrap(patch, Attacker, "encode", encode)


def takes_anything(patch: Patch) -> None:
    patch.setattr(Decoder, "_search", lambda self, vector: None)


def absent_agents_move(patch: Patch) -> None:
    def mix(before: Any, self: Any, action: Any) -> None:
        before(self, action)
        if not action.active:
            own = self._rules.payload.read(self._model)
            self._rules.payload.write(self._model, own * 1.001)

    wrap(patch, Agent, "_mix", mix)
    patch.setitem(sys.modules["p2pfrl.agent"]._ACTIONS, Mix, Agent._mix)


def change_lost(patch: Patch) -> None:
    def combine(
        before: Any, self: Any, mixing: Any, turn: Any, received: Any, weights: Any, state: Any
    ) -> Any:
        mixed, state = before(self, mixing, turn, received, weights, state)
        return mixed - (turn.own - turn.start), state

    wrap(patch, CombineWhileAdapting, "combine", combine)


def adopts_half(patch: Patch) -> None:
    def perform(before: Any, self: Any, action: Any) -> None:
        before(self, action)
        if isinstance(action, Adopt) and action.round >= 0:
            own = self._rules.payload.read(self._model)
            self._rules.payload.write(self._model, own * 0.5)

    wrap(patch, Agent, "perform", perform)


def lost_and_delivered(patch: Patch) -> None:
    def drop(before: Any, self: Any, sender: int, receiver: int, frame: Any) -> None:
        before(self, sender, receiver, frame)
        self._loop.post(self._loop.now + 1, self.arrive, sender, receiver, frame, 0)

    wrap(patch, Network, "_drop", drop)


def memory_not_saved(patch: Patch) -> None:
    left = tuple(name for name in Agent.STATE if name != "_start")
    patch.setattr(Agent, "STATE", left)


def applied_twice(patch: Patch) -> None:
    def received(before: Any, self: Any, message: Any, now: int) -> Any:
        actions = before(self, message, now)
        self._newest.pop(message.sender, None)
        return actions

    wrap(patch, AsynchronousCoordinator, "_received", received)


def model_changes(patch: Patch) -> None:
    def perform(before: Any, self: Any, action: Any) -> None:
        before(self, action)
        if not isinstance(action, Mix):
            self.model = self.model * (1.0 + 1e-9)

    wrap(patch, Coordinator, "perform", perform)


def not_the_same_twice(patch: Patch) -> None:
    def commit(before: Any, self: Any, agent: int) -> Any:
        update = before(self, agent)
        self.parameters[self.row(agent)] *= 1.0 + 1e-13 * (time.perf_counter_ns() % 97)
        return update

    wrap(patch, Trainer, "commit", commit)


def copies_count_as_new(patch: Patch) -> None:
    def received(before: Any, self: Any, event: Any, now: int) -> Any:
        own = event.message
        if own.round == self.round and self._waiting and event.again:
            later = replace(own, round=self.round + 1)
            return before(self, Received(later), now)
        return before(self, event, now)

    wrap(patch, Gossip, "_received", received)
    handlers = sys.modules["p2pfrl.consensus.schedules.gossip"]._HANDLERS
    patch.setitem(handlers, Received, Gossip._received)


Where = Callable[[Scenario], bool]


def uses(axis: str, place: str, *kinds: str) -> Where:
    """Return whether a scenario names one of these rules at a place."""

    def does(scenario: Scenario) -> bool:
        rule: Any = scenario
        for name in place.split("."):
            rule = getattr(rule, name)
        return kind_of(axis, rule) in kinds

    return does


def has_fault(*kinds: str) -> Where:
    """Return whether a scenario has one of these faults."""
    return lambda scenario: any(kind_of("faults", f) in kinds for f in scenario.faults)


def is_asynchronous(scenario: Scenario) -> bool:
    """Return whether agents mix what has arrived."""
    return scenario.schedule.is_asynchronous and scenario.mode in ("gossip", "central")


@dataclass(frozen=True)
class Plant:
    """A bug, in words, and what plants it.

    Attributes:
        where: whether the code of the bug runs in a scenario at all. Others are left out.
    """

    says: str
    plant: Callable[[Patch], None]
    where: Where = lambda scenario: True


PUSH_SUM = uses("mixing", "mixing", "push_sum")
PRIVATE = uses("privacy", "privacy", "clip_noise", "central_noise")
SPARSE = uses("compressors", "compressor", "error_feedback", "topk", "difference")
FEEDBACK = uses("compressors", "compressor", "error_feedback")
TRIMMED = uses("aggregators", "coordinator.aggregator", "trimmed_mean")
MEDIAN = uses("aggregators", "coordinator.aggregator", "median")
KRUM = uses("aggregators", "coordinator.aggregator", "krum")
RESTARTS = has_fault("restart")


def attacked(scenario: Scenario) -> bool:
    """Return whether the code of the bug runs."""
    return bool(scenario.attacks)


def adapting(scenario: Scenario) -> bool:
    """Return whether the code of the bug runs."""
    return scenario.exchange.order == "combine_while_adapting"


def copied(scenario: Scenario) -> bool:
    """Return whether the code of the bug runs."""
    return scenario.network.duplicate > 0


PLANTS: tuple[Plant, ...] = (
    Plant(
        "push-sum adds the whole sum of a neighbor in every round",
        double_count,
        PUSH_SUM,
    ),
    Plant(
        "push-sum loses half of what it gives away",
        single_shares,
        PUSH_SUM,
    ),
    Plant(
        "agents weigh by 1 / (1 + degree) whatever their rule says",
        other_row,
        lambda s: s.mode == "gossip",
    ),
    Plant(
        "Metropolis weights use the own degree alone",
        own_degree,
        uses("mixing", "mixing", "metropolis", "lazy"),
    ),
    Plant("the weight of a lost message is forgotten", no_fold),
    Plant("an asynchronous agent applies a message in every round", stale_again, is_asynchronous),
    Plant("staleness does not count rounds that a message lagged", fresh_forever, is_asynchronous),
    Plant("max_staleness is off by one", beyond_the_bound, is_asynchronous),
    Plant("stale messages count in full", full_weight, is_asynchronous),
    Plant("bytes of empty messages are not counted", uncounted_bytes),
    Plant("dropped messages are not counted", uncounted_drops),
    Plant("messages that queue at an interface are counted twice", counted_twice),
    Plant("the digest leaves the parameters out", digest_of_events_alone),
    Plant("an agent goes on sending after it left", after_leaving, has_fault("leave")),
    Plant("an agent that opts out stays", stays_on, has_fault("opt_out")),
    Plant("messages cross a partition", through_a_partition, has_fault("partition")),
    Plant(
        "changes are not clipped",
        not_clipped,
        PRIVATE,
    ),
    Plant(
        "the noise of the first release is used again",
        noise_again,
        PRIVATE,
    ),
    Plant(
        "the ledger charges half",
        not_charged,
        PRIVATE,
    ),
    Plant(
        "the budget is not checked",
        beyond_the_budget,
        PRIVATE,
    ),
    Plant(
        "error feedback forgets its error",
        error_forgotten,
        FEEDBACK,
    ),
    Plant(
        "top-k takes the largest signed values",
        by_signed_value,
        SPARSE,
    ),
    Plant(
        "a restart draws the random numbers of the first update again",
        draws_again,
        RESTARTS,
    ),
    Plant("a restart begins with the first parameters", from_the_beginning, RESTARTS),
    Plant("a restart does not count up the incarnation", one_incarnation, RESTARTS),
    Plant("two neighbors' vectors are swapped", to_the_wrong_one),
    Plant("the mean leaves the last agent out", one_left_out),
    Plant(
        "the trimmed mean trims one side",
        trimmed_on_one_side,
        TRIMMED,
    ),
    Plant(
        "the median of an even number is the lower one",
        lower_median,
        MEDIAN,
    ),
    Plant(
        "Krum takes the farthest vector",
        farthest,
        KRUM,
    ),
    Plant("no deadline is ever set", no_timer),
    Plant("an update moves twice as far", trained_twice),
    Plant("an attacker's own state becomes what it sends", attacks_itself, attacked),
    Plant("receivers take NaN", takes_anything, attacked),
    Plant("an agent that sits out moves", absent_agents_move, lambda s: s.availability.dropout > 0),
    Plant(
        "combine_while_adapting loses the local change",
        change_lost,
        adapting,
    ),
    Plant("an agent adopts half a model", adopts_half),
    Plant("a dropped message arrives all the same", lost_and_delivered),
    Plant("a checkpoint lacks where the round began", memory_not_saved),
    Plant(
        "an asynchronous coordinator takes second copies",
        applied_twice,
        copied,
    ),
    Plant("a coordinator's model drifts between two sends", model_changes),
    Plant("a result depends on the clock of the machine", not_the_same_twice),
    Plant(
        "a second copy counts as the message of the next round",
        copies_count_as_new,
        copied,
    ),
)


@dataclass(frozen=True)
class Found:
    """How a bug was found: the first seed that fails, and what failed."""

    seed: int
    kind: str
    why: str


@cache
def scenario_of(seed: int) -> Scenario:
    """Return the case of a seed."""
    return case(Base.of(SCENARIO), seed).scenario


def find(plant: Plant, seeds: Sequence[int] = range(MOST)) -> Found | None:
    """Plant a bug and return how the fuzzer finds it; None if it does not."""
    for seed in seeds:
        scenario = scenario_of(seed)
        if not plant.where(scenario):
            continue
        with pytest.MonkeyPatch.context() as patch:
            plant.plant(patch)
            outcome = execute(scenario, seed)
        if outcome.state == FAILED:
            return Found(seed, outcome.kind, outcome.why)
    return None


def main() -> None:
    """Print the table of docs/fuzz.md."""
    wanted = sys.argv[1:]
    for plant in PLANTS:
        if wanted and plant.plant.__name__ not in wanted:
            continue
        began, found = time.perf_counter(), find(plant)
        name = "**not found**" if found is None else f"{found.seed + 1} | `{found.kind}`"
        print(f"| {plant.says} | {name} |", flush=True)
        why = "" if found is None else found.why.strip().splitlines()[-1]
        print(
            f"    {plant.plant.__name__} {time.perf_counter() - began:.1f} s {why}", file=sys.stderr
        )


if __name__ == "__main__":
    main()
