"""Mode pooled, the centralized baseline: one learner trains on the transitions of all agents.

Agents only collect transitions and upload them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from typing_extensions import override

from p2pfrl.build.modes.base import Plan
from p2pfrl.build.modes.coordinated import CoordinatedBuilder
from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.consensus.server_optimizers.base import Replace
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.parameters import Vector
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import TRANSITIONS
from p2pfrl.exchange.compressors.base import Raw
from p2pfrl.exchange.gates.base import Always
from p2pfrl.exchange.payloads.base import Payload
from p2pfrl.learning.corrections.base import Uncorrected
from p2pfrl.learning.learners.base import Batch, Outcome, Stack, Wrapped
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES, Mode


class PooledBuilder(CoordinatedBuilder):
    """Makes agents that only collect, and a coordinator that learns."""

    mode: ClassVar[Mode] = MODES["pooled"]

    def plain(self, scenario: Scenario) -> Scenario:
        """Return the scenario without the rules that act on parameters, which agents do not send.

        These are corrections, gates, compressors and server optimizers. The coordinator's model is
        the learner's own, so no server optimizer stands between them.
        """
        return replace(
            scenario,
            correction=Uncorrected(),
            gate=Always(),
            compressor=Raw(),
            exchange=replace(scenario.exchange, payload="parameters", shared=None),
            coordinator=replace(scenario.coordinator, server_optimizer=Replace()),
            learner=replace(scenario.learner, moments="keep"),
        )

    def payload(self, scenario: Scenario) -> Payload:
        """Return the payload of raw experience."""
        return Upload()

    def trained(self, stack: Stack) -> Stack:
        """Return a stack that collects and learns nothing."""
        return Collecting(stack)

    def aggregator(self, plan: Plan) -> Aggregator:
        """Return the learner as the aggregator."""
        return Pool(plan.stack)

    def messages(self, scenario: Scenario, view: TopologyView) -> float:
        """Return the messages of a round: one model down and transitions up for every agent."""
        return 2.0 * scenario.agents

    def differences(self, scenario: Scenario) -> tuple[str, ...]:
        """Return sentences about what a single learner for all agents changes."""
        instances = scenario.environment.instances if scenario.environment is not None else 1
        return (
            f"Agents upload transitions instead of parameters; one learner trains on {scenario.agents} x {instances} "
            "environment instances with as many minibatch steps as one agent, on minibatches that much larger.",
            "There is one set of parameters and of optimizer moments; training happens at the coordinator, after "
            "everyone's samples have arrived.",
            "Experience leaves the agents.",
        )


class Collecting(Wrapped):
    """The agents' learner in pooled training: its update gathers experience and learns nothing."""

    @override
    def update(self, batch: Batch) -> Outcome:
        assert self.pooled is not None, "checked by scenario/checks/needs.py"
        return self.pooled.collect(batch)


class Pool(Aggregator):
    """The aggregator of pooled training, which learns from transitions and returns its model.

    Args:
        stack: the learner.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    @override
    def init(self, model: Vector) -> Memory:
        """Return the learner's row, its moments and its number of updates."""
        stack = self._stack
        kept = (*stack.traits.moments, *stack.traits.counts)
        state = {name: values for name, values in stack.init([0]).items() if name in kept}
        return {"row": stack.common_start(), "state": state, "updates": 0}

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return the parameters `(d,)` after learning from the transitions of all agents.

        Transitions are taken in order of agent id.
        """
        assert self._stack.pooled is not None, "checked by scenario/checks/needs.py"
        row = state["row"].copy()
        moments = {name: values.copy() for name, values in state["state"].items()}
        transitions = [arrived.vector for arrived in received]
        self._stack.pooled.learn(row, moments, transitions, state["updates"])
        taught: Vector = self._stack.layout.pack(row)[0]
        return taught, {"row": row, "state": moments, "updates": state["updates"] + 1}


class Upload(Payload):
    """The payload of pooled training: what the agent's last update collected."""

    reveals_experience: ClassVar[bool] = True

    def parts(self, shared: tuple[str, ...]) -> tuple[str, ...]:
        """Return the name of raw experience."""
        return (TRANSITIONS,)

    def size(self, shared: int, offered: int | None) -> None:
        """Return None: any number may travel."""

    def extract(self, turn: Turn) -> Vector:
        """Return the transitions, `(k,)`."""
        return turn.memory.recall(TRANSITIONS)

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return the aggregate: the pool's model."""
        return aggregate
