"""The state of a simulated world between two events, for whoever watches the run.

It only reads the world, so a run does not depend on whether it is watched.
"""

from __future__ import annotations

from typing import Any

from p2pfrl.agent import Agent
from p2pfrl.build.world import World
from p2pfrl.core.types import Frame
from p2pfrl.core.units import SECOND
from p2pfrl.simulator.digest import DELIVER, DROP, SEND

MOST_MESSAGES = 240
"""Number of messages above which only some are in a sight."""
MOST_NAMED = 3
"""Number of agents with the best and the worst returns that a sight names."""
MOST_WAITING = 24
"""Number of agents, those with the fewest rounds, of which a sight says what they wait for."""
_EVENTS = 2400
_LEAST, _PER_AGENT = 120, 4
"""A sight looks at so many of the last messages at least, and per agent."""
_TRAINING = ("could_end", "ends")
_LANDING = ("arrive", "hand_over", "arrive_again")


def sight(world: World) -> dict[str, Any]:
    """Return what the world looks like now, as JSON.

    `round` is that of a row that would be written now. `rounds` and `states` are by agent: rounds
    that it has ended itself; "t" trains, "w" waits, "d" is down, "e" has ended. `best` and `worst`
    are agents and their returns. `messages` are the last ones: [sent, arrived, from, to, outcome],
    in virtual seconds; the outcome is "flying", "delivered" or "lost", and what is flying arrives
    in the future. `window` is the time that they cover. `timeline` has [agent, kind, start, end].
    """
    simulation, network, now = world.simulation, world.network, world.loop.now
    n = world.assembly.scenario.agents
    pending = world.loop.pending(_PER_AGENT)
    training = {args[0] for _, _, call, args in pending if call.__name__ in _TRAINING}
    rounds, states = [], []
    for agent in range(n):
        body = simulation.body(agent)
        rounds.append(body.round if isinstance(body, Agent) else 0)
        is_down = body is None or agent in network.down
        states.append(
            "d"
            if is_down
            else "e"
            if simulation.has_ended(agent)
            else "t"
            if agent in training
            else "w"
        )
    flying = [
        (when, args[0], args[1], args[2])
        for when, _, call, args in pending
        if call.__name__ in _LANDING
    ]
    messages, count, window = _messages(world, flying)
    rounds = world.recorder.updates_by or rounds  # a coordinator's models are no rounds of an agent
    behind = sorted(range(n), key=lambda agent: (rounds[agent], agent))[:MOST_WAITING]
    ids = [*world.assembly.coordinators, *behind]
    returns = world.recorder.returns_by_agent()
    order = sorted(returns, key=lambda agent: (returns[agent], agent))
    late, expired = simulation.waited()
    traffic = network.traffic
    return {
        "virtual_seconds": now / SECOND,
        "round": world.recorder.round,
        "rounds": rounds,
        "states": "".join(states),
        "down": sorted(network.down),
        "best": [[agent, returns[agent]] for agent in order[: -MOST_NAMED - 1 : -1]],
        "worst": [[agent, returns[agent]] for agent in order[:MOST_NAMED]],
        "waits": {str(id): text for id in ids if (text := simulation.waits(id))},
        "in_flight": world.loop.count(_LANDING),
        "messages": messages,
        "messages_counted": count,
        "window": window,
        "timeline": [
            [agent, kind, start / SECOND, end / SECOND]
            for agent, kind, start, end in world.recorder.latest_intervals
        ],
        "refused": {str(agent): count for agent, count in sorted(network.refused.items())},
        "late": late,
        "expired": expired,
        "sent": traffic.messages_sent,
        "dropped": traffic.messages_dropped,
        "bytes_sent": traffic.bytes_sent,
        "env_steps": world.recorder.env_steps,
    }


def _messages(
    world: World, flying: list[tuple[int, int, int, Frame]]
) -> tuple[list[list[Any]], int, list[float]]:
    """Return the last messages, how many there were, and the time from the first of them to now."""
    now, sent = world.loop.now, {}
    found: list[tuple[int, int, int, int, str]] = []
    for time, kind, sender, receiver, sequence, _ in world.log.latest(_EVENTS):
        key = (sender, receiver, sequence)
        if kind == SEND:
            sent[key] = time
        elif kind in (DELIVER, DROP) and (start := sent.pop(key, None)) is not None:
            found.append((start, time, sender, receiver, "lost" if kind == DROP else "delivered"))
    for when, sender, receiver, frame in flying:
        start = sent.get((sender, receiver, frame.sequence), now)
        found.append((start, when, sender, receiver, "flying"))
    found.sort()
    found = found[-max(_LEAST, _PER_AGENT * world.assembly.scenario.agents) :]
    count, first = len(found), min((start for start, *_ in found), default=now)
    step = max(1.0, count / MOST_MESSAGES)
    chosen = [found[int(place * step)] for place in range(min(count, MOST_MESSAGES))]
    shown = [[start / SECOND, end / SECOND, *rest] for start, end, *rest in chosen]
    return shown, count, [first / SECOND, now / SECOND]
