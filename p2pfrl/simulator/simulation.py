"""The simulation: agents on virtual time, a network, a trainer and faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Protocol

from typing_extensions import override

from p2pfrl.agent import Agent
from p2pfrl.core.actor import Actor, Body
from p2pfrl.core.errors import AgentError
from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.state import State, Stateful
from p2pfrl.core.types import (
    COORDINATOR,
    OPTED_OUT,
    Event,
    Frame,
    PeerJoined,
    PeerLost,
    Trained,
    is_standby,
)
from p2pfrl.core.units import SECOND
from p2pfrl.learning.meetings import Meetings
from p2pfrl.learning.trainer import Snapshot, Trainer
from p2pfrl.simulator.digest import FAULT, TRAIN, Log
from p2pfrl.simulator.driver import drive
from p2pfrl.simulator.faults.base import Fault
from p2pfrl.simulator.loop import VirtualTimeLoop
from p2pfrl.simulator.network import Network

_NETWORK = COORDINATOR
"""Stands in the digest for a fault of no single agent, but of the network."""


class Witness(Protocol):
    """The keeper of the record's timeline."""

    def interval(self, agent: int, kind: str, start: int, end: int) -> None:
        """An agent did `kind` (train or send) from `start` to `end`, nanoseconds."""

    def live(self, agent: int, alive: bool) -> None:
        """An agent came or left."""


@dataclass(slots=True)
class Life(Stateful):
    """One agent or coordinator in the simulated world.

    Attributes:
        port: its mailbox and timer.
        actor: what runs, or ran last.
        task: of the actor's driver; done once it has finished; None while it is away.
        incarnation: how many times it was restarted; -1 before its first start.
        training: number of the local update under way, or of the next one; what was posted for
            another number is void.
        slowness: factor of the time that its local work takes.
        saved: what the trainer holds for it, as of its last checkpoint; None before the first.
        memory: what it remembered then. Without a coordinator this is the state of the agent
            (`Actor.body`), and a restart makes its schedule anew at round `completed`. With a
            coordinator it is the state of the whole actor: the schedule is restored too, because it
            knows which model it waits for.
        completed: rounds completed by then.
        messages_late, deadlines_expired: sums over its earlier incarnations; its schedule counts
            for the present one.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "incarnation",
        "training",
        "slowness",
        "memory",
        "completed",
        "messages_late",
        "deadlines_expired",
    )
    port: MailboxPort
    actor: Actor | None = None
    task: asyncio.Future[str] | None = None
    incarnation: int = -1
    training: int = 0
    slowness: float = 1.0
    saved: Snapshot | None = None
    memory: State | None = None
    completed: int = 0
    messages_late: int = 0
    deadlines_expired: int = 0

    @property
    def why(self) -> str:
        """Why it ended early (`Finish.why`); "" where it has not ended, or not early."""
        if self.task is None or not self.task.done() or self.task.cancelled():
            return ""
        return "" if self.task.exception() is not None else self.task.result()

    @override
    def save(self) -> State:
        """Return the state, the actor's included."""
        kept = self.saved
        return {
            # Not super(): it refers to the class as it was before `slots=True` made another one.
            **Stateful.save(self),
            "port": self.port.save(),
            "actor": None if self.actor is None else self.actor.save(),
            "status": "away" if self.task is None else "over" if self.task.done() else "running",
            "why": self.why,
            "saved": None if kept is None else (kept.parameters, dict(kept.state), kept.index),
        }

    @override
    def restore(self, state: State) -> None:
        """Restore the state, except actor and task, which the world has to make."""
        Stateful.restore(self, state)  # not super(), as above
        self.port.restore(state["port"])
        self.saved = None if state["saved"] is None else Snapshot(*state["saved"])


class Simulation:
    """Runs agents and coordinators until all have finished or `stop` is called.

    Every sequence by id has agents 0 to n-1 first and coordinators -1, -2, ... from the end, so
    that an id is its index.

    Attributes:
        departed: (agent, rounds that it had ended, nanoseconds) of those that opted out.

    Args:
        loop: the clock.
        network: carries frames.
        trainer: computes local updates, of all pending agents at once.
        agents: number of agents n.
        spawn: (id, incarnation, first round, memory, port) -> a new life of that agent.
        coordinators: by id, -1, -2, ...: (incarnation, port) -> a coordinator's life.
        seconds_per_step: per agent, virtual seconds that one environment step takes it.
        variation: (agent, number of the update) -> factor of the time that this local update takes.
        neighbors: by id, whom it talks to: they notice when it is gone.
        peer_timeout: nanoseconds until a dead link is noticed.
        grace: local updates that a member of a shared world which comes back starts without waiting
            for the others.
        hosted: standby -> the agent that it lives with: they crash, come back and leave together.
        faults: the timeline.
        keeps: (sender, frame) -> whether the sender remembers itself before the frame leaves, with
            its schedule: what a restart resumes from in modes with a coordinator.
        log: of all events.
        witness: keeps the timeline.
        starts: called with an agent whose local update is about to start.
    """

    def __init__(
        self,
        loop: VirtualTimeLoop,
        network: Network,
        trainer: Trainer,
        *,
        agents: int,
        spawn: Callable[[int, int, int, State | None, MailboxPort], Actor],
        coordinators: Mapping[int, Callable[[int, MailboxPort], Actor]],
        seconds_per_step: Sequence[float],
        variation: Callable[[int, int], float] = lambda agent, number: 1.0,
        neighbors: Sequence[Sequence[int]] | Mapping[int, Sequence[int]],
        hosted: Mapping[int, int] = MappingProxyType({}),
        peer_timeout: int,
        grace: int = 1,
        faults: Sequence[Fault],
        keeps: Callable[[int, Frame], bool],
        log: Log,
        witness: Witness,
        starts: Callable[[int], None] = lambda agent: None,
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
        self._starts = starts
        # Drivers whose done-callback has not run. A killed one counts until the loop runs it.
        self._running = 0
        self.departed: list[tuple[int, int, int]] = []
        self._coordinators = coordinators
        self._keeps = keeps
        members = trainer.stack.traits.members
        self._meetings = Meetings(members, grace) if members > 1 else None
        self._lives = {i: Life(self._port(i)) for i in range(agents)}
        self._done: asyncio.Future[None] = loop.create_future()
        self._lives |= {i: Life(self._port(i)) for i in coordinators}
        loop.explain = self._explain
        self._hosted = hosted
        self._faults = faults
        self._faults_left = len(faults)
        self._newcomers = {agent for fault in faults for agent in fault.newcomers()}

    def run(self) -> None:
        """Run to the end.

        Neighbors of an agent that joins later are told at once that it is not there, and once more
        by timeout. Any `PeerLost` may be reported more than once.

        Raises:
            DeadlockError: all agents wait for each other.
        """
        for agent in sorted(self._newcomers):
            self._network.down.add(agent)
            self._witness.live(agent, False)
        for agent in [i for i in self._lives if i not in self._newcomers]:
            self._begin(agent)
        for late, peer in [
            (i, peer) for i in sorted(self._newcomers) for peer in self._neighbors[i]
        ]:
            self.report_lost(peer, late)
        for number, fault in enumerate(self._faults):
            self._loop.post(round(fault.at * SECOND), self.strike, number)
        self._loop.run_until_complete(self._wait())

    def resume(self) -> None:
        """Run to the end from a restored state.

        Raises:
            DeadlockError: all agents wait for each other.
        """
        self._loop.run_until_complete(self._wait())

    def save(self) -> State:
        """Return the state of all lives, between two events; arrays are shared."""
        return {
            "lives": {agent: life.save() for agent, life in self._lives.items()},
            "faults_left": self._faults_left,
            "departed": list(self.departed),
            "meetings": None if self._meetings is None else self._meetings.save(),
        }

    def restore(self, state: State) -> None:
        """Take over what `save` returned, of a simulation of the same scenario that has not run.

        Every actor is made anew and takes over its memory. Tasks wait for their next event.
        """
        for agent, saved in state["lives"].items():
            life = self._lives[agent]
            life.restore(saved)
            if saved["actor"] is None:
                continue
            life.actor = self._make(agent)
            life.actor.restore(saved["actor"])
            if saved["status"] == "running":
                self._follow(agent, life.actor, is_new=False)
            elif saved["status"] == "over":
                life.task = self._loop.create_future()
                life.task.set_result(saved["why"])
        self._faults_left = state["faults_left"]
        self.departed = [tuple(one) for one in state.get("departed", ())]
        if self._meetings is not None:
            self._meetings.restore(state["meetings"])

    def stop(self) -> None:
        """End the run now."""
        if not self._done.done():
            self._done.set_result(None)

    def port(self, agent: int) -> MailboxPort:
        """Return the port of an agent or coordinator."""
        return self._lives[agent].port

    def body(self, agent: int) -> Body | None:
        """Return an agent, or a coordinator, that is there; None for one that is away."""
        life = self._lives[agent]
        return None if life.actor is None or life.task is None else life.actor.body

    def has_ended(self, agent: int) -> bool:
        """Whether an agent or coordinator has done all its rounds, or gave up."""
        return self._has_finished(agent)

    def waits(self, agent: int) -> str:
        """Return in words what an agent or coordinator waits for; "" if it is away or has ended."""
        life = self._lives[agent]
        if life.actor is None or life.task is None or life.task.done():
            return ""
        return life.actor.schedule.waits_for()

    def waited(self) -> tuple[int, int]:
        """Return (late messages, expired deadlines), summed over all lives of all agents."""
        lives = self._lives.values()
        late = sum(life.messages_late for life in lives)
        expired = sum(life.deadlines_expired for life in lives)
        for schedule in (life.actor.schedule for life in lives if life.actor is not None):
            late, expired = late + schedule.messages_late, expired + schedule.deadlines_expired
        return late, expired

    def note_unfinished(self) -> None:
        """Let the witness see the updates that the end of the run cuts off, up to now."""
        for _, _, call, arguments in self._loop.alone():
            if call in (self.could_end, self.ends):
                agent, training, start, *_ = arguments
                if training == self._lives[agent].training and start < self._loop.now:
                    self._witness.interval(agent, "train", start, self._loop.now)

    def end(self) -> str:
        """Return why nobody runs any more. Called only if rounds are missing.

        "coordinator_gone": a coordinator crashed for good; "unreachable": an agent did not get the
        last model; "agents_gone": all agents crashed, or no agent will be there again; "rounds": a
        coordinator counted enough updates, however few models it made of them. The first that
        holds is returned.
        """
        voters = [id for id in self._coordinators if id == COORDINATOR or is_standby(id)]
        others = [id for id in self._coordinators if id not in voters]
        has_voter = not voters or any(self._has_reached_end(id) for id in voters)
        if not has_voter or not all(self._has_finished(id) for id in others):
            own = (self._lives[id].why for id in voters)
            return next(filter(None, own), "coordinator_gone")
        reasons = {life.why for life in self._lives.values()}
        for why in ("coordinator_gone", "unreachable", "agents_gone"):
            if why in reasons:
                return why
        if not self._coordinators:
            return "agents_gone"
        has_any_agent_finished = any(self._has_finished(id) for id in self._lives if id >= 0)
        return "rounds" if has_any_agent_finished else "agents_gone"

    def keep(self, agent: int, completed: int) -> None:
        """Save the agent as it is now, after `completed` rounds, for a restart."""
        life = self._lives[agent]
        assert life.actor is not None
        life.saved, life.completed = self._trainer.snapshot(agent), completed
        life.memory = life.actor.body.save()

    def _keep_whole(self, agent: int) -> None:
        """Save an agent or coordinator with its schedule, before others see what it sends."""
        life = self._lives[agent]
        assert life.actor is not None
        life.memory = life.actor.save()
        if agent not in self._coordinators:
            life.saved = self._trainer.snapshot(agent)

    # Faults call these (simulator/faults/base.py: World).

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """Cut every link between different groups."""
        # Agents in no group form one more. Coordinators stay with the first group.
        group = dict.fromkeys(self._lives, len(groups))
        group |= dict.fromkeys(self._coordinators, 0)
        for number, members in enumerate(groups):
            group |= dict.fromkeys(members, number)
        group |= {id: group[host] for id, host in self._hosted.items()}
        self._regroup(group)

    def heal(self) -> None:
        """Restore all links."""
        self._regroup(None)

    def crash(self, agent: int) -> None:
        """Kill an agent or coordinator.

        Nothing happens if this mode does not have it, or if it has finished.
        """
        for id in self._with_hosted(agent):
            if self._kill(id):
                for peer in self._neighbors[id]:
                    self._notice_loss(peer, id)

    def restart(self, agent: int) -> None:
        """Start a crashed agent or coordinator from its saved state."""
        for id in self._with_hosted(agent):
            self._restart(id)

    def straggle(self, agent: int, factor: float) -> None:
        """Slow an agent's local work down."""
        self._note_fault(agent)
        self._lives[agent].slowness = factor

    def turn(self, agent: int) -> None:
        """Note that an agent becomes Byzantine; its attack looks at the clock itself."""
        self._note_fault(agent)

    def lose(self, probability: float) -> None:
        """Lose messages with this probability, besides the network's own losses."""
        self._note_fault(_NETWORK)
        self._network.extra_loss = probability

    def leave(self, agent: int) -> None:
        """Remove an agent; its neighbors are told at once."""
        for id in self._with_hosted(agent):
            if self._kill(id):
                for peer in self._neighbors[id]:
                    self.report_lost(peer, id)

    def opt_out(self, agent: int) -> None:
        """Let an agent leave at the end of its round, unless it is away or has finished."""
        life = self._lives[agent]
        if life.task is not None and not life.task.done():
            life.port.leaves = True

    def join(self, agent: int) -> None:
        """Start an agent."""
        if self._lives[agent].task is None:
            self._note_fault(agent)
            self._network.down.discard(agent)
            self._witness.live(agent, True)
            self._begin(agent)
            for peer in self._neighbors[agent]:
                self._report_joined(peer, agent)

    # `strike`, `meet`, `could_end`, `ends`, `report_lost` and `farewell` are posted to the loop. A
    # saved run names them (build/world.py), so they are public and keep their names.

    def strike(self, number: int) -> None:
        """Apply a fault of the timeline; `run` posts this method."""
        self._faults_left -= 1
        self._faults[number].strike(self)
        if not self._running and not self._faults_left:
            self.stop()

    def meet(self, world: int) -> None:
        """Start the updates of a shared world's members, if those that are awaited have asked.

        They take as long as the slowest of them, so that they end together.
        """
        assert self._meetings is not None
        together = self._meetings.start(world)
        if not together:
            return
        self._trainer.begin(together)
        pace = {agent: self._slowness(agent) for agent in together}
        slowest = max(together, key=lambda agent: self._step_ns[agent] * pace[agent])
        for agent in together:
            self._start(agent, slowest, pace[slowest])

    def could_end(
        self, agent: int, training: int, start: int, pacemaker: int, slowness: float
    ) -> None:
        """Wait for the end of this update; this is the earliest time at which it could end.

        If no earlier batch had it, it is computed first, in one batch with all pending updates.

        Args:
            agent: whose update.
            training: its number.
            start: when it started.
            pacemaker: whose speed it has: the agent's own, or that of the slowest with whom it
                started in a shared world.
            slowness: factor of the time that the pacemaker needs.
        """
        if training != self._lives[agent].training:
            return
        if not self._trainer.has_computed(agent):
            try:
                self._trainer.compute()
            except AgentError as error:
                actor = self._lives[error.agent].actor
                assert actor is not None
                raise error.at(actor.body.place()) from error.__cause__
        end = start + round(self._trainer.steps(agent) * self._step_ns[pacemaker] * slowness)
        if end <= self._loop.now:
            self.ends(agent, training, start)
        else:
            self._loop.post(end, self.ends, agent, training, start)

    def ends(self, agent: int, training: int, start: int) -> None:
        """End this update: hand out its result."""
        life = self._lives[agent]
        if training == life.training:
            life.training += 1
            update = self._trainer.commit(agent)
            self._log.add(self._loop.now, TRAIN, agent, agent, update.env_steps, 0)
            self._witness.interval(agent, "train", start, self._loop.now)
            if self._meetings is not None:
                self._meetings.end(agent)
                self._look(agent)
            life.port.deliver(Trained(update))

    def report_lost(self, to: int, about: int) -> None:
        """Report to an agent that another one is gone, if it still is."""
        if to not in self._network.down and (
            self._has_finished(about) or not self._network.can_reach(to, about)
        ):
            self._lives[to].port.put(PeerLost(about))

    def farewell(self, to: int, about: int) -> None:
        """Report to an agent that another one has opted out, once all its messages are there."""
        last = self._network.last_arrival(about, to)
        if last is None:
            self.report_lost(to, about)
        else:
            self._loop.post(last, self.farewell, to, about)

    def _with_hosted(self, agent: int) -> list[int]:
        """Return an agent or coordinator and the standby that lives with it."""
        return [agent, *(id for id, host in self._hosted.items() if host == agent)]

    def _restart(self, agent: int) -> None:
        life = self._lives.get(agent)
        if life is None or life.task is not None:
            return
        if agent not in self._coordinators:
            if life.saved is None:
                self._trainer.reset(agent)
            else:
                self._trainer.restore(agent, life.saved)
        self.join(agent)

    def _regroup(self, group: dict[int, int] | None) -> None:
        """Cut the links between different groups, and restore all other links that were cut."""
        before, self._network.group = self._network.group, group
        self._note_fault(_NETWORK)
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
            if self._keeps(agent, frame):
                self._keep_whole(agent)
            end = self._network.send(agent, to, frame)
            self._witness.interval(agent, "send", self._loop.now, end)

        port = MailboxPort(self._loop, train, send)
        deliver = port.deliver if agent > COORDINATOR else partial(self._deliver, agent)
        self._network.connect(agent, deliver)
        return port

    def _deliver(self, agent: int, event: Event) -> None:
        """Hand an event to a coordinator, also to one that has finished."""
        life = self._lives[agent]
        if life.actor is not None and life.actor.gives_last and self._has_finished(agent):
            life.actor.answer(event)
        else:
            life.port.put(event)

    def _begin(self, agent: int) -> None:
        life = self._lives[agent]
        life.incarnation += 1
        if self._meetings is not None and agent > COORDINATOR:
            is_back = life.incarnation > 0 or agent in self._newcomers
            self._meetings.come(agent, is_back=is_back)
        if life.actor is not None:
            life.messages_late += life.actor.schedule.messages_late
            life.deadlines_expired += life.actor.schedule.deadlines_expired
        has_schedule = bool(self._coordinators)
        life.actor = self._make(agent, None if has_schedule else life.memory)
        if life.memory is not None and has_schedule:
            life.actor.restore(life.memory)
        self._follow(agent, life.actor)
        for peer in self._neighbors[agent]:
            if self._has_finished(peer) or not self._network.can_reach(agent, peer):
                self._notice_loss(agent, peer)

    def _make(self, agent: int, memory: State | None = None) -> Actor:
        life = self._lives[agent]
        if agent in self._coordinators:
            return self._coordinators[agent](life.incarnation, life.port)
        return self._spawn(agent, life.incarnation, life.completed, memory, life.port)

    def _follow(self, agent: int, actor: Actor, *, is_new: bool = True) -> None:
        task = drive(self._loop, actor, self._lives[agent].port, is_new=is_new)
        task.add_done_callback(partial(self._finished, agent))
        self._lives[agent].task = task
        self._running += 1

    def _kill(self, agent: int) -> bool:
        """Stop an agent's life; return whether it was there."""
        life = self._lives.get(agent)
        if life is None or life.task is None or life.task.done():
            return False
        life.task.cancel()
        self._vacate(agent)
        return True

    def _vacate(self, agent: int) -> None:
        """Take away what is left of an agent's life."""
        life = self._lives[agent]
        self._note_fault(agent)
        life.task = None
        life.port.close()
        life.training += 1  # voids `could_end` and `ends`, which the loop cannot cancel
        self._trainer.cancel(agent)
        self._part(agent)
        self._network.down.add(agent)
        self._witness.live(agent, False)

    def _depart(self, agent: int) -> None:
        """Take an agent away that has opted out, and the standby that lives with it.

        Its messages under way still arrive, and then its neighbors are told.
        """
        actor = self._lives[agent].actor
        assert actor is not None
        assert isinstance(actor.body, Agent)
        self.departed.append((agent, actor.body.round, self._loop.now))
        self._network.left.add(agent)
        self._vacate(agent)
        for peer in self._neighbors[agent]:
            self.farewell(peer, agent)
        for id, host in self._hosted.items():
            if host == agent:
                self.leave(id)

    def _finished(self, agent: int, task: asyncio.Future[str]) -> None:
        """Note that a task is done: it was killed, failed, or returned why it ended.

        A reason that is not empty means that the agent ended early: its neighbors notice a loss.
        """
        self._running -= 1
        has_left = not task.cancelled() and task.exception() is None and task.result() == OPTED_OUT
        if not task.cancelled():
            self._part(agent)
        if has_left:
            self._depart(agent)
        elif not task.cancelled() and task.exception() is None and task.result():
            self._witness.live(agent, False)  # the rounds of the others are complete without it
            for peer in self._neighbors[agent]:
                self._notice_loss(peer, agent)
        if not task.cancelled() and task.exception() is not None and not self._done.done():
            self._done.set_exception(task.exception())  # type: ignore[arg-type]
        # Nobody runs. If the last one was killed, a later fault may restart it, and `strike` looks
        # again after the last fault. If it ended by itself, the run is over.
        elif not self._running and not ((has_left or task.cancelled()) and self._faults_left):
            self.stop()

    async def _wait(self) -> None:
        try:
            await self._done
        finally:
            for life in self._lives.values():
                if life.task is not None:
                    life.task.cancel()

    def _train(self, agent: int) -> None:
        """Start an update: its inputs are fixed now.

        This is the first of three moments: start, earliest possible end (`could_end`), end
        (`ends`). They are the three of an update's life in learning/trainer.py. The number of steps
        of an update, and so the time of its end, is known only when it has been computed.
        """
        self._starts(agent)
        self._trainer.freeze(agent)
        if self._meetings is None:
            self._start(agent, agent, self._slowness(agent))
        else:
            self._meetings.ask(agent)
            self._look(agent)

    def _start(self, agent: int, pacemaker: int, slowness: float) -> None:
        """Start the agent's update now; it takes as long as it would take the pacemaker."""
        steps, start = self._trainer.stack.traits.min_steps, self._loop.now
        earliest = start + round(steps * self._step_ns[pacemaker] * slowness)
        training = self._lives[agent].training
        self._loop.post(earliest, self.could_end, agent, training, start, pacemaker, slowness)

    def _slowness(self, agent: int) -> float:
        """Return the factor of the time that the agent's next update takes."""
        life = self._lives[agent]
        return life.slowness * self._variation(agent, life.training)

    def _look(self, agent: int) -> None:
        """See at once, but after all that happens at this moment, whether its world can start."""
        assert self._meetings is not None
        self._loop.post(self._loop.now, self.meet, self._meetings.world(agent))

    def _part(self, agent: int) -> None:
        """An agent trains no more: the other members of its shared world do not wait for it."""
        if self._meetings is not None and agent > COORDINATOR:
            self._meetings.leave(agent)
            self._look(agent)

    def _note_fault(self, agent: int) -> None:
        self._log.add(self._loop.now, FAULT, agent, agent, 0, 0)

    def _has_finished(self, agent: int) -> bool:
        """Whether its schedule has finished. It may still answer (`Actor.stays`, `gives_last`)."""
        task = self._lives[agent].task
        return task is not None and task.done()

    def _has_reached_end(self, id: int) -> bool:
        return self._has_finished(id) and not self._lives[id].why

    def _notice_loss(self, to: int, about: int) -> None:
        """Let `to` notice by timeout that `about` is gone.

        `report_lost` checks whether it is still gone.
        """
        self._loop.post(self._loop.now + self._peer_timeout, self.report_lost, to, about)

    def _report_joined(self, to: int, about: int) -> None:
        """Tell `to` that its link to `about` works.

        If `to` has finished but still answers, it sends `about` its last messages again. Otherwise
        it receives `PeerJoined`, or `PeerLost` if `about` has finished, because a finished agent
        begins no more exchanges.
        """
        if not self._network.can_reach(to, about):
            return
        actor = self._lives[to].actor
        answers = actor is not None and (actor.stays or actor.gives_last)
        if actor is not None and answers and self._has_finished(to):
            actor.answer(PeerJoined(about))
        else:
            self._lives[to].port.put(
                PeerLost(about) if self._has_finished(about) else PeerJoined(about)
            )

    def _explain(self) -> str:
        waiting = [
            life.actor.schedule.waits_for()
            for life in self._lives.values()
            if life.actor is not None and life.task is not None and not life.task.done()
        ]
        if self._meetings is not None:
            others = {agent: self._meetings.waits(agent) for agent in self._lives}
            waiting += [
                f"agent {agent} waits for agents {', '.join(map(str, members))} to train in its world"
                for agent, members in others.items()
                if members
            ]
        shown = "; ".join(waiting[:8])
        return shown + (f"; and {len(waiting) - 8} more" if len(waiting) > 8 else "")
