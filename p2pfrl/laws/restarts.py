"""Laws of restarts: agents and coordinators that crash cost time and change no result."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.experiment.run import simulate
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import Table, ended, text
from p2pfrl.results.record import Record
from p2pfrl.scenario import loads

AGENTS = 6
ROUNDS = 30
DOWN: dict[str, Table] = {
    "network": {"latency": "5ms", "jitter": "3ms", "peer_timeout": "100ms"},
    "compute": {
        "seconds_per_env_step": "20ms",
        "speed": {"kind": "uniform", "low": 0.5, "high": 1.5},
    },
}
"""Network whose links detect dead peers, and agents of different speeds."""
_TIMES = (("305ms", "700ms"), ("900ms", "903ms"), ("1100ms", "2s"))
_DELTA: dict[str, Table] = {
    "exchange": {"payload": "delta"},
    "coordinator": {
        "server_optimizer": {"kind": "adam"},
        "participation": {"kind": "uniform", "fraction": 0.5},
    },
}
_SPARSE: dict[str, Table] = {
    "exchange": {"payload": "delta"},
    "compressor": {"kind": "error_feedback", "compressor": {"kind": "topk", "fraction": 0.25}},
}
_GATED: dict[str, Table] = {"gate": {"kind": "norm", "threshold": 0.5, "max_silence": 4}}
_SCAFFOLD: dict[str, Table] = {"correction": {"kind": "control_variate"}}
_TREE: dict[str, Table] = {"hierarchy": {"edges": 2, "edge_rounds": 3}}
_PATIENT: dict[str, Table] = {"network": {**DOWN["network"], "peer_timeout": "10s"}}
_CARTPOLE: dict[str, Table] = {
    "environment": {"id": "CartPole-v1", "instances": 2},
    "learner": {"kind": "a2c", "steps": 8},
    "compute": {"seconds_per_env_step": "1ms"},
}
_NOISY: dict[str, Table] = {"learner": {"noise": 0.3, "initial_spread": 1.0}}
WORLDS: dict[str, tuple[str, tuple[str, ...], dict[str, Table]]] = {
    "central": ("central", ("coordinator",), _NOISY),
    "central, Adam, half of the agents": ("central", ("coordinator",), {**_NOISY, **_DELTA}),
    "central, top-k with error feedback": ("central", ("coordinator",), {**_NOISY, **_SPARSE}),
    "central, a gate": ("central", ("coordinator",), {**_NOISY, **_GATED}),
    "central, SCAFFOLD": ("central", ("coordinator",), {**_NOISY, **_SCAFFOLD}),
    "hierarchical, the cloud": ("hierarchical", ("coordinator",), {**_NOISY, **_TREE}),
    "hierarchical, an edge": (
        "hierarchical",
        ("edge1",),
        {**_NOISY, **_TREE, **_PATIENT},
    ),
    "hierarchical, an edge of edges": (
        "hierarchical",
        ("edge0",),
        {**_NOISY, "hierarchy": {"branching": 2, "edge_rounds": 2}, **_PATIENT},
    ),
    "hierarchical, all": ("hierarchical", ("edge0", "coordinator", "edge1"), {**_NOISY, **_TREE}),
    "pooled": ("pooled", ("coordinator",), _CARTPOLE),
}
"""Name -> mode, coordinators that crash, tables.

Links must not count as dead, because the cloud does not wait for an edge with a dead link."""


def outages(*names: str) -> tuple[Table, ...]:
    """Return three crashes and restarts of these coordinators."""
    pairs = [
        ({"at": crash, "kind": "crash"}, {"at": back, "kind": "restart"}) for crash, back in _TIMES
    ]
    return tuple({**fault, "agents": list(names)} for pair in pairs for fault in pair)


def _pair(name: str) -> tuple[Record, Record]:
    """Return the runs of a world without faults and with faults."""
    mode, names, own = WORLDS[name]
    return run(mode, own), run(mode, own, outages(*names))


def run(mode: str, own: dict[str, Table], faults: tuple[Table, ...] = ()) -> Record:
    """Return the run of a world."""
    tables = {**DOWN, **own}
    return ended(
        simulate(
            loads(text(AGENTS, ROUNDS, mode=mode, seed=3, faults=faults, attacks=(), **tables))
        )
    )


def _same() -> Iterator[Figure]:
    for name in WORLDS:
        free, faulty = _pair(name)
        yield at_most(
            f"{name}: largest difference of the parameters after three outages",
            0.0,
            float(np.abs(free.parameters - faulty.parameters).max()),
        )
        lost = int(faulty.summary["messages_dropped"])
        yield at_least(f"{name}: messages that the outages lost", 1.0, float(lost))
        rows = [record.metrics["consensus_distance"] for record in (free, faulty)]
        yield at_most(
            f"{name}: rounds missing from the record", 0.0, float(len(rows[0]) - len(rows[1]))
        )


def _asynchronous() -> Iterator[Figure]:
    for kind, options in (("asynchronous", {}), ("buffered", {"size": 3})):
        schedule: Table = {"kind": kind, **options}
        own = {**_NOISY, "schedule": schedule, "exchange": {"payload": "delta"}}
        record = run("central", own, outages("coordinator"))
        missing = AGENTS * ROUNDS - int(record.staleness.sum())
        yield near(f"{kind}: updates missing of n R after three outages", 0.0, missing, 0.0)


_DIFFERENCE: Table = {"kind": "difference", "compressor": {"kind": "qsgd"}}
EVERY_MESSAGE: dict[str, dict[str, Table]] = {
    "gradient_tracking": {"mixing": {"kind": "gradient_tracking"}},
    "gradient_tracking, adapt then combine": {
        "mixing": {"kind": "gradient_tracking", "form": "adapt_then_combine"}
    },
    "extra": {"mixing": {"kind": "extra"}},
    "extra, three updates per exchange": {
        "mixing": {"kind": "extra"},
        "schedule": {"every": 3},
    },
    "chebyshev": {"mixing": {"kind": "chebyshev"}},
    "choco": {"mixing": {"kind": "choco"}, "compressor": _DIFFERENCE},
    "choco, combine while adapting": {
        "mixing": {"kind": "choco"},
        "compressor": _DIFFERENCE,
        "exchange": {"order": "combine_while_adapting"},
    },
    "compressor difference": {"compressor": _DIFFERENCE},
}
"""Rules that need every message: name -> tables."""


def crashes(seed: int, until: float) -> tuple[Table, ...]:
    """Return crashes and restarts of all agents, up to virtual second `until`.

    Their times are drawn by `seed`.
    """
    rng = np.random.default_rng(seed)
    faults: list[Table] = []
    for agent in range(AGENTS):
        now = rng.uniform(0.0, until / 2)
        while now < until:
            back = now + rng.uniform(0.01, 0.3)
            faults.append({"at": now, "kind": "crash", "agents": [agent]})
            faults.append({"at": back, "kind": "restart", "agents": [agent]})
            now = back + rng.uniform(0.1, until / 2)
    return tuple(faults)


def of_agents(name: str, seed: int, faults: tuple[Table, ...] = ()) -> Record:
    """Return the run of a rule that needs every message."""
    learner: Table = {"lr": 0.05, "noise": 0.1, "initial_spread": 1.0}
    tables = {**DOWN, "topology": {"kind": "grid"}, "learner": learner, **EVERY_MESSAGE[name]}
    return ended(
        simulate(
            loads(
                text(AGENTS, ROUNDS, mode="gossip", seed=seed, faults=faults, attacks=(), **tables)
            )
        )
    )


def _agents() -> Iterator[Figure]:
    for name in EVERY_MESSAGE:
        free = of_agents(name, 1)
        faults = crashes(1, float(free.summary["virtual_seconds"]))
        faulty = of_agents(name, 1, faults)
        yield at_most(
            f"{name}: largest difference of the parameters after {len(faults) // 2} crashes",
            0.0,
            float(np.abs(free.parameters - faulty.parameters).max()),
        )
        lost = float(faulty.summary["messages_dropped"])
        yield at_least(f"{name}: messages that the crashes lost", 1.0, lost)


LAWS = (
    Law(
        "agent_restart",
        "agents that crash and come back end with the parameters of agents that did not, where every message counts",
        "computed",
        _agents,
    ),
    Law(
        "coordinator_restart",
        "a synchronous coordinator that crashes and comes back ends with the parameters of one that did not",
        "computed",
        _same,
    ),
    Law(
        "coordinator_restart_asynchronous",
        "a coordinator without rounds that crashes and comes back applies n R updates",
        "computed",
        _asynchronous,
    ),
)
