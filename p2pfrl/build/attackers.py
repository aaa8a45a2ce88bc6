"""Byzantine agents of a scenario: the attacks of each, and what omniscient ones see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from p2pfrl.agent import Agent
from p2pfrl.build.modes.base import Neighbors, Plan
from p2pfrl.core.actor import Body
from p2pfrl.core.parameters import Vector
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import Port
from p2pfrl.core.units import SECOND
from p2pfrl.exchange.attacks.attacker import Attacker, Surroundings
from p2pfrl.exchange.attacks.base import MessageAttack, View
from p2pfrl.learning.tampered import MASK
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario.byzantine import attacks
from p2pfrl.scenario.modes import MODES


class Attackers:
    """The attacks of a scenario by agent.

    Attributes:
        agents: the Byzantine ones, ascending.
        experience: the attacks on what agents experience.

    Args:
        plan: what all participants are made from.
        neighbors: by id, whom every agent and coordinator talks to.
        row: (agent, round) -> its row of the mixing matrix.
    """

    def __init__(
        self,
        plan: Plan,
        neighbors: Callable[[], Neighbors],
        row: Callable[[int, int], Mapping[int, float]],
    ) -> None:
        found = attacks(plan.scenario)
        self.agents = tuple(sorted({agent for attack in found for agent in attack.agents}))
        self.experience = tuple(attack for attack in found if attack.is_in_experience)
        self._messages = [attack for attack in found if isinstance(attack, MessageAttack)]
        self._plan, self._neighbors, self._row = plan, neighbors, row

    def attacker(self, agent: int, port: Port, view: View | None) -> Attacker | None:
        """Return what replaces the vectors in an agent's messages; None for an honest one."""
        own = [(attack, attack.agents) for attack in self._messages if agent in attack.agents]
        if not own:
            return None
        plan = self._plan
        around = Surroundings(
            payload=plan.payload,
            compressor=plan.scenario.compressor,
            receivers=lambda round: self._receivers(agent, round),
            now=port.now,
            view=view,
        )
        return Attacker(own, around)

    def mask(self, agent: int, round: int, now: int) -> int:
        """Return the bits of the changes of experience that hold for an agent's next update."""
        return sum(
            1 << bit
            for bit, attack in enumerate(self.experience)
            if agent in attack.agents and attack.is_on(round, now / SECOND)
        )

    def sight(self, trainer: Trainer, body: Callable[[int], Body | None]) -> Sight:
        """Return what omniscient attackers see.

        Args:
            trainer: of all agents.
            body: id -> the agent, None where it is away.
        """
        return Sight(self._plan, self.agents, self._neighbors(), self._row, trainer, body)

    def _receivers(self, agent: int, round: int) -> Sequence[int]:
        if not MODES[self._plan.scenario.mode].mixes:
            return self._neighbors()[agent]
        return self._plan.view.at(round).successors[agent]


class Sight:
    """What omniscient attackers see of the others, in a simulation (`View`)."""

    def __init__(
        self,
        plan: Plan,
        byzantine: Sequence[int],
        neighbors: Neighbors,
        row: Callable[[int, int], Mapping[int, float]],
        trainer: Trainer,
        body: Callable[[int], Body | None],
    ) -> None:
        self._plan, self._byzantine = plan, frozenset(byzantine)
        self._neighbors, self._row = neighbors, row
        self._trainer, self._body = trainer, body

    def honest(self, turn: Turn, to: int) -> Mapping[int, Vector]:
        """Return the honest updates that meet at `to`."""
        scenario = self._plan.scenario
        there = [i for i in self._meeting(to, turn.round) if i not in self._byzantine]
        found = [i for i in there if self._body(i) is not None]
        if to < 0 and not scenario.schedule.is_asynchronous:
            in_round = [i for i in found if self._agent(i).round == turn.round]
            found = in_round or found
        return {i: self._outgoing(i) for i in found}

    def vector(self, agent: int) -> Vector | None:
        """Return what an agent would send now; None for one that is not there."""
        return None if self._body(agent) is None else self._outgoing(agent)

    def _outgoing(self, agent: int) -> Vector:
        with self._trainer.ahead(agent):
            return self._agent(agent).outgoing()

    def weights(self, agent: int, round: int) -> Mapping[int, float]:
        """Return the agent's row of the mixing matrix."""
        return self._row(agent, round)

    def senders(self, to: int, round: int) -> Sequence[int]:
        """Return the agents whose updates reach `to`."""
        return [i for i in self._meeting(to, round) if i != to]

    def _meeting(self, to: int, round: int) -> Sequence[int]:
        """Return the agents whose vectors are combined at `to`, ascending, `to` included."""
        if to < 0:
            return sorted(i for i in self._neighbors[to] if i >= 0)
        return sorted({to, *self._plan.view.at(round).predecessors[to]})

    def _agent(self, agent: int) -> Agent:
        body = self._body(agent)
        assert isinstance(body, Agent)
        return body


def marked(attackers: Attackers, trainer: Trainer, agent: int, round: int, now: int) -> None:
    """Write down which changes of experience hold for the update that an agent starts now."""
    trainer.values(agent, MASK)[...] = attackers.mask(agent, round, now)
