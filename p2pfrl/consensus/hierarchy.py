"""The coordinators of a hierarchy, edges between agents and cloud, with their records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from typing_extensions import override

from p2pfrl.consensus.coordinator import Coordinator, CoordinatorRules, Witness
from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import State
from p2pfrl.core.turn import NoMemory, Turn
from p2pfrl.core.types import SKIP, UPDATE, Action, Adopt, Frame, Mix, Port, Scores, Send, Trained
from p2pfrl.core.wire import Encoder


class EdgeCoordinator(Coordinator):
    """An edge: aggregates its agents, and reports to the cloud how the cloud's model changed.

    In a tree of several levels, edges are in place of its agents, or of the cloud.

    It sends what an agent would send that went from the cloud's model to the edge's own: the
    payload's vector, weighed by the environment steps of all updates behind it. If there were no
    updates, it sends a skip.

    Args:
        model: the cloud's first model, `(k,)`.
        id: of this edge.
        agents: number of its agents.
        seed, rules, encoder, parts, port, witness: as of any coordinator.

    Reference: Liu, Zhang, Song, Letaief, Client-edge-cloud hierarchical federated learning, ICC
    2020, arXiv 1905.06641.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        *Coordinator.STATE,
        "_anchor",
        "_samples",
        "_reports",
        "_reported",
    )

    def __init__(
        self,
        model: Vector,
        *,
        id: int,
        agents: int,
        seed: int,
        rules: CoordinatorRules,
        encoder: Encoder,
        parts: tuple[str, ...],
        port: Port,
        witness: Witness,
    ) -> None:
        super().__init__(
            model,
            agents=agents,
            seed=seed,
            rules=rules,
            encoder=encoder,
            parts=parts,
            port=port,
            witness=witness,
        )
        self._id = id
        self._anchor = self.model
        self._samples = 0.0
        self._reports = 0
        self._reported: tuple[int, Frame] | None = None

    @override
    def restore(self, state: State) -> None:
        """Take over a state.

        In a later incarnation the last report is encoded anew, under a number of its own.
        """
        super().restore(state)
        if (
            self._reported is not None
            and self._encoder.incarnation != state["encoder"]["incarnation"]
        ):
            round, frame = self._reported
            self._reported = round, self._encoder.again(frame)

    def perform(self, action: Action | Trained) -> None:
        """Carry out `Send`, `Mix` and `Adopt`."""
        if isinstance(action, Adopt):
            self.model = self._anchor = action.message.payload
        elif isinstance(action, Send) and action.kind == UPDATE:
            self._report(action)
        elif isinstance(action, Send) and action.kind == SKIP:
            self._port.send(action.to, self._encoder.encode(None, kind=SKIP, round=action.round))
        else:
            if isinstance(action, Mix):
                self._samples += sum(message.weight for message in action.received)
            super().perform(action)

    def _report(self, action: Send) -> None:
        """Send the cloud the report on its model.

        The second report on one model is the same as the first: the link was lost, and nobody knows
        what arrived.
        """
        if self._reported is not None and self._reported[0] == action.round:
            self._port.send(action.to, self._reported[1])
            return
        samples, self._samples = self._samples, 0.0
        self._reports += 1
        key = (self._standing.seed, self._id, self._reports)
        start, own = self._anchor, self.model
        turn = Turn(
            self._id, action.round, UPDATE, start, own, int(samples), 0.0, (), 0.0, key, NoMemory()
        )
        self._anchor = self.model
        if samples:
            vector, parts = (
                self._rules.payload.extract(turn),
                self._rules.payload.parts(self._parts),
            )
            frame = self._encoder.encode(
                vector, kind=UPDATE, round=action.round, weight=samples, parts=parts
            )
        else:
            frame = self._encoder.encode(None, kind=SKIP, round=action.round)
        self._reported = action.round, frame
        self._port.send(action.to, frame)


class GroupWitness:
    """An edge's view of the record: rounds of its own agents only."""

    def __init__(self, witness: Witness, others: Sequence[int]) -> None:
        self._witness = witness
        self._others = others

    def excused(self, round: int, participants: Sequence[int]) -> None:
        """Model `round` goes out to `participants` of its agents only."""
        self._witness.excused(round, (*participants, *self._others))

    def applied(self, agent: int, tau: int) -> None:
        """An update of one of its agents was applied."""
        self._witness.applied(agent, tau)

    def judged(self, round: int, scores: Scores) -> None:
        """A robust aggregator met the vectors of its agents."""
        self._witness.judged(round, scores)

    def took_office(self, id: int, epoch: int) -> None:
        """Do nothing: coordinators of a tree have no standbys."""


class CloudWitness:
    """The cloud's view of the record: its models, counted in rounds of the edges.

    Args:
        witness: writes the record.
        agents: number of agents n.
        period: rounds per model.
    """

    def __init__(self, witness: Witness, agents: int, period: int) -> None:
        self._witness = witness
        self._everyone = range(agents)
        self._period = period

    def excused(self, round: int, participants: Sequence[int]) -> None:
        """Model `round` of the cloud goes out to the edges."""
        self._witness.excused(round * self._period, self._everyone)

    def applied(self, agent: int, tau: int) -> None:
        """Do nothing: the update was an edge's."""

    def judged(self, round: int, scores: Scores) -> None:
        """Do nothing: the cloud averages."""

    def took_office(self, id: int, epoch: int) -> None:
        """Do nothing: coordinators of a tree have no standbys."""
