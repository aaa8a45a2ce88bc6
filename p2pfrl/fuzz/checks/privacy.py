"""Invariants of privacy: the ledger, and what a release is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from p2pfrl.agent import Agent
from p2pfrl.build.world import World
from p2pfrl.catalog import kind_of
from p2pfrl.core.actor import Body
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.types import REPLY, UPDATE, Action, Adopt, Event, Frame, Mix, Send, Started
from p2pfrl.fuzz.checks.facts import is_plain, mixes_rounds
from p2pfrl.fuzz.watch import Check


class Paid(Check):
    """A ledger only grows, is charged before what it pays for leaves, and keeps to its budget."""

    says = "the ledger only grows, pays before a release, and never passes the budget"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._known: dict[int, tuple[int, float]] = {}
        self._rounds: dict[int, set[int]] = {}

    @override
    def applies(self) -> bool:
        return bool(self.world.ledgers)

    def _look(self, id: int) -> None:
        ledger, rule = self.world.ledgers.get(id), self.world.assembly.privacy
        if ledger is None:
            return
        releases, spent = self._known.get(id, (0, 0.0))
        if ledger.releases < releases or ledger.spent < spent:
            self.fail(f"the ledger of {id} went from {spent} to {ledger.spent}")
        if ledger.releases > releases and ledger.spent <= spent:
            self.fail(f"the ledger of {id} paid nothing for release {ledger.releases}")
        budget = getattr(rule, "budget", None)
        if budget is not None and rule.epsilon(ledger.spent) > budget * (1 + 1e-6):
            self.fail(f"{id} spent {rule.epsilon(ledger.spent):.6g} of a budget of {budget}")
        sigma, k = getattr(rule, "noise_multiplier", None), ledger.releases
        if sigma is not None:
            unit = 2.0 if getattr(rule, "adjacency", "") == "replace" else 1.0
            decay = getattr(rule, "decay", 1.0)
            least = sum((unit / (sigma * decay**j)) ** 2 for j in range(k))
            if ledger.spent < least * (1 - 1e-9):
                self.fail(f"{id} paid {ledger.spent:.6g} for {k} releases that cost {least:.6g}")
        self._known[id] = ledger.releases, ledger.spent

    @override
    def after(self, body: Body, action: Action) -> None:
        self._look(body.id)

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        if self.world.assembly.privacy.is_central or sender < 0:
            return
        if frame.kind not in (UPDATE, REPLY):  # nothing of what was learned
            return
        rounds = self._rounds.setdefault(sender, set())
        rounds.add(frame.round)
        if (paid := self.world.ledgers[sender].releases) < 1:
            self.fail(f"agent {sender} sent a payload before its ledger paid for any ({paid})")


class Released(Check):
    """What an agent goes on with is its clipped change with the noise of this very release."""

    says = "a release is the clipped change plus sigma C times fresh noise"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._start: dict[int, Vector] = {}
        self._now: tuple[int, int, Vector] | None = None

    @override
    def applies(self) -> bool:
        scenario = self.scenario
        return (
            is_plain(self.world)
            and kind_of("privacy", scenario.privacy) == "clip_noise"
            and (mixes_rounds(scenario) or scenario.mode == "central")
            and scenario.exchange.payload in ("parameters", "delta")
            and kind_of("corrections", scenario.correction) == "none"
        )

    @override
    def event(self, body: Body, event: Event) -> None:
        if isinstance(event, Started) and isinstance(body, Agent):
            if self.lives[body.id] == 0:
                self._start[body.id] = self.vector(body.id)
            else:
                self._start.pop(body.id, None)  # it may have trained before it was saved

    @override
    def before(self, body: Body, action: Action) -> None:
        self._now = None
        if isinstance(action, Send | Mix) and isinstance(body, Agent) and body.id in self._start:
            ledger = self.world.ledgers[body.id]
            self._now = body.id, ledger.releases, self.vector(body.id)

    @override
    def after(self, body: Body, action: Action) -> None:
        if not isinstance(body, Agent):
            return
        if self._now is not None and isinstance(action, Send):
            agent, releases, own = self._now
            if self.world.ledgers[agent].releases > releases:
                self._compare(agent, releases, own)
        if isinstance(action, Mix | Adopt) and getattr(action, "active", True):
            self._start[body.id] = self.vector(body.id)

    def _compare(self, agent: int, release: int, own: Vector) -> None:
        """Compare what was released with its formula, written apart from the rule."""
        rule = self.world.assembly.privacy
        clip, sigma = rule.clip, rule.noise_multiplier * rule.decay**release  # type: ignore[attr-defined]
        change = own - self._start[agent]
        if rule.norm == "entry":  # type: ignore[attr-defined]
            kept, bound = np.clip(change, -clip, clip), clip * math.sqrt(len(change))
        else:
            norm = math.sqrt(float(change @ change))
            kept, bound = change * min(1.0, clip / norm) if norm else change, clip
        noise = generator(self.scenario.seed, agent, Purpose.PRIVACY, release)
        expected = self._start[agent] + kept + sigma * bound * noise.standard_normal(len(change))
        got = self.vector(agent)
        if not np.allclose(got, expected, rtol=0.0, atol=1e-9 * (1 + np.abs(expected).max())):
            far = float(np.abs(got - expected).max())
            self.fail(f"release {release} of agent {agent} is {far:.3g} from its formula")
