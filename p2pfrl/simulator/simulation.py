"""The simulated world: agents as asyncio tasks on virtual time, a network model, a trainer, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.types import COORDINATOR, Actor, Frame, PeerJoined, PeerLost, Schedule, Trained
from p2pfrl.core.units import SECOND
from p2pfrl.learning.trainer import Trainer
from p2pfrl.simulator.digest import FAULT, TRAIN, Log
from p2pfrl.simulator.faults import Fault
from p2pfrl.simulator.life import Life, Witness
from p2pfrl.simulator.loop import VirtualTimeLoop
from p2pfrl.simulator.network import Network


class Simulation:
    """Runs agents, and the coordinator if there is one, until all have finished or someone calls `stop`.

    Args:
        loop: the clock.
        network: carries frames.
        trainer: computes local updates, of all pending agents at once.
        agents: number of agents n.
        spawn: (id, incarnation, first round, port) -> a new life of that agent.
        coordinators: by id, -1, -2, ...: port -> a coordinator's life.
        seconds_per_step: per agent, virtual seconds that one environment step takes it.
        variation: (agent, number of the update) -> factor of the time that this local update takes.
        neighbors: per agent, whom it talks to: they notice when it is gone. Coordinators from the
            end.
        peer_timeout: nanoseconds until a dead link is noticed.
        faults: the timeline.
        log: of all events.
        witness: keeps the timeline.
    """

    def __init__(
        self,
        loop: VirtualTimeLoop,
        network: Network,
        trainer: Trainer,
        *,
        agents: int,
        spawn: Callable[[int, int, int, MailboxPort], Actor],
        coordinators: Mapping[int, Callable[[MailboxPort], Actor]],
        seconds_per_step: Sequence[float],
        variation: Callable[[int, int], float] = lambda agent, number: 1.0,
        neighbors: Sequence[Sequence[int]],
        peer_timeout: int,
        faults: Sequence[Fault],
        log: Log,
        witness: Witness,
    ) -> None:
        self._loop = loop
        self._network = network
        self._trainer = trainer
        self._spawn = spawn
        self._step_ns = [seconds * SECOND for seconds in seconds_per_step]
        self._variation = variation
        self._neighbors = neighbors
        self._peer_timeout = peer_timeout
        self._log = log
        self._witness = witness
        self._queued: dict[int, None] = {}
        self._running = 0
        self._lives = {i: Life(self._port(i)) for i in range(agents)}
        self._coordinators = coordinators
        self._done: asyncio.Future[None] = loop.create_future()
        self._lives |= {i: Life(self._port(i)) for i in coordinators}
        loop.explain = self._explain
        self._faults = faults
        self._faults_left = len(faults)
        self._late = {agent for fault in faults for agent in fault.newcomers()}

    def run(self) -> None:
        """Run to the end.

        Raises:
            DeadlockError: everyone waits for someone.
        """
        for agent in sorted(self._late):
            self._network.down.add(agent)
            self._witness.live(agent, False)
        for agent in [i for i in self._lives if i not in self._late]:
            self._begin(agent)
        for late, peer in [(i, peer) for i in sorted(self._late) for peer in self._neighbors[i]]:
            self._report_lost(peer, late)
        for fault in self._faults:
            self._loop.post(round(fault.at * SECOND), self._strike, fault)
        self._loop.run_until_complete(self._wait())

    def stop(self) -> None:
        """End the run now."""
        if not self._done.done():
            self._done.set_result(None)

    def schedules(self) -> list[Schedule]:
        """Return every state machine that ever ran, for their counters."""
        return [schedule for life in self._lives.values() for schedule in life.schedules]

    def save(self, agent: int, completed: int) -> None:
        """Remember the agent as it is now, after `completed` rounds: what a restart resumes from."""
        life = self._lives[agent]
        life.saved, life.completed = self._trainer.snapshot(agent), completed

    # The verbs of faults.

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """Cut every link between different groups."""
        group = [len(groups)] * len(self._lives)
        for coordinator in self._coordinators:
            group[coordinator] = 0
        for number, members in enumerate(groups):
            for agent in members:
                group[agent] = number
        self._regroup(group)

    def heal(self) -> None:
        """Restore all links."""
        self._regroup(None)

    def crash(self, agent: int) -> None:
        """Kill an agent."""
        if self._end(agent):
            for peer in self._neighbors[agent]:
                self._notice_loss(peer, agent)

    def restart(self, agent: int) -> None:
        """Start a crashed agent from what it had saved."""
        saved = self._lives[agent].saved
        if self._lives[agent].task is None:
            if saved is None:
                self._trainer.reset(agent)
            else:
                self._trainer.restore(agent, saved)
            self.join(agent)

    def straggle(self, agent: int, factor: float) -> None:
        """Slow an agent's local work down."""
        self._note_fault(agent)
        self._lives[agent].slowness = factor

    def lose(self, probability: float) -> None:
        """Lose messages with this probability, besides the network's own losses."""
        self._note_fault(COORDINATOR)
        self._network.extra_loss = probability

    def leave(self, agent: int) -> None:
        """Take an agent away; its neighbors are told at once."""
        if self._end(agent):
            for peer in self._neighbors[agent]:
                self._report_lost(peer, agent)

    def join(self, agent: int) -> None:
        """Start an agent."""
        if self._lives[agent].task is None:
            self._note_fault(agent)
            self._network.down.discard(agent)
            self._witness.live(agent, True)
            self._begin(agent)
            for peer in self._neighbors[agent]:
                self._report_joined(peer, agent)

    def _strike(self, fault: Fault) -> None:
        self._faults_left -= 1
        fault.strike(self)
        if not self._running and not self._faults_left:
            self.stop()

    def _regroup(self, group: list[int] | None) -> None:
        """Cut the links between different groups, and restore those that were cut before and no longer are."""
        before, self._network.group = self._network.group, group
        self._note_fault(COORDINATOR)
        for agent in self._lives:
            for peer in self._neighbors[agent]:
                was_cut = before is not None and before[agent] != before[peer]
                if group is not None and group[agent] != group[peer]:
                    self._notice_loss(agent, peer)
                elif was_cut:
                    self._report_joined(agent, peer)

    def _port(self, agent: int) -> MailboxPort:
        def train() -> None:
            self._train(agent)

        def send(to: Sequence[int], frame: Frame) -> None:
            end = self._network.send(agent, to, frame)
            self._witness.interval(agent, "send", self._loop.now, end)

        port = MailboxPort(self._loop, train, send)
        self._network.connect(agent, port.put)
        return port

    def _begin(self, agent: int) -> None:
        life = self._lives[agent]
        life.incarnation += 1
        if agent in self._coordinators:
            actor = self._coordinators[agent](life.port)
        else:
            actor = self._spawn(agent, life.incarnation, life.completed, life.port)
        life.actor = actor
        life.schedules.append(actor.schedule)
        life.task = self._loop.create_task(actor.run(), name=f"agent {agent}")
        life.task.add_done_callback(self._finished)
        self._running += 1
        for peer in self._neighbors[agent]:
            if self._is_over(peer) or not self._network.can_reach(agent, peer):
                self._notice_loss(agent, peer)

    def _end(self, agent: int) -> bool:
        """Stop an agent's life; return whether it was there."""
        life = self._lives[agent]
        if life.task is None or life.task.done():
            return False
        self._note_fault(agent)
        life.task.cancel()
        life.task = None
        life.port.close()
        life.training += 1
        self._queued.pop(agent, None)
        self._trainer.cancel(agent)
        self._network.down.add(agent)
        self._witness.live(agent, False)
        return True

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running -= 1
        if not task.cancelled() and task.exception() is not None and not self._done.done():
            self._done.set_exception(task.exception())  # type: ignore[arg-type]
        elif not self._running and not (task.cancelled() and self._faults_left):
            self.stop()

    async def _wait(self) -> None:
        try:
            await self._done
        finally:
            for life in self._lives.values():
                if life.task is not None:
                    life.task.remove_done_callback(self._finished)
                    life.task.cancel()

    def _train(self, agent: int) -> None:
        life, stack = self._lives[agent], self._trainer.stack
        self._trainer.freeze(agent)
        self._queued[agent] = None
        start = self._loop.now
        slowness = life.slowness * self._variation(agent, life.training)
        earliest = start + round(stack.min_steps * self._step_ns[agent] * slowness)
        self._loop.post(earliest, self._could_end, agent, life.training, start, slowness)

    def _could_end(self, agent: int, training: int, start: int, slowness: float) -> None:
        """The earliest moment at which this update can end: compute it now, with all others that are pending."""
        if training != self._lives[agent].training:
            return
        if agent in self._queued:
            self._trainer.compute(sorted(self._queued))
            self._queued.clear()
        end = start + round(self._trainer.steps(agent) * self._step_ns[agent] * slowness)
        if end <= self._loop.now:
            self._ends(agent, training, start)
        else:
            self._loop.post(end, self._ends, agent, training, start)

    def _ends(self, agent: int, training: int, start: int) -> None:
        life = self._lives[agent]
        if training == life.training:
            life.training += 1
            update = self._trainer.commit(agent)
            self._log.add(self._loop.now, TRAIN, agent, agent, update.env_steps, 0)
            self._witness.interval(agent, "train", start, self._loop.now)
            life.port.put(Trained(update))

    def _note_fault(self, agent: int) -> None:
        self._log.add(self._loop.now, FAULT, agent, agent, 0, 0)

    def _is_over(self, agent: int) -> bool:
        """Whether the agent has finished: it sends and answers nothing any more."""
        task = self._lives[agent].task
        return task is not None and task.done()

    def _notice_loss(self, to: int, about: int) -> None:
        self._loop.post(self._loop.now + self._peer_timeout, self._report_lost, to, about)

    def _report_lost(self, to: int, about: int) -> None:
        if to not in self._network.down and (
            self._is_over(about) or not self._network.can_reach(to, about)
        ):
            self._lives[to].port.put(PeerLost(about))

    def _report_joined(self, to: int, about: int) -> None:
        if self._network.can_reach(to, about):
            self._lives[to].port.put(PeerLost(about) if self._is_over(about) else PeerJoined(about))

    def _explain(self) -> str:
        waiting = [
            life.actor.schedule.waits_for()
            for life in self._lives.values()
            if life.actor is not None and life.task is not None and not life.task.done()
        ]
        shown = "; ".join(waiting[:8])
        return shown + (f"; and {len(waiting) - 8} more" if len(waiting) > 8 else "")
