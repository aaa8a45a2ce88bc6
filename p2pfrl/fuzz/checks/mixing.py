"""Invariants of mixing between neighbors: the matrix, the mean, disagreement, and mass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.agent import Agent
from p2pfrl.build.world import World
from p2pfrl.catalog import kind_of
from p2pfrl.consensus.mixing.base import Mixing
from p2pfrl.core.actor import Body
from p2pfrl.core.graph import Graph
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import SKIP, Action, Mix, Send
from p2pfrl.fuzz.checks.facts import is_plain, mixes_rounds
from p2pfrl.fuzz.watch import Check

Matrix = NDArray[np.float64]
_NEAR = 1e-9


def _uniform(rule: Mixing, heard: Sequence[Sequence[int]]) -> Matrix:
    out = np.zeros((len(heard), len(heard)))
    for i, senders in enumerate(heard):
        out[i, [i, *senders]] = 1.0 / (1 + len(senders))
    return out


def _metropolis(rule: Mixing, heard: Sequence[Sequence[int]]) -> Matrix:
    out = np.zeros((len(heard), len(heard)))
    for i, senders in enumerate(heard):
        for j in senders:
            out[i, j] = 1.0 / (1 + max(len(senders), len(heard[j])))
        out[i, i] = 1.0 - out[i].sum()
    return out


def _lazy(rule: Mixing, heard: Sequence[Sequence[int]]) -> Matrix:
    share: float = rule.laziness  # type: ignore[attr-defined]
    return share * np.eye(len(heard)) + (1.0 - share) * _metropolis(rule, heard)


def _laplacian(rule: Mixing, heard: Sequence[Sequence[int]]) -> Matrix:
    alpha: float | None = rule.alpha  # type: ignore[attr-defined]
    degrees = [len(senders) for senders in heard]
    step = 1.0 / (1 + max(degrees)) if alpha is None else alpha
    out = np.diag([1.0 - step * degree for degree in degrees])
    for i, senders in enumerate(heard):
        out[i, list(senders)] = step
    return out


MATRICES: dict[str, Callable[[Mixing, Sequence[Sequence[int]]], Matrix]] = {
    "uniform": _uniform,
    "metropolis": _metropolis,
    "lazy": _lazy,
    "laplacian": _laplacian,
}
"""Mixing matrices of their formulas, written apart from the rules."""


class Mixed(Check):
    """A linear rule mixes as its formula says, keeps the mean, and shrinks disagreement."""

    says = (
        "x <- sum_j w_ij x_j by the rule's formula; symmetric rounds without loss keep the mean, "
        "and disagreement shrinks by |lambda_2| at least"
    )

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._expected: Vector | None = None
        self._rounds: dict[int, dict[int, tuple[Vector, Vector]]] = {}
        self._matrix: dict[int, Matrix] = {}
        self._own: Vector | None = None

    @override
    def applies(self) -> bool:
        scenario = self.scenario
        return (
            is_plain(self.world)
            and mixes_rounds(scenario)
            and kind_of("mixing", scenario.mixing) in MATRICES
            and scenario.mixing.on_loss != "last_known"
            and kind_of("payloads", self.world.assembly.plan.payload) == "parameters"
            and kind_of("compressors", scenario.compressor) == "none"
            and not self.world.assembly.privacy.is_accounted
        )

    def _weights(self, round: int) -> Matrix:
        if round not in self._matrix:
            graph: Graph = self.world.assembly.plan.view.at(round)
            rule = self.scenario.mixing
            made = MATRICES[kind_of("mixing", rule)]
            self._matrix[round] = made(rule, [list(heard) for heard in graph.predecessors])
        return self._matrix[round]

    @override
    def before(self, body: Body, action: Action) -> None:
        self._expected = None
        if not isinstance(action, Mix) or not action.active or not isinstance(body, Agent):
            return
        own, me, row = self.vector(body.id), body.id, self._weights(action.round)[body.id]
        start = body.outgoing()
        change = own - start
        vectors = {m.sender: m.payload for m in action.received if row[m.sender]}
        factors = {
            m.sender: factor
            for m, factor in zip(action.received, action.factors, strict=True)
            if m.sender in vectors
        }
        kept = {j: row[j] * factor for j, factor in factors.items()}
        rest = 1.0 - row[me] - sum(kept.values())
        share = row[me] + rest
        if self.scenario.mixing.on_loss == "renormalize":
            whole = row[me] + sum(kept.values())
            is_whole = abs(whole - 1.0) < 1e-12
            if not is_whole:
                kept = {j: weight / whole for j, weight in kept.items()}
                share = row[me] / whole
            if whole <= 0.0:
                kept, share = {}, 1.0
        self._expected = share * start + change
        for j, weight in kept.items():
            self._expected = self._expected + weight * vectors[j]
        self._own = start
        heard = {j for j in range(len(row)) if row[j] and j != me}
        is_whole = heard == set(vectors) and not any(action.staleness)
        if is_whole and all(factor == 1.0 for factor in factors.values()):
            found = self._rounds.setdefault(action.round, {})
            found[me] = start, self._expected - change

    @override
    def after(self, body: Body, action: Action) -> None:
        if self._expected is None or not isinstance(action, Mix):
            return
        got, expected = self.vector(body.id), self._expected
        scale = 1.0 + float(np.abs(expected).max())
        if not np.allclose(got, expected, rtol=0.0, atol=_NEAR * scale):
            far = float(np.abs(got - expected).max())
            self.fail(f"agent {body.id} is {far:.3g} from its formula after round {action.round}")
        rounds = self._rounds.get(action.round, {})
        if len(rounds) == self.scenario.agents:
            self._together(action.round, [rounds[i] for i in sorted(rounds)])
            del self._rounds[action.round]

    def _together(self, round: int, pairs: Sequence[tuple[Vector, Vector]]) -> None:
        """Check a round in which everybody heard all neighbors."""
        weights = self._weights(round)
        kinds = {kind_of("faults", fault) for fault in self.scenario.faults}
        if kinds - {"straggle", "loss"}:
            return  # who comes back may send what it has by then, for a round that is over
        if self.world.assembly.attackers.agents or not np.allclose(weights, weights.T, atol=1e-12):
            return
        before, after = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
        scale = 1.0 + float(np.abs(before).max())
        if not np.allclose(before.mean(axis=0), after.mean(axis=0), rtol=0.0, atol=_NEAR * scale):
            self.fail(f"round {round} moved the mean")
        modulus = np.sort(np.abs(np.linalg.eigvalsh(weights)))
        largest = float(modulus[-2]) if len(modulus) > 1 else 0.0
        far = [float(np.linalg.norm(rows - rows.mean(axis=0))) for rows in (before, after)]
        if far[1] > largest * far[0] + _NEAR * scale * len(before):
            self.fail(f"disagreement went from {far[0]:.6g} to {far[1]:.6g} in round {round}")


class Mass(Check):
    """Push-sum loses no mass: what agents have, and what is given and not yet had, is constant."""

    says = (
        "sum of w, at agents and on its way, is n, x moves only by training, and a message has the sum "
        "that its sender has given"
    )

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._states: dict[int, tuple[Vector, dict, dict]] = {}  # type: ignore[type-arg]
        self._last: dict[int, Vector] = {}
        self._trained: Vector | float = 0.0
        self._first: Vector | None = None
        self._given: dict[tuple[int, int, int], Vector] = {}

    @override
    def applies(self) -> bool:
        return (
            is_plain(self.world)
            and self.scenario.mode == "gossip"
            and kind_of("mixing", self.scenario.mixing) == "push_sum"
            and not self.world.assembly.attackers.agents
            and not {kind_of("faults", f) for f in self.scenario.faults} & {"crash", "join"}
            and not self.world.assembly.privacy.is_accounted
            and kind_of("payloads", self.world.assembly.plan.payload) == "parameters"
        )

    @override
    def before(self, body: Body, action: Action) -> None:
        if _is_exchange(action) and isinstance(body, Agent):
            if not self._states:
                self._begin()
            if not body.has_begun_exchange:
                self._trained = self._trained + self.vector(body.id) - self._last[body.id]
                self._last[body.id] = self.vector(body.id)

    def _begin(self) -> None:
        for agent in range(self.scenario.agents):
            own = self.world.simulation.body(agent)
            assert own is not None
            state = own.save()["_mixing_state"]
            self._states[agent] = state[0], state[1], state[2]
            self._last[agent] = state[0][:-1].copy()

    @override
    def after(self, body: Body, action: Action) -> None:
        if not _is_exchange(action) or not isinstance(body, Agent):
            return
        state = body.save()["_mixing_state"]
        self._states[body.id] = state[0], state[1], state[2]
        if isinstance(action, Send):
            for to in action.to:
                if to in state[1]:
                    self._given.setdefault((body.id, to, action.round), state[1][to])
        if isinstance(action, Mix):
            for message in action.received:
                given = self._given.get((message.sender, body.id, message.round))
                if given is not None and not np.array_equal(message.payload, given):
                    self.fail(f"{message.sender} gave {body.id} another sum than it sent")
            self._last[body.id] = self.vector(body.id)
            if state[0][-1] <= 0.0:
                self.fail(f"agent {body.id} has the weight {state[0][-1]}")
        self._add()

    def _add(self) -> None:
        total: Vector = np.sum([own for own, _, _ in self._states.values()], axis=0)
        for i, (_, given, _) in self._states.items():
            for j, sum_given in given.items():
                had = self._states[j][2].get(i)
                total = total + sum_given - (0.0 if had is None else had)
        n, scale = self.scenario.agents, 1.0 + float(np.abs(total).max())
        if abs(total[-1] - n) > 1e-9 * n:
            self.fail(f"the weights add up to {total[-1]}, with n = {n}")
        values = total[:-1] - self._trained
        if self._first is None:
            self._first = values
        if not np.allclose(values, self._first, rtol=0.0, atol=1e-9 * scale):
            self.fail(f"the sum of x moved by {float(np.abs(values - self._first).max()):.3g}")


def _is_exchange(action: Action) -> bool:
    """Whether an exchange begins or ends.

    None does where an agent has no receiver in the round, sits the round out, or only says that it
    skips it.
    """
    return (isinstance(action, Mix) and action.active) or (
        isinstance(action, Send) and bool(action.to) and action.kind != SKIP
    )
