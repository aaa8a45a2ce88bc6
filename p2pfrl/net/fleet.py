"""Table of processes: their addresses and agents, shared by all peers of a run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.types import (
    COORDINATOR,
    COORDINATOR_NAME,
    EDGE_NAME,
    HIGHEST_ID,
    LOWEST_ID,
    MOST_STANDBYS,
    STANDBY_NAME,
    edge_id,
    id_of,
    is_standby,
    name_of,
)
from p2pfrl.learning.meetings import whole_worlds

Address = tuple[str, int]

ANYWHERE = ("0.0.0.0", "::")
"""Hosts that mean all addresses of a machine. Nobody can connect to them from elsewhere."""


@dataclass(frozen=True)
class Fleet:
    """Processes and their agents.

    Attributes:
        processes: address -> ids of its agents, sorted; -1 is the coordinator, and -2, -3, ... are
            the edges.
    """

    processes: Mapping[Address, tuple[int, ...]]

    def address(self, agent: int) -> Address:
        """Return the address of the process of `agent`."""
        return next(address for address, agents in self.processes.items() if agent in agents)

    def missing(self, everyone: Iterable[int]) -> list[int]:
        """Return the ids of a run that no process has yet."""
        there = {agent for members in self.processes.values() for agent in members}
        return [agent for agent in everyone if agent not in there]

    def rows(self) -> list[list[object]]:
        """Return the table as plain lists for a control message."""
        return [
            [host, port, list(agents)] for (host, port), agents in sorted(self.processes.items())
        ]

    @classmethod
    def of(cls, rows: object) -> Fleet:
        """Return the fleet with these `rows`.

        Raises:
            P2PFRLError: it is not a table.
        """
        table: dict[Address, tuple[int, ...]] = {}
        for row in rows if isinstance(rows, list) else [None]:
            match row:
                case [str(host), int(port), list(agents)] if 0 < port < 2**16 and all(
                    type(agent) is int and LOWEST_ID <= agent <= HIGHEST_ID for agent in agents
                ):
                    table[host, port] = tuple(sorted(agents))
                case _:
                    raise P2PFRLError(
                        "the table of who lives where: expected a list of [host, port, agents]"
                    )
        return cls(_disjoint(table))

    @classmethod
    def parse(cls, text: str) -> Fleet:
        """Return the fleet of a text.

        For example "0-3+edge0=10.0.0.1:7000,4-7+edge1=10.0.0.2:7000,coordinator=10.0.0.3:7000".

        Raises:
            P2PFRLError: it cannot be read; the message has the place.
        """
        table: dict[Address, tuple[int, ...]] = {}
        for entry in text.split(","):
            ids, equals, where = entry.strip().partition("=")
            if not equals:
                raise P2PFRLError(
                    f"--peers: expected AGENTS=HOST:PORT, such as 0-3=10.0.0.1:7000, got {entry!r}"
                )
            try:
                address, agents = parse_address(where), parse_agents(ids)
            except P2PFRLError as error:
                raise P2PFRLError(f"--peers {entry.strip()}: {error}") from None
            table[address] = tuple(sorted({*table.get(address, ()), *agents}))
        try:
            return cls(_disjoint(table))
        except P2PFRLError as error:
            raise P2PFRLError(f"--peers: {error}") from None


def _disjoint(table: dict[Address, tuple[int, ...]]) -> dict[Address, tuple[int, ...]]:
    """Return `table` if no agent is in two processes.

    Raises:
        P2PFRLError: an agent is in two.
    """
    homes: dict[int, Address] = {}
    for address, agents in table.items():
        for agent in agents:
            if agent in homes:
                first = "{}:{}".format(*homes[agent])
                raise P2PFRLError(
                    f"agents {show_agents([agent])} live at {first} and at {address[0]}:{address[1]}"
                )
            homes[agent] = address
    return table


def parse_agents(text: str) -> tuple[int, ...]:
    """Return the ids of "0-3", "1+5", "coordinator", "edge0", "edge0-2" or "standby0", sorted.

    >>> parse_agents("0-2+7"), parse_agents("coordinator"), parse_agents("3+edge0-1")
    ((0, 1, 2, 7), (-1,), (-3, -2, 3))
    """
    found: set[int] = set()
    for piece in text.strip().split("+"):
        match = re.fullmatch(f"(?:{EDGE_NAME})?" r"(\d{1,7})(?:-(\d{1,7}))?", piece)
        if piece == COORDINATOR_NAME:
            found.add(COORDINATOR)
        elif re.fullmatch(f"{STANDBY_NAME}[0-{MOST_STANDBYS - 1}]", piece):
            found.add(id_of(piece))
        elif match and (match[2] is None or int(match[2]) >= int(match[1])):
            numbers = range(int(match[1]), int(match[2] or match[1]) + 1)
            found.update(map(edge_id, numbers) if piece.startswith(EDGE_NAME) else numbers)
        else:
            raise P2PFRLError(
                f"expected agents such as 0-3, 5, 0-3+7, coordinator, 0-3+edge0 or 5+standby0, got {text!r}"
            )
    return tuple(sorted(found))


def parse_address(text: str) -> Address:
    """Return host and port of "10.0.0.1:7000" or "[::1]:7000".

    Raises:
        P2PFRLError: it is not an address.
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s]+)):(\d{1,5})", text.strip())
    if not match or int(match[3]) > 65535:
        raise P2PFRLError(f"expected HOST:PORT, such as 10.0.0.1:7000 or [::1]:7000, got {text!r}")
    return match[1] or match[2], int(match[3])


def show_agents(agents: Iterable[int]) -> str:
    """Return ids as text that `parse_agents` reads.

    >>> show_agents([0, 1, 2, 7]), show_agents([-4, -3, -1, 5])
    ('0-2+7', 'coordinator+edge1-2+5')
    """
    ids = sorted(agents)
    standbys = [id for id in ids if is_standby(id)]
    edges = [edge_id(agent) for agent in reversed(ids) if agent < COORDINATOR]
    names = [COORDINATOR_NAME] if COORDINATOR in ids else []
    names += [EDGE_NAME + run for run in runs_of(edges[: len(edges) - len(standbys)])]
    names += [str(name_of(id)) for id in standbys]
    return "+".join([*names, *runs_of(agent for agent in ids if agent > COORDINATOR)])


def who(ids: Iterable[int]) -> str:
    """Return what a sentence calls those that live in one process.

    >>> who([0, 1]), who([-1]), who([-1, 0, 1])
    ('agents 0-1', 'coordinator', 'agents coordinator+0-1')
    """
    ids = tuple(ids)
    return f"{'agents ' if max(ids, default=0) >= 0 else ''}{show_agents(ids)}"


def who_have(ids: Iterable[int], one: str = "has", many: str = "have") -> str:
    """Return them with a verb.

    >>> who_have([0, 1]), who_have([-1]), who_have([-1], "is", "are")
    ('agents 0-1 have', 'coordinator has', 'coordinator is')
    """
    ids = tuple(ids)
    return f"{who(ids)} {one if len(ids) == 1 and ids[0] < 0 else many}"


def runs_of(numbers: Iterable[int]) -> list[str]:
    """Return sorted numbers as ranges such as "3" or "5-7", each as long as possible."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return [str(a) if a == b else f"{a}-{b}" for a, b in runs]


def _named(agents: Collection[int]) -> str:
    return f"agent{'s' * (len(agents) > 1)} {show_agents(agents)}"


def refuse_split_worlds(agents: Iterable[int], members: int) -> None:
    """Raise an error if agents of one process share a world with agents of another one.

    Every step of a shared world would be a round trip, and a lost message would stop time.

    Args:
        agents: ids of the process; coordinators count nowhere.
        members: agents that share a world.

    Raises:
        P2PFRLError: naming the agents that are missing, and what to give instead.
    """
    here = {agent for agent in agents if agent > COORDINATOR}
    whole = whole_worlds(here, members)
    if missing := set(whole) - here:
        verb = "shares" if len(missing) == 1 else "share"
        whose = "it" if len(here) == 1 else "them"
        raise P2PFRLError(
            f"--agents {show_agents(here)}: {_named(missing)} {verb} a world with {whose}; "
            f"give {show_agents(whole)}"
        )


def refuse_split_hosts(agents: Iterable[int], hosted: Mapping[int, int]) -> None:
    """Raise an error if a standby is not in the process of the agent that it lives with.

    Args:
        agents: ids of the process.
        hosted: standby -> the agent that it lives with.

    Raises:
        P2PFRLError: naming who is missing, and what to give instead.
    """
    here = set(agents)
    pairs = [pair for pair in hosted.items() if (pair[0] in here) != (pair[1] in here)]
    if pairs:
        standby, host = pairs[0]
        whole = show_agents(here.union(*pairs))
        raise P2PFRLError(
            f"--agents {show_agents(here)}: {name_of(standby)} lives with agent {host}; give {whole}"
        )


def assign(
    wanted: Sequence[int],
    count: int,
    taken: Iterable[int],
    everyone: Sequence[int],
    members: int = 1,
) -> tuple[int, ...]:
    """Return the ids for a process that asks for `wanted`, or for any `count` agents.

    Args:
        wanted: ids, or none for any.
        count: number of agents if none are wanted.
        taken: ids that live in other processes.
        everyone: ids of all agents and coordinators.
        members: agents that share a world, which live in one process.

    Raises:
        P2PFRLError: they are taken or out of range, or too few are left, or split a world.
    """
    used = set(taken)
    if wanted:
        clash = [a for a in wanted if a in used]
        outside = sorted(set(wanted).difference(everyone))
        if clash or outside:
            reason = (
                f"{show_agents(clash)} live elsewhere already"
                if clash
                else f"there are {show_agents(everyone)}"
            )
            raise P2PFRLError(f"--agents {show_agents(wanted)}: {reason}")
        refuse_split_worlds(wanted, members)
        return tuple(sorted(set(wanted)))
    if count < 1:
        raise P2PFRLError(f"{count} agents were asked for")
    if count % members:
        raise P2PFRLError(
            f"--count {count}: {members} agents share a world; give a multiple of {members}"
        )
    agents = [a for a in everyone if a > COORDINATOR]
    free = [a for a in agents if a not in used]
    if len(free) < count:
        raise P2PFRLError(f"{count} agents were asked for, {len(free)} of {len(agents)} are left")
    return tuple(free[:count])
