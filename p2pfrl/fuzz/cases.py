"""Cases: a random scenario around a given one, made of a seed.

A case is the scenario with a few changes. If the whole is refused, because rules exclude each
other, changes that the refusal names are taken back until it is not.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2pfrl.core.errors import P2PFRLError, ScenarioError, ScenarioWarning
from p2pfrl.core.rng import generator
from p2pfrl.fuzz.draws import Table, Undrawable, chance, member, pick
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.layers import read
from p2pfrl.scenario.render import to_toml

MOST_AGENTS = 8
MOST_ROUNDS = 10
_TRIES = 40
_OWN = 0.06
"""Probability that a case keeps a learner and environment that are not cheap."""
_CHEAP = 0.12
"""Probability of a small learner with an environment in place of a quadratic problem."""
_NAMED = re.compile(r"(?:^|[: ])([a-z_]+)(?:\.[\w.]+)?(?:\[\w+\])?:? ")
_LEARNED = ("environment", "groups", "start", "personal", "correction", "allocation", "evaluation")
"""Sections that belong to a learner."""

Change = tuple[tuple[str, ...], Any]
"""Place of a key, and its value; None takes the key away."""


@dataclass(frozen=True)
class Base:
    """The scenario around which cases are made.

    Attributes:
        values: its tables, as the file and what it extends have them.
        source: the file: what it names is searched beside it.
    """

    values: Mapping[str, Any]
    source: str

    @classmethod
    def of(cls, file: str, overrides: Mapping[str, object] | None = None) -> Base:
        """Return the scenario of a file.

        Raises:
            ScenarioError: it is not valid.
        """
        layers = read(file, overrides)
        values = deepcopy(dict(layers.values))
        values.pop("extends", None)
        values.setdefault("name", Path(file).stem)
        return cls(values, layers.main)

    def load(self, values: Mapping[str, Any]) -> Scenario:
        """Return the scenario of tables.

        Raises:
            ScenarioError: they are refused.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScenarioWarning)
            return loads(to_toml(values), source=self.source)

    def takes(self, values: Mapping[str, Any]) -> bool:
        """Return whether tables are a valid scenario."""
        try:
            self.load(values)
        except P2PFRLError:
            return False
        return True


@dataclass(frozen=True)
class Case:
    """A random scenario.

    Attributes:
        seed: from which it was made.
        values: its tables.
        scenario: as loaded.
        refused: compositions that were refused before.
    """

    seed: int
    values: Table
    scenario: Scenario
    refused: int


def case(base: Base, seed: int) -> Case:
    """Return the case of a seed.

    Raises:
        ScenarioError: the scenario itself is refused in a small form.
    """
    rng = generator(seed, "fuzz")
    values = _small(rng, base, seed)
    own = base.values.get("agents")
    if values["agents"] != own and not base.takes(values) and base.takes({**values, "agents": own}):
        values["agents"] = own  # as many as share a world, or as its lists have values
    changes = _changes(rng, values)
    refused = 0
    for _ in range(_TRIES):
        made = _with(values, changes)
        try:
            return Case(seed, made, base.load(made), refused)
        except ScenarioError as error:
            refused += 1
            if not changes:
                values = _bare(values)
            changes = _without(rng, changes, error.problems)
        except P2PFRLError as error:
            refused += 1
            changes = _without(rng, changes, [str(error)])
    made = _bare(values)
    return Case(seed, made, base.load(made), refused)


def reduced(rng: np.random.Generator, values: Table) -> Table:
    """Return tables without one of their sections: for a case that is refused when it is built."""
    droppable = [key for key in values if key not in ("name", "agents", "stop", "learner", "seed")]
    if not droppable:
        return values
    dropped = pick(rng, droppable)
    return {key: value for key, value in values.items() if key != dropped}


def _without(
    rng: np.random.Generator, changes: Sequence[Change], problems: Sequence[str]
) -> list[Change]:
    """Return the changes without one for every problem, one that it names if it names any."""
    left = list(changes)
    for problem in problems:
        named = set(_NAMED.findall(problem[:160]))
        suspects = [i for i, (path, _) in enumerate(left) if path[0] in named] or range(len(left))
        if len(suspects):
            del left[pick(rng, list(suspects))]
    return left


def _with(values: Mapping[str, Any], changes: Sequence[Change]) -> Table:
    made = deepcopy(dict(values))
    for path, value in changes:
        node = made
        for name in path[:-1]:
            node = node.setdefault(name, {})
        if value is None:
            node.pop(path[-1], None)
        else:
            node[path[-1]] = deepcopy(value)
    return made


def _bare(values: Mapping[str, Any]) -> Table:
    kept = ("name", "seed", "agents", "stop", "learner", "environment")
    return {name: deepcopy(values[name]) for name in kept if name in values}


_QUADRATIC: Table = {"kind": "quadratic"}
_GRID: Table = {"id": "gridworld", "rows": 2, "columns": 2, "instances": 1}
_GARNET: Table = {"id": "garnet", "states": 4, "max_steps": 4, "instances": 1}
_CART: Table = {"id": "CartPole-v1", "instances": 1, "max_steps": 6}
_SMALL: tuple[tuple[Table, Table], ...] = (
    ({"kind": "tabular_q"}, _GRID),
    ({"kind": "softmax_pg"}, _GARNET),
    ({"kind": "td"}, _GARNET),
    ({"kind": "reinforce", "hidden": [2], "steps": 12}, _CART),
    ({"kind": "a2c", "hidden": [2], "steps": 12}, _CART),
)


def _small(rng: np.random.Generator, base: Base, seed: int) -> Table:
    """Return the scenario with few agents and rounds, and in most cases a cheap learner."""
    values: Table = deepcopy(dict(base.values))
    values["seed"] = seed
    values["stop"] = {"rounds": int(rng.integers(3, MOST_ROUNDS + 1))}
    is_small = isinstance(values.get("agents"), int) and values["agents"] <= MOST_AGENTS
    if not is_small or chance(rng, 0.5):
        values["agents"] = int(rng.integers(2, MOST_AGENTS + 1))
    is_quadratic = values.get("learner", {}).get("kind") == "quadratic"
    draw = float(rng.random())
    if draw < _OWN and not is_quadratic:
        return values
    for name in _LEARNED:
        values.pop(name, None)
    for name in ("shared", "payload"):
        values.get("exchange", {}).pop(name, None)
    if draw < _OWN + _CHEAP:
        learner, environment = pick(rng, _SMALL)
        values |= {"learner": dict(learner), "environment": dict(environment)}
        values["evaluation"] = {"episodes": 1}
        return values
    values["learner"] = {
        **_QUADRATIC,
        "dimension": int(rng.integers(2, 7)),
        "lr": pick(rng, (0.01, 0.03)),
        "initial_spread": pick(rng, (0.0, 1.0)),
        "noise": pick(rng, (0.0, 0.0, 0.1)),
        "steps": pick(rng, (1, 1, 2)),
    }
    return values


def _changes(rng: np.random.Generator, values: Table) -> list[Change]:
    """Return the changes of a case, from the mode down to single links."""
    mode = pick(
        rng, ("gossip",) * 9 + ("central",) * 7 + ("hierarchical",) * 2 + ("independent", "pooled")
    )
    changes: list[Change] = [(("mode",), mode)]
    step = pick(rng, (0.002, 0.01))
    changes.append((("compute",), _compute(rng, step)))
    pieces = (
        (0.9, "schedule", lambda: _schedule(rng, step)),
        (0.7 if mode in ("gossip", "independent") else 0.1, "topology", lambda: _topology(rng)),
        (0.8 if mode == "gossip" else 0.1, "mixing", lambda: _mixing(rng)),
        (0.8, "network", lambda: _network(rng)),
        (0.6 if mode in ("central", "hierarchical") else 0.1, "coordinator", lambda: _server(rng)),
        (0.35, "exchange", lambda: _exchange(rng, mode)),
        (0.35, "compressor", lambda: _compressor(rng)),
        (0.2, "gate", lambda: member(rng, "gates")),
        (0.25, "privacy", lambda: _privacy(rng)),
        (0.1, "secure", lambda: member(rng, "secure")),
        (0.15, "correction", lambda: member(rng, "corrections")),
        (0.08, "personal", lambda: member(rng, "personal")),
        (0.2, "availability", lambda: {"dropout": pick(rng, (0.2, 0.5))}),
        (0.15, "checkpoint", lambda: {"every": pick(rng, (1, 2, 3))}),
        (0.1, "work", lambda: {"assign": pick(rng, ("speed", "time")), "time": 3 * step}),
        (0.1, "energy", lambda: {"per_step": 0.1, "per_byte": 1e-6}),
        (0.5, "faults", lambda: _faults(rng, values, mode, step)),
        (0.3, "attacks", lambda: _attacks(rng, values["agents"])),
    )
    for probability, name, make in pieces:
        if chance(rng, probability):
            try:
                changes.append(((name,), make()))
            except Undrawable:
                continue
    return changes


def _compute(rng: np.random.Generator, step: float) -> Table:
    found: Table = {"seconds_per_env_step": step}
    if chance(rng, 0.5):
        found["speed"] = {"kind": "cycle", "list": pick(rng, ([1.0, 0.3, 0.6], [1.0, 2.0, 5.0]))}
    if chance(rng, 0.2):
        found["variation"] = {"kind": "exponential", "mean": 1.0}
    return found


def _schedule(rng: np.random.Generator, step: float) -> Table:
    kind = pick(rng, ("synchronous", "synchronous", "asynchronous", "buffered"))
    found: Table = {"kind": kind}
    if chance(rng, 0.3):
        found["every"] = 2
    if kind == "synchronous":
        if chance(rng, 0.7):
            found["deadline"] = pick(rng, (4 * step, 20 * step, 1.0))
        if chance(rng, 0.3):
            found["suspect_after"] = pick(rng, (1, 2))
        if chance(rng, 0.15):
            found["quorum"] = pick(rng, (0.5, 0.9))
        return found
    if kind == "buffered":
        found["size"] = pick(rng, (1, 2, 3))
    if chance(rng, 0.5):
        found["max_staleness"] = pick(rng, (0, 1, 3))
    if chance(rng, 0.6):
        found["staleness"] = pick(
            rng,
            (
                {"kind": "constant"},
                {"kind": "polynomial", "power": 1.0},
                {"kind": "hinge", "slope": 2.0, "grace": 1},
            ),
        )
    return found


def _topology(rng: np.random.Generator) -> Table:
    return member(rng, "topologies", without=("file",))


_LINEAR = ("metropolis", "uniform", "laplacian", "lazy", "push_sum", "push_sum")
"""Mixing rules of which every round can be compared with its formula."""


def _mixing(rng: np.random.Generator) -> Table:
    if chance(rng, 0.4):
        found: Table = {"kind": pick(rng, _LINEAR)}
    else:
        found = member(rng, "mixing")
    if chance(rng, 0.4):
        found["on_loss"] = pick(rng, ("fold", "renormalize", "last_known", "symmetric"))
    return found


def _network(rng: np.random.Generator) -> Table:
    found: Table = {
        "latency": pick(rng, (0.0, 0.001, {"kind": "uniform", "low": 0.001, "high": 0.02}))
    }
    if chance(rng, 0.4):
        found["jitter"] = pick(rng, (0.003, 0.03))
    if chance(rng, 0.4):
        found["loss"] = pick(rng, (0.1, 0.4, {"kind": "burst"}))
        if found["loss"] == {"kind": "burst"}:
            found["loss"] = {"kind": "burst", "good_to_bad": 0.2, "bad_to_good": 0.5}
    if chance(rng, 0.3):
        found["duplicate"] = pick(rng, (0.2, 1.0))
    if chance(rng, 0.3):
        found["bandwidth"] = pick(rng, (2e4, 1e6))
    if chance(rng, 0.3):
        found["peer_timeout"] = pick(rng, (0.02, 0.5))
    return found


def _server(rng: np.random.Generator) -> Table:
    found: Table = {}
    for probability, name, axis in (
        (0.7, "aggregator", "aggregators"),
        (0.3, "server_optimizer", "server_optimizers"),
        (0.3, "participation", "participation"),
    ):
        if chance(rng, probability):
            found[name] = member(rng, axis)
    if chance(rng, 0.15):
        found["standbys"] = 2
    if chance(rng, 0.3):
        kind = pick(rng, ("mean", "median", "trimmed_mean", "krum"))
        found["aggregator"] = {"kind": kind}
    return found


def _compressor(rng: np.random.Generator) -> Table:
    if chance(rng, 0.25):
        return {"kind": "error_feedback", "compressor": {"kind": "topk", "count": 1}}
    return member(rng, "compressors")


def _exchange(rng: np.random.Generator, mode: str) -> Table:
    found: Table = {}
    if chance(rng, 0.7):
        central = ("delta", "delta", "gradient", "table", "statistics", "logits", "parameters")
        found["payload"] = pick(rng, ("delta", "parameters") if mode == "gossip" else central)
    if chance(rng, 0.4):
        found["order"] = pick(rng, ("adapt_then_combine", "combine_while_adapting"))
    return found


def _privacy(rng: np.random.Generator) -> Table:
    found: Table = {
        "kind": pick(rng, ("clip_noise", "clip_noise", "central_noise")),
        "clip": pick(rng, (0.01, 0.1, 1.0)),
        "noise_multiplier": pick(rng, (0.5, 2.0)),
        "delta": 1e-3,
    }
    if chance(rng, 0.3):
        found["budget"] = pick(rng, (2.0, 20.0))
    if chance(rng, 0.2):
        found["norm"] = "entry"
    if chance(rng, 0.2):
        found["adjacency"] = "replace"
    if chance(rng, 0.2):
        found["decay"] = 0.9
    return found


def _attacks(rng: np.random.Generator, agents: int) -> list[Table]:
    count = int(rng.integers(1, max(2, agents // 3 + 1)))
    chosen = sorted(int(i) for i in rng.choice(agents, size=count, replace=False))
    found = {**member(rng, "attacks"), "agents": chosen}
    if chance(rng, 0.3):
        found["from"] = round(0.1 * float(rng.random()), 4)
    return [found]


def _faults(rng: np.random.Generator, values: Table, mode: str, step: float) -> list[Table]:
    """Return a timeline: what begins mostly ends, and most of it during the run."""
    agents, rounds = values["agents"], values["stop"]["rounds"]
    horizon: float = 1.3 * rounds * (2 * step + 0.01)

    def at(after: float = 0.0) -> float:
        return round(after + (horizon - after) * float(rng.random()), 5)

    def somebody() -> list[Any]:
        if mode in ("central", "hierarchical") and chance(rng, 0.3):
            return ["coordinator"]
        if mode == "hierarchical" and chance(rng, 0.3):
            return ["edge0"]
        count = 1 if chance(rng, 0.8) else min(2, agents)
        return sorted(int(i) for i in rng.choice(agents, size=count, replace=False))

    def some_agents() -> list[int]:
        return [int(rng.integers(agents))]

    found: list[Table] = []
    for _ in range(int(rng.integers(1, 4))):
        kind = pick(
            rng, ("crash", "crash", "partition", "straggle", "loss", "leave", "join", "turn")
        )
        time = at()
        if kind == "crash":
            who = somebody()
            found.append({"kind": "crash", "at": time, "agents": who})
            if chance(rng, 0.7):
                found.append({"kind": "restart", "at": at(time), "agents": who})
        elif kind == "partition":
            found.append({"kind": "partition", "at": time, "groups": [some_agents()]})
            if chance(rng, 0.8):
                found.append({"kind": "heal", "at": at(time)})
        elif kind == "straggle":
            factor = pick(rng, (0.1, 5.0, 30.0))
            found.append({"kind": kind, "at": time, "agents": some_agents(), "factor": factor})
        elif kind == "loss":
            found.append({"kind": kind, "at": time, "probability": pick(rng, (0.1, 0.5, 1.0))})
            found.append({"kind": kind, "at": at(time), "probability": 0.0})
        elif kind == "turn":
            attack = member(rng, "attacks")
            fault = {"kind": "turn_byzantine", "at": time, "agents": some_agents()}
            found.append({**fault, "attack": attack})
        elif kind == "leave":
            kind = pick(rng, ("leave", "opt_out"))
            found.append({"kind": kind, "at": time, "agents": some_agents()})
        else:
            found.append({"kind": kind, "at": time, "agents": some_agents()})
    return sorted(found, key=lambda fault: float(fault["at"]))
