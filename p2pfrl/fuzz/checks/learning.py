"""Invariants of local training: what an update does, and what a restart brings back."""

from __future__ import annotations

from typing import Any

import numpy as np
from typing_extensions import override

from p2pfrl.agent import Agent
from p2pfrl.build.world import World
from p2pfrl.catalog import kind_of
from p2pfrl.core.actor import Body
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import Action, Event, Mix, Send, Started, Train
from p2pfrl.core.types import Trained as Ended
from p2pfrl.fuzz.checks.facts import is_plain, mixes_rounds
from p2pfrl.fuzz.watch import Check


class Trained(Check):
    """An update of a quadratic without noise is its gradient steps, and counts as one."""

    says = "an update is x <- x - lr A (x - x*), once, and is counted once"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._start: dict[int, Vector] = {}
        self._index: dict[int, int] = {}

    @override
    def applies(self) -> bool:
        scenario = self.scenario
        return (
            is_plain(self.world)
            and not self.world.assembly.mode.pools
            and not (scenario.mode == "gossip" and scenario.mixing.is_pairwise)
        )

    @override
    def before(self, body: Body, action: Action) -> None:
        if isinstance(action, Train) and isinstance(body, Agent):
            trainer = self.world.trainer
            self._start[body.id] = self.vector(body.id)
            self._index[body.id] = int(trainer.index[trainer.row(body.id)])

    @override
    def event(self, body: Body, event: Event) -> None:
        if not isinstance(event, Ended) or not isinstance(body, Agent):
            return
        trainer = self.world.trainer
        index = int(trainer.index[trainer.row(body.id)])
        if index != self._index[body.id] + 1:
            self.fail(f"agent {body.id}: update {self._index[body.id]} was followed by {index}")
        learner: Any = self.scenario.learner  # a quadratic, see `applies`
        if (
            learner.noise
            or kind_of("corrections", self.scenario.correction) != "none"
            or self.scenario.exchange.payload == "gradient"
        ):
            return
        instance = self.world.assembly.learning.instance
        x = self._start[body.id].astype(np.float64)
        for _ in range(learner.steps):
            x = x - learner.lr * instance["A"][body.id] @ (x - instance["x_star"][body.id])
        if not np.allclose(x, self.vector(body.id), rtol=0.0, atol=1e-9 * (1 + np.abs(x).max())):
            far = float(np.abs(x - self.vector(body.id)).max())
            self.fail(f"agent {body.id}: update {index - 1} is {far:.3g} from its gradient steps")


class Isolated(Check):
    """To send changes nothing of the sender, of an attacker's neither."""

    says = "an agent's own parameters are kept apart from what it sends"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._own: Vector | None = None

    @override
    def applies(self) -> bool:
        return not self.world.assembly.privacy.is_accounted

    @override
    def before(self, body: Body, action: Action) -> None:
        self._own = None
        if isinstance(action, Send) and isinstance(body, Agent):
            self._own = self.vector(body.id)

    @override
    def after(self, body: Body, action: Action) -> None:
        if self._own is not None and not np.array_equal(self._own, self.vector(body.id)):
            self.fail(f"agent {body.id} changed by sending")


class Restarted(Check):
    """Who restarts has what it had at its last checkpoint, and draws no random number again."""

    says = "a restart goes on from the last checkpoint"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._saved: dict[int, tuple[int, Vector]] = {}

    @override
    def applies(self) -> bool:
        scenario = self.scenario
        return (
            is_plain(self.world)
            and (mixes_rounds(scenario) or scenario.mode == "independent")
            and scenario.checkpoint.rounds == 1
            and not self.world.assembly.privacy.is_accounted
        )

    @override
    def event(self, body: Body, event: Event) -> None:
        if not isinstance(event, Started) or not isinstance(body, Agent):
            return
        trainer = self.world.trainer
        index, own = int(trainer.index[trainer.row(body.id)]), self.vector(body.id)
        if body.id not in self._saved:
            self._saved[body.id] = index, own
        elif (saved := self._saved[body.id])[0] != index:
            self.fail(f"agent {body.id} had made {saved[0]} updates, and goes on from {index}")
        elif not np.array_equal(saved[1], own):
            self.fail(f"agent {body.id} goes on from other parameters than it saved")

    @override
    def after(self, body: Body, action: Action) -> None:
        if not isinstance(body, Agent):
            return
        # With rules that need every message an agent is saved before its messages leave, too.
        is_saved = isinstance(action, Mix)
        is_saved |= isinstance(action, Send) and body.has_begun_exchange and self._waits(body)
        if is_saved:
            trainer = self.world.trainer
            index = int(trainer.index[trainer.row(body.id)])
            self._saved[body.id] = index, self.vector(body.id)

    def _waits(self, body: Agent) -> bool:
        return self.world.assembly._waits and bool(body.save()["outbox"]["_sent"])
