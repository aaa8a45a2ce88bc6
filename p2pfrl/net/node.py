"""One process of a deployment: its agents' mailboxes, its trainer thread and its links."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from p2pfrl.agent import Agent
from p2pfrl.core.actor import Actor
from p2pfrl.core.causes import FOREIGN, cause
from p2pfrl.core.errors import AgentError, P2PFRLError
from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import (
    COORDINATOR,
    OPTED_OUT,
    SKIP,
    Event,
    Frame,
    Missing,
    PeerJoined,
    PeerLost,
    Received,
    Schedule,
    Send,
    Trained,
    called,
)
from p2pfrl.core.wire import Decoder
from p2pfrl.learning.meetings import Meetings
from p2pfrl.learning.trainer import Trainer
from p2pfrl.net.acquaintances import Acquaintances
from p2pfrl.net.batching import Batches
from p2pfrl.net.clock import WallClock
from p2pfrl.net.departures import Departures
from p2pfrl.net.fleet import Address, Fleet
from p2pfrl.net.listener import Listener
from p2pfrl.net.mesh import Log, Mesh, Security, Timing
from p2pfrl.net.records import Identity
from p2pfrl.net.session import Delivered
from p2pfrl.net.supervision import supervised
from p2pfrl.net.timings import Stopwatch, Timings

_SKIPPED = 64
_MAILBOX = 1024
"""Maximum number of events that wait for one agent.

The agent takes all of them in every turn of the loop, so more are a flood."""
_NO_CIRCLES: Mapping[int, Sequence[int]] = {}


def _retrieved(ended: asyncio.Future[list[str]]) -> None:
    """Let asyncio not report what tasks raised that are cancelled when this process leaves."""
    if not ended.cancelled():
        ended.exception()


class Node:
    """One process.

    Attributes:
        traffic: totals.
        clock: nanoseconds since its start.
        mesh: its links.
        schedules: the state machines of its agents.
        actors: the agents and coordinators of the process, by id.
        reason: why its agents ended: "rounds", or what kept one of them from it (`Finish.why`).
        stopwatch: times of sends, arrivals and training.

    Args:
        own: identity of this process and its agents.
        fleet: the table of processes.
        neighbors: agent -> the ids it exchanges messages with; coordinators are indexed from the
            end.
        decoder: checks frames.
        trainer: trainer of the process's agents.
        spawn: (id, port) -> an actor: that agent or the coordinator.
        save: called with (agent or coordinator, frame) before the frame is sent.
        security: security of the links.
        timing: timing of the links.
        log: receives events.
        rounds: rounds of the run, after which its agents end; None: they do not end by themselves.
        patience: maximum seconds to stay at the end for neighbors that have not ended.
        grace: local updates that a member of a shared world in a process that was started again
            starts without waiting for the others.
        departures: who opted out.
        circles: agent -> others whose processes it needs a link to, to know their keys.
        acquaintances: the keys of other processes; None where nobody needs any.
    """

    def __init__(
        self,
        own: Identity,
        fleet: Fleet,
        *,
        neighbors: Sequence[Sequence[int]] | Mapping[int, Sequence[int]],
        decoder: Decoder,
        trainer: Trainer,
        spawn: Callable[[int, MailboxPort], Actor],
        save: Callable[[int, Frame], None],
        security: Security,
        timing: Timing,
        log: Log,
        rounds: int | None = None,
        patience: float = 0.0,
        grace: int = 1,
        departures: Departures | None = None,
        circles: Mapping[int, Sequence[int]] = _NO_CIRCLES,
        acquaintances: Acquaintances | None = None,
    ) -> None:
        self.reason = "rounds"
        self.traffic = Traffic()
        self.loop = asyncio.get_running_loop()
        self.clock = WallClock(self.loop)
        self.stopwatch = Stopwatch(Timings(own.scenario, own.agents), lambda: self.clock.now)
        self.schedules: list[Schedule] = []
        self.actors: dict[int, Actor] = {}
        self._decoder = decoder
        self._trainer = trainer
        trainer.overlaps = False  # `Batches` computes in a thread
        self._spawn = spawn
        self._save = save
        self._neighbors = neighbors
        self._address = {
            agent: address for address, agents in fleet.processes.items() for agent in agents
        }
        mine = self._address[own.agents[0]]
        linked = [peer for agent in own.agents for peer in neighbors[agent]]
        linked += [peer for agent in own.agents for peer in circles.get(agent, ())]
        near = {self._address[peer] for peer in linked}
        others = {address: fleet.processes[address] for address in sorted(near) if address != mine}
        self.mesh = Mesh(
            own,
            others,
            decoder=decoder,
            security=security,
            timing=timing,
            receive=self._receive,
            report=self._report,
            log=log,
            departures=departures,
            acquaintances=acquaintances,
        )
        self._departures = departures
        self._leaves = False
        self._left: asyncio.Future[None] = self.loop.create_future()
        self._ports = {agent: self._port(agent) for agent in own.agents}
        self._newest: dict[tuple[int, int], int] = {}
        self._sent: dict[int, int] = {}
        self._finished: dict[int, None] = {}
        self._log = log
        self._rounds = rounds
        self._patience = patience
        self._ended: dict[int, None] = {}
        self._changed = asyncio.Event()
        self._batches = Batches(
            self.loop,
            compute=trainer.compute,
            trained=self._trained,
            present=self._present,
            begin=trainer.begin,
            meetings=self._meetings(own, grace),
        )

    def heard(self) -> dict[int, int]:
        """Return the round of the newest message from each neighbor in another process."""
        found: dict[int, int] = {}
        for (_, sender), round in self._newest.items():
            if sender not in self._ports:
                found[sender] = max(round, found.get(sender, round))
        return found

    async def run(
        self, listener: Listener, *, resuming: bool = False, within: float | None = None
    ) -> None:
        """Connect, run the agents to their end, and leave.

        Args:
            listener: listener for connections to this process.
            resuming: whether the process was started before. It then continues without processes
                that do not connect in time.
            within: seconds that it waits for them then; None for as long as at the first start.

        Raises:
            P2PFRLError: some processes did not connect in time, or an agent cannot go on. The
                neighbors are told why this process leaves.
        """
        listener.welcome(self.mesh.accept, self.mesh.refuse, len(set(self._address.values())))
        tasks: list[asyncio.Task[str]] = []
        try:
            await supervised(self._work(tasks, resuming=resuming, within=within))
        except AgentError as error:
            actor = self.actors.get(error.agent)
            placed = error if actor is None else error.at(actor.body.place())
            self.mesh.why = str(placed)
            raise placed from error.__cause__
        except FOREIGN as error:
            self.mesh.why = str(error) if isinstance(error, P2PFRLError) else cause(error)
            raise
        finally:
            self._batches.close()
            self.stopwatch.timings.round_trips.update(self.mesh.round_trips())
            for agent in self._ports:
                self._finish(agent)
            for task in tasks:
                task.cancel()
            await self.mesh.close()
            await self._batches.ended()

    async def _work(
        self, tasks: list[asyncio.Task[str]], *, resuming: bool, within: float | None
    ) -> None:
        """Connect and run the agents to their end."""
        await self.mesh.open(resuming=resuming, within=within)
        actors = self.actors
        for agent, port in self._ports.items():
            actors[agent] = self._spawn(agent, port)
        self.schedules = [actor.schedule for actor in actors.values()]
        for agent, actor in actors.items():
            tasks.append(self.loop.create_task(actor.run(), name=f"agent {agent}"))
            tasks[-1].add_done_callback(partial(self._end, agent))
        ended = asyncio.gather(*tasks)
        ended.add_done_callback(_retrieved)
        await asyncio.wait((ended, self._left), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            self.reason = next((why for why in ended.result() if why), self.reason)
        else:
            self.reason = OPTED_OUT
        if self.reason == OPTED_OUT:
            self.mesh.opted_out = max((self._round(agent) for agent in actors), default=0)
        else:
            await self._stay()
            self.mesh.is_done = True
        await self.mesh.drain()

    def opt_out(self, *, leaves: bool = True) -> None:
        """Let the agents of this process leave for good at the end of their rounds.

        A coordinator with standbys, or a standby, leaves with the last of them. `leaves` False
        takes it back, for those that are still there.
        """
        self._leaves = leaves
        for agent, port in self._ports.items():
            port.leaves = leaves and agent > COORDINATOR
        self._look_for_the_last()

    def opted_out(self) -> dict[str, int]:
        """Return agent -> the rounds after which it opted out, of neighbors."""
        known = {} if self._departures is None else self._departures.rounds()
        return {str(agent): rounds for agent, rounds in sorted(known.items())}

    def _look_for_the_last(self) -> None:
        """End this process if it opts out and all its agents have left."""
        is_last = all(agent in self._finished for agent in self._ports if agent > COORDINATOR)
        if self._leaves and is_last and not self._left.done():
            self._left.set_result(None)

    def _round(self, agent: int) -> int:
        """Return the rounds that an agent has ended, 0 for a coordinator."""
        body = self.actors[agent].body
        return body.round if isinstance(body, Agent) else 0

    async def _stay(self) -> None:
        """Wait until all neighbors have ended.

        A neighbor that comes back may need what was sent to it last.
        """
        try:
            async with asyncio.timeout(self._patience):
                while self._awaited():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._log.note(
                "left_behind", agents=tuple(self._awaited()), detail="had not ended when we left"
            )

    def _awaited(self) -> list[int]:
        """Return the neighbors of agents that stay which have not ended."""
        staying = [agent for agent, actor in self.actors.items() if actor.stays]
        near = {peer for agent in staying for peer in self._neighbors[agent]}
        return sorted(near - self._ended.keys() - self._finished.keys())

    def _end(self, agent: int, task: asyncio.Task[str]) -> None:
        """Note that the task of an agent is done.

        If it ended well and stays, its neighbors are told.
        """
        self._finish(agent)
        self._look_for_the_last()
        self._changed.set()
        if self.actors[agent].stays and not task.cancelled() and task.exception() is None:
            self._say_end(agent, self._neighbors[agent])

    def _say_end(self, agent: int, to: Sequence[int]) -> None:
        """Tell neighbors that no round is left: a skip of the round after the last one."""
        if self._rounds is not None:
            self.actors[agent].body.perform(Send(to, self._rounds, SKIP))

    def _receive(self, event: Delivered) -> None:
        sender = event.message.sender
        if self._rounds is not None and event.message.round >= self._rounds:
            self._ended[sender] = None
            self._changed.set()
        for agent in event.to:
            if sender not in self._neighbors[agent]:
                self.mesh.refuse(
                    "not_a_neighbor",
                    f"{called(sender)} is no neighbor of {called(agent)}",
                    (sender,),
                )
            elif len(self._ports[agent]) >= _MAILBOX:
                self.mesh.refuse(
                    "flood", f"{_MAILBOX} messages wait for {called(agent)} already", (sender,)
                )
            else:
                self.traffic.messages_delivered += 1
                self.stopwatch.arrives(agent, sender, event.message.sequence, event.message.round)
                self._skipped(agent, sender, event.message.round)
                self._put(agent, Received(event.message))

    def _skipped(self, agent: int, sender: int, round: int) -> None:
        """Report to an agent the rounds that a neighbor skipped and will not send.

        Otherwise two agents that meet again would wait a whole deadline for rounds that the other
        skipped. Of a large gap, only the next rounds and the last ones are reported.
        """
        newest = self._newest.get((agent, sender), -1)
        if round > newest and min(agent, sender) > COORDINATOR:
            self._newest[agent, sender] = round
            first = max(newest + 1, self._sent.get(agent, 0))
            near = range(first, min(round, first + _SKIPPED))
            for left_out in (*near, *range(max(first + len(near), round - _SKIPPED), round)):
                self._put(agent, Missing(sender, left_out))

    def _put(self, agent: int, event: Event) -> None:
        """Add an event to a mailbox, unless its agent has finished."""
        if agent not in self._finished:
            self._ports[agent].put(event)

    def _finish(self, agent: int) -> None:
        self._finished[agent] = None
        self._ports[agent].close()
        self._batches.leave(agent)

    def _report(self, agents: tuple[int, ...], up: bool) -> None:
        """Report to the agents of this process that those of another process are up or down."""
        if not up and not self.actors:
            self._ended |= dict.fromkeys(agents)  # absent when we resumed: nobody waits for them
        if up:
            self._ended = {j: None for j in self._ended if j not in agents}
        for agent in self._ports:
            for peer in agents:
                if peer in self._neighbors[agent]:
                    self._put(agent, PeerJoined(peer) if up else PeerLost(peer))
                    if up and agent in self._finished and self.actors[agent].stays:
                        self.actors[agent].answer(PeerJoined(peer))
                        self._say_end(agent, (peer,))

    def _port(self, agent: int) -> MailboxPort:
        def train() -> None:
            self._train(agent)

        def send(to: Sequence[int], frame: Frame) -> None:
            self._save(agent, frame)
            self._send(agent, to, frame)

        return MailboxPort(self.clock, train, send)

    def _send(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        self._sent[sender] = max(frame.round, self._sent.get(sender, 0))
        traffic = self.traffic
        traffic.send(sender, frame.nbytes, len(to), is_empty=frame.kind == SKIP)
        remote: dict[Address, list[int]] = {}
        for agent in to:
            if agent in self._ports:
                traffic.messages_delivered += 1
                self._skipped(agent, sender, frame.round)
                self._put(agent, Received(self._decoder.decode(frame)))
            else:
                remote.setdefault(self._address[agent], []).append(agent)
        away = [agent for agents in remote.values() for agent in agents]
        self.stopwatch.sends(sender, away, frame.sequence, frame.round, frame.nbytes)
        for address, agents in remote.items():
            if not self.mesh.send(address, agents, frame, sender):
                traffic.messages_dropped += len(agents)

    def _meetings(self, own: Identity, grace: int) -> Meetings | None:
        """Return the meetings of the agents here, or None if they share no world."""
        members = self._trainer.stack.traits.members
        if members == 1:
            return None
        meetings = Meetings(members, grace)
        for agent in self._trainer.agents:
            meetings.come(agent, is_back=own.incarnation > 0)
        return meetings

    def _train(self, agent: int) -> None:
        self.stopwatch.starts(agent)
        self._trainer.freeze(agent)
        self._batches.add(agent)

    def _trained(self, agent: int) -> None:
        update = self._trainer.commit(agent)
        self.stopwatch.ends(agent, update.env_steps)
        self._put(agent, Trained(update))

    def _present(self) -> int:
        """Return how many agents of this process may still train."""
        return sum(agent > COORDINATOR and agent not in self._finished for agent in self._ports)
