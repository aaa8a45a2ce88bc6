"""Checker of the mixing contract, for built-in rules and a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from p2pfrl.consensus.mixing.base import Mixing, State, Weights, matrix_misfit
from p2pfrl.core.contract import (
    described,
    frozen,
    name_of,
    naming,
    pure,
    require,
    require_array,
    require_pair,
    require_rule,
    turn_of,
)
from p2pfrl.core.graph import Graph, undirected
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.turn import Turn

_AGENTS, _SIZE, _ROUNDS = 7, 3, 30

Train = Callable[[int, NDArray[np.floating]], NDArray[np.floating]]
"""(round, `(n, d)` parameters) -> `(n, d)` parameters after training."""


def check_mixing(rule: Mixing, graph: Graph | None = None, *, keeps_mean: bool = True) -> None:
    """Raise an error if a mixing rule breaks the contract of `Mixing`.

    Agents train and mix for some rounds on `graph`, in float32 and float64. Rows of W must have
    the agent itself and those it receives from as keys, and sum to 1 (columns, if the rule is per
    neighbor). Payloads must have `size` numbers and be the same for all neighbors unless the
    rule is per neighbor. Inputs must remain unchanged, and equal inputs must give equal results.
    Results must be finite, have the agent's dtype and share no memory with its vector. Agents that
    agree must not move. With `keeps_mean`, the mean over agents must move as training moves it.

    Args:
        rule: the rule to check.
        graph: the graph; a ring of seven agents by default.
        keeps_mean: False for a rule that does not keep the mean on this graph.

    Raises:
        ContractError: with the method, and the expected and the actual result.
        TopologyError: the rule refuses the graph.
    """
    require_rule(rule, Mixing, "check_mixing")
    ring = undirected(_AGENTS, [(i, (i + 1) % _AGENTS) for i in range(_AGENTS)])
    graph = ring if graph is None else graph
    rule.check(graph)
    _check_weights(rule, graph)
    rng = generator(0, Purpose.CHECK)
    for dtype in ("float32", "float64"):
        start = rng.standard_normal((graph.n, _SIZE)).astype(dtype)
        steps = rng.standard_normal((_ROUNDS, graph.n, _SIZE)).astype(dtype)
        alike = np.tile(start[:1], (graph.n, 1))
        slack = 1e-3 if dtype == "float32" else 1e-9
        stayed = play(rule, graph, alike, _ROUNDS)
        drift = float(np.abs(stayed - alike).max())
        where = f"{name_of(rule)}.mix"
        require(drift < slack, where, f"agents that agree moved by {drift:.3g} without training")
        after = play(rule, graph, start, 20 * _ROUNDS, partial(_train, steps))
        if keeps_mean:
            expected = (start + steps.sum(axis=0, dtype=np.float64)).mean(axis=0)
            moved = float(np.abs(after.mean(axis=0) - expected).max())
            message = (
                f"the mean over agents is {moved:.3g} away from where training moved it; "
                "pass keeps_mean=False if the rule is not meant to keep it"
            )
            require(moved < slack, where, message)


def play(
    rule: Mixing,
    graph: Graph,
    x: NDArray[np.floating],
    rounds: int,
    train: Train = lambda round, x: x,
    *,
    checked: int = _ROUNDS,
) -> NDArray[np.floating]:
    """Return `(n, d)` parameters after rounds of training and mixing without message loss.

    Args:
        rule: the rule of all agents.
        graph: the communication graph.
        x: `(n, d)` start parameters.
        rounds: number of rounds.
        train: the effect of local training.
        checked: number of first rounds in which every call is checked, as `check_mixing` describes.

    Raises:
        ContractError: the rule breaks its contract.
    """
    rule = rule.fit(graph)
    name = name_of(rule)
    with naming(f"{name}.weights"):
        rows = rule.weights(graph)
    with naming(f"{name}.init"):
        states = [rule.init(own.copy()) for own in x]
    _check_states(states, f"{name}.init")
    for round in range(rounds):
        trained, is_checked = train(round, x), round < checked
        turns = [
            turn_of(i, frozen(trained[i]), frozen(x[i]), round=round, to=graph.successors[i])
            for i in range(graph.n)
        ]
        with naming(f"{name}.prepare"):
            states = [rule.prepare(turns[i], states[i]) for i in range(graph.n)]
        if is_checked:
            _check_states(states, f"{name}.prepare")
        with naming(f"{name}.payload"):
            sent = {
                (i, j): rule.payload(turns[i], states[i], j)
                for i in range(graph.n)
                for j in graph.successors[i]
            }
        if is_checked:
            _check_payloads(rule, graph, x, sent)
        after = np.empty_like(x)
        for i in range(graph.n):
            received = {j: sent[j, i] for j in reversed(graph.predecessors[i])}
            if is_checked:
                received = {j: frozen(vector) for j, vector in received.items()}
                after[i], states[i] = _checked_mix(rule, turns[i], received, rows[i], states[i])
            else:
                with naming(f"{name}.mix"):
                    after[i], states[i] = rule.mix(turns[i], received, rows[i], states[i])
        x = after
    return x


def _check_states(states: Sequence[object], where: str) -> None:
    for state in states:
        require(state is not None, where, f"expected a state, got {described(state)}")


def _check_payloads(
    rule: Mixing,
    graph: Graph,
    x: NDArray[np.floating],
    sent: Mapping[tuple[int, int], NDArray[np.floating]],
) -> None:
    where = f"{name_of(rule)}.payload"
    for (i, _), payload in sent.items():
        require_array(payload, where, (rule.size(x.shape[1]),), x.dtype)
        first = sent[i, graph.successors[i][0]]
        is_one = rule.is_per_neighbor or np.array_equal(payload, first)
        require(is_one, where, "neighbors get different payloads; set is_per_neighbor")


def _checked_mix(
    rule: Mixing,
    turn: Turn,
    received: Mapping[int, NDArray[np.floating]],
    row: Weights,
    state: State,
) -> tuple[NDArray[np.floating], State]:
    where, inputs = f"{name_of(rule)}.mix", [turn.own, turn.start, *received.values()]
    found = pure(where, lambda: rule.mix(turn, received, row, state), inputs)
    require_pair(found, where)
    mixed, state = found
    require_array(mixed, where, turn.own.shape, turn.own.dtype)
    apart = not np.shares_memory(mixed, turn.own)
    require(apart, where, "the result shares memory with turn.own; copy it")
    return mixed, state


def _check_weights(rule: Mixing, graph: Graph) -> None:
    where = f"{name_of(rule)}.weights"
    with naming(where):
        rows = rule.weights(graph)
    problem = matrix_misfit(rule, rows, graph)
    require(problem is None, where, (problem or "").removeprefix(f"{where}: "))
    for i, row in enumerate(rows):
        expected = sorted({i, *graph.predecessors[i]})
        is_whole = sorted(row) == expected
        require(is_whole, where, f"row {i}: expected keys {expected}, got {list(row)}")


def _train(
    steps: NDArray[np.floating], round: int, x: NDArray[np.floating]
) -> NDArray[np.floating]:
    return x + steps[round] if round < len(steps) else x
