"""Attacks in runs: what each sends, by an independent computation, and whom it leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pfrl.build.preview import preview
from p2pfrl.core.docs import summary
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rng import generator
from p2pfrl.exchange.attacks import RULES
from p2pfrl.exchange.attacks.base import ExperienceAttack
from p2pfrl.exchange.attacks.omniscient import usual_z
from p2pfrl.laws.runs import FLAT, play, start, text
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.notes import notes

SIZE = 8
GRAPHS = {
    "complete": ({"kind": "complete"}, 7),
    "torus": ({"kind": "torus", "rows": 3}, 9),
    "tree": ({"kind": "tree"}, 8),
}
CARTS = {
    "environment": {"id": "CartPole-v1", "instances": 2, "max_steps": 30},
    "learner": {"kind": "reinforce", "hidden": [4], "steps": 16},
    "evaluation": {"episodes": 0},
}
OPTIONS: dict[str, dict[str, object]] = {
    "noise": {"law": "normal", "scale": 3.0},
    "constant": {"value": -2.5},
    "two_faced": {"scale": 2.0},
    "alie": {"z": 1.5},
    "ipm": {"eps": 0.7},
    "dissensus": {"eps": 1.5},
}
MESSAGES = [kind for kind, cls in RULES.items() if not issubclass(cls, ExperienceAttack)]
EXPERIENCE = [kind for kind, cls in RULES.items() if issubclass(cls, ExperienceAttack)]


def metropolis(neighbors: list[list[int]]) -> np.ndarray:
    n = len(neighbors)
    w = np.zeros((n, n))
    for i in range(n):
        for j in neighbors[i]:
            w[i, j] = 1.0 / (1 + max(len(neighbors[i]), len(neighbors[j])))
        w[i, i] = 1.0 - w[i].sum()
    return w


def sent(
    kind: str, b: int, i: int, x: np.ndarray, w: np.ndarray, liars: list[int], seed: int
) -> np.ndarray:
    """Return what Byzantine agent b sends to i in the first round: the table of docs/trust.md."""
    near = [j for j in range(len(x)) if j != i and w[i, j] > 0]
    meet = sorted([j for j in [i, *near] if j not in liars])
    around = [j for j in near if j in liars]
    if kind == "sign_flip":
        return np.array([-2.5 * number for number in x[b]])
    if kind == "noise":
        return 3.0 * generator(seed, b, "attack", 0).standard_normal(SIZE)
    if kind == "zero":
        return np.zeros(SIZE)
    if kind == "constant":
        return np.full(SIZE, -2.5)
    if kind in ("replay", "free_rider"):  # the first message; nothing was received
        return x[b]
    if kind == "two_faced":
        receivers = [j for j in range(len(x)) if j != b and w[b, j] > 0]
        return (2.0 if receivers.index(i) in range(0, len(x), 2) else -2.0) * x[b]
    if kind == "average_zero":
        return -sum(x[j] for j in meet) / len(around)
    if kind == "ipm":
        return -0.7 * sum(x[j] for j in meet) / len(meet)
    if kind == "alie":
        mean = sum(x[j] for j in meet) / len(meet)
        if len(meet) < 2:
            return mean
        variance = sum((x[j] - mean) ** 2 for j in meet) / (len(meet) - 1)
        return mean - 1.5 * np.sqrt(variance)
    if kind == "dissensus":
        pull = sum((w[i, j] * (x[j] - x[i]) for j in meet if j != i), np.zeros(SIZE))
        return x[i] - 1.5 * pull / sum(w[i, c] for c in around)
    if kind == "sybil":
        return x[liars[0]]
    raise AssertionError(kind)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("kind", [kind for kind in MESSAGES if kind != "nan"])
def test_a_round_under_attack_is_that_of_its_formula(kind: str, graph: str) -> None:
    topology, n = GRAPHS[graph]
    for seed in (2,) if graph == "torus" else (1,):
        count = 1 + seed
        liars = sorted(generator(seed, "liars").permutation(n)[:count].tolist())
        run = play(
            n,
            1,
            seed=seed,
            learner=FLAT,
            topology=topology,
            attacks=({"kind": kind, "agents": liars, **OPTIONS.get(kind, {})},),
        )
        x = start(run, seed)
        edges = run.graph.successors
        w = metropolis([list(found) for found in edges])
        for i in range(n):
            mixed = w[i, i] * x[i]
            for j in edges[i]:
                lies = j in liars
                mixed = mixed + w[i, j] * (sent(kind, j, i, x, w, liars, seed) if lies else x[j])
            scale = max(1.0, float(np.abs(mixed).max()))
            assert np.abs(run.parameters[i] - mixed).max() <= 1e-12 * scale, (kind, graph, seed, i)


UNEVEN = {
    "compute": {
        "seconds_per_env_step": "50ms",
        "speed": {"kind": "cycle", "list": [1.0, 0.2, 3.0]},
    }
}


@pytest.mark.parametrize("payload", ["parameters", "delta", "gradient"])
@pytest.mark.parametrize("kind", ["average_zero", "alie", "ipm", "sybil", "free_rider", "replay"])
def test_an_omniscient_attacker_knows_what_slower_agents_will_send(kind: str, payload: str) -> None:
    n, liars, seed = 6, [0, 2], 4
    options = OPTIONS.get(kind, {})
    is_gradient, is_change = payload == "gradient", payload != "parameters"
    learner = {"noise": 0.3, "steps": 1 if is_gradient else 3, "lr": 0.05}
    optimizer = {"kind": "sgd", "lr": 0.5} if is_gradient else {"kind": "replace"}
    run = play(
        n,
        1,
        mode="central",
        seed=seed,
        learner=learner,
        exchange={"payload": payload},
        coordinator={"server_optimizer": optimizer},
        attacks=({"kind": kind, "agents": liars, **options},),
        **UNEVEN,
    )
    first = start(run, seed, spread=0.0)[0]
    trained = play(n, 1, mode="independent", seed=seed, learner=learner).parameters
    rows = trained - first if is_change else trained
    if is_gradient:
        rows = rows / -0.05
    honest = [rows[i] for i in range(n) if i not in liars]
    mean = sum(honest) / len(honest)
    std = np.sqrt(sum((row - mean) ** 2 for row in honest) / (len(honest) - 1))
    wrong = {
        "average_zero": lambda b: -sum(honest) / len(liars),
        "alie": lambda b: mean - 1.5 * std,
        "ipm": lambda b: -0.7 * mean,
        "sybil": lambda b: rows[liars[0]],
        "free_rider": lambda b: 0.0 * first if is_change else first,
        "replay": lambda b: rows[b],
    }[kind]
    total = sum(honest) + sum(wrong(b) for b in liars)
    expected = (-0.5 if is_gradient else 1.0) * total / n + (first if is_change else 0.0)
    assert np.abs(run.parameters - expected).max() <= 1e-12


def test_replays_are_old_and_free_riders_send_the_model() -> None:
    n, rounds = 4, 5
    learner = {"noise": 0.0, "curvature": [1.0, 1.0]}
    mode = {"mode": "central", "seed": 2, "learner": learner}
    optima = play(n, 60, mode="independent", seed=2, learner={**learner, "lr": 0.9}).parameters
    for kind in ("replay", "free_rider"):
        run = play(n, rounds, **mode, attacks=({"kind": kind, "agents": [3]},))
        model = start(run, 2, spread=0.0)[0]
        before = None
        for _ in range(rounds):
            rows = [model - 0.05 * (model - optima[i]) for i in range(n)]
            own = rows[3]
            if kind == "free_rider":
                rows[3] = model
            elif before is not None:
                rows[3] = before
            before = own
            model = sum(rows) / n
        assert np.abs(run.parameters - model).max() <= 1e-10, kind


def test_attacks_of_one_agent_follow_each_other_and_remember_once_an_exchange() -> None:
    lies = ({"kind": "replay", "agents": [0]}, {"kind": "two_faced", "agents": [0]})
    run = play(3, 2, learner=FLAT, topology={"kind": "complete"}, attacks=lies)
    x = start(run, 1)
    y1, y2 = (x[1] + x[0] + x[2]) / 3, (x[2] - x[0] + x[1]) / 3
    z1, z2 = (y1 + x[0] + y2) / 3, (y2 - x[0] + y1) / 3  # 0 sends its first x again
    assert np.abs(run.parameters[1:] - [z1, z2]).max() < 1e-12


def test_the_usual_z_is_that_of_the_paper() -> None:
    def normal(z: float) -> float:
        return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))

    for honest, f in ((10, 3), (40, 10), (20, 5), (38, 12)):
        n = honest + f
        needed = n // 2 + 1 - f
        assert abs(normal(usual_z(honest, f)) - (n - f - needed) / (n - f)) < 1e-12


COMPOSED = {
    "choco": {
        "mixing": {"kind": "choco"},
        "compressor": {"kind": "difference", "compressor": {"kind": "topk"}},
    },
    "error feedback": {
        "mode": "central",
        "exchange": {"payload": "delta"},
        "compressor": {"kind": "error_feedback"},
    },
    "quantized": {"compressor": {"kind": "quantize"}},
    "control variates": {"mode": "central", "correction": {"kind": "control_variate"}},
    "gradient tracking": {"mixing": {"kind": "gradient_tracking"}},
    "gate": {"mode": "central", "gate": {"kind": "every", "tau": 2}},
    "asynchronous": {"schedule": {"kind": "asynchronous"}, **UNEVEN},
    "pairwise": {"schedule": {"kind": "asynchronous"}, "mixing": {"kind": "pairwise"}, **UNEVEN},
    "last known": {"mixing": {"on_loss": "last_known"}, "network": {"loss": 0.3}},
    "hierarchical": {"mode": "hierarchical"},
    **{
        kind: {
            "mode": "central",
            "exchange": {"payload": "delta"},
            "privacy": {"kind": kind, "clip": 1.0, "noise_multiplier": 0.5},
            "coordinator": {"aggregator": {"weights": "uniform"}},
        }
        for kind in ("clip_noise", "central_noise")
    },
    "buffered": {"mode": "central", "schedule": {"kind": "buffered", "size": 2}, **UNEVEN},
}


@pytest.mark.parametrize("name", COMPOSED)
def test_an_attack_composes_with_every_rule_and_one_that_sends_the_truth_changes_nothing(
    name: str,
) -> None:
    tables = {"learner": {"noise": 0.1, "initial_spread": 1.0}, **COMPOSED[name]}

    def parameters(scale: float) -> np.ndarray:
        attacks = ({"kind": "sign_flip", "scale": scale, "agents": [2]},) if scale else ()
        return play(4, 6, attacks=attacks, **tables).parameters  # type: ignore[arg-type]

    honest, truth, attacked = parameters(0.0), parameters(-1.0), parameters(2.5)
    assert np.array_equal(honest, truth)
    assert not np.array_equal(honest[[0, 1, 3]], attacked[[0, 1, 3]])
    assert np.isfinite(attacked).all()


def test_the_own_state_of_an_attacker_is_apart_from_what_it_sends() -> None:
    # Agent 0 hears only from agent 1 on a path of two; what 0 sends never comes back to it at once.
    x = play(2, 1, learner=FLAT, topology={"kind": "path"})
    lie = play(
        2, 1, learner=FLAT, topology={"kind": "path"}, attacks=({"kind": "noise", "agents": [0]},)
    )
    assert np.array_equal(x.parameters[0], lie.parameters[0])
    assert np.abs(x.parameters[1] - lie.parameters[1]).max() > 10.0


@pytest.mark.parametrize("mode", ["gossip", "central", "hierarchical"])
@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
def test_what_is_not_finite_is_refused_counted_and_waited_for_by_nobody(
    mode: str, schedule: str
) -> None:
    if mode == "hierarchical" and schedule == "asynchronous":
        return
    rounds, liars = 5, [1, 4]
    for value in ("nan", "inf"):
        run = play(
            6,
            rounds,
            mode=mode,
            schedule={"kind": schedule},
            compute={"seconds_per_env_step": "50ms"},
            topology={"kind": "complete"},
            attacks=({"kind": "nan", "agents": liars, "value": value},),
        )
        assert np.isfinite(run.parameters).all()
        refused = run.summary["byzantine"]["refused"]
        assert set(refused) == {"1", "4"}
        if schedule == "synchronous":
            each = rounds * (5 if mode == "gossip" else 1)
            assert refused == {"1": each, "4": each}
            assert run.summary["rounds"] == rounds


def test_a_refused_message_is_as_one_that_was_lost() -> None:
    lies = play(
        5, 4, learner=FLAT, topology={"kind": "complete"}, attacks=({"kind": "nan", "agents": [2]},)
    )
    # The links from agent 2 alone are cut by hand: its weight goes to the receiver.
    x, w = start(lies, 1), np.full((5, 5), 0.2)
    for i in (0, 1, 3, 4):
        w[i, i], w[i, 2] = 0.4, 0.0
    assert np.abs(lies.parameters - np.linalg.matrix_power(w, 4) @ x).max() < 1e-12


def test_an_attack_holds_from_one_moment_to_another() -> None:
    tables = {"learner": {"noise": 0.1, "initial_spread": 1.0}}
    lie = {"kind": "sign_flip", "agents": [2]}

    def curve(**moments: object) -> np.ndarray:
        run = play(5, 8, attacks=({**lie, **moments},), **tables)
        return run.metrics["consensus_distance"]

    never, always = curve(**{"from": 8, "until": 9}), curve()
    for k in (2, 5):
        begun = curve(**{"from": k})
        assert np.array_equal(begun[:k], never[:k])
        assert not np.isclose(begun[k:], never[k:]).any()
        ended = curve(until=k)
        assert np.array_equal(ended[:k], always[:k])
        assert not np.isclose(ended[k:], always[k:]).any()


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_the_fault_turn_byzantine_is_an_attack_from_that_time_on(mode: str) -> None:
    tables = {"learner": {"noise": 0.1, "initial_spread": 1.0}, **UNEVEN}
    attack = {"kind": "noise", "scale": 2.0}
    fault = {"kind": "turn_byzantine", "at": "0.5s", "agents": [1], "attack": attack}
    turned = play(4, 6, mode=mode, faults=(fault,), **tables)
    table = ({**attack, "agents": [1], "from": "0.5s"},)
    attacked = play(4, 6, mode=mode, attacks=table, **tables)
    assert np.array_equal(turned.parameters, attacked.parameters)
    assert turned.summary["byzantine"] == attacked.summary["byzantine"]
    assert not np.array_equal(turned.parameters, play(4, 6, mode=mode, **tables).parameters)


@pytest.mark.parametrize("kind", EXPERIENCE)
def test_an_attack_on_experience_changes_its_agents_alone(kind: str) -> None:
    swing = {**CARTS, "environment": {"id": "Pendulum-v1", "instances": 2, "max_steps": 30}}
    runs = [
        play(3, 3, mode="independent", attacks=attacks, **swing)
        for attacks in (
            (),
            ({"kind": kind, "agents": [1]},),
            ({"kind": kind, "agents": [1], "until": 1},),
        )
    ]
    plain, whole, part = (run.parameters for run in runs)
    for other in (whole, part):
        assert np.array_equal(plain[[0, 2]], other[[0, 2]])
        assert not np.array_equal(plain[1], other[1])
    assert not np.array_equal(whole[1], part[1])


def test_rewards_flipped_twice_are_rewards_and_returns_are_those_of_the_environment() -> None:
    flip = {"kind": "reward_flip", "agents": [0, 1]}
    plain = play(3, 4, mode="central", **CARTS)
    twice = play(3, 4, mode="central", attacks=(flip, flip), **CARTS)
    once = play(3, 4, mode="central", attacks=(flip,), **CARTS)
    assert np.array_equal(plain.parameters, twice.parameters)
    assert not np.array_equal(plain.parameters, once.parameters)
    assert np.nanmin(once.agents["return"]) > 0  # CartPole gives 1 per step
    pooled = [play(3, 2, mode="pooled", attacks=attacks, **CARTS) for attacks in ((), (flip,))]
    assert not np.array_equal(pooled[0].parameters, pooled[1].parameters)


def test_a_random_agent_plays_as_one_does() -> None:
    carts = {**CARTS, "environment": {"id": "CartPole-v1", "instances": 8}}
    carts["learner"] = {"kind": "reinforce", "hidden": [4], "steps": 64, "lr": 0.0}
    attack = {"kind": "random_action", "agents": [1]}
    run = play(2, 8, mode="independent", attacks=(attack,), **carts)
    assert 15.0 < run.summary["byzantine"]["final_return"] < 30.0  # 22 on average


def test_a_record_says_who_was_byzantine_and_measures_the_honest() -> None:
    run = play(
        5,
        3,
        learner={"initial_spread": 1.0},
        attacks=(
            {"kind": "noise", "agents": "3-4", "scale": 5.0},
            {"kind": "zero", "agents": [3], "from": 2},
        ),
    )
    last = run.agents["round"] == 3
    assert run.agents["byzantine"][last].tolist() == [0, 0, 0, 1, 1]
    assert run.summary["byzantine"]["agents"] == [3, 4]
    honest = run.parameters[:3]
    mean = honest.mean(axis=0)
    apart = np.sqrt(np.square(honest - mean).sum(axis=1).mean())
    assert run.summary["consensus_distance"] == pytest.approx(apart, rel=1e-12)
    everyone = run.parameters
    of_all = np.sqrt(np.square(everyone - everyone.mean(axis=0)).sum(axis=1).mean())
    assert run.summary["byzantine"]["consensus_distance_of_all"] == pytest.approx(of_all, rel=1e-12)
    rows = np.sqrt(np.square(everyone - mean).sum(axis=1))
    assert np.allclose(run.agents["disagreement"][last], rows, rtol=1e-12)
    assert "byzantine" not in play(5, 3).agents


def test_count_draws_agents_by_seed() -> None:
    drawn = {
        tuple(
            play(9, 1, seed=seed, attacks=({"kind": "zero", "count": 3},)).summary["byzantine"][
                "agents"
            ]
        )
        for seed in range(6)
    }
    assert all(len(set(agents)) == 3 for agents in drawn)
    assert len(drawn) > 3


REFUSALS = {
    "attacks.0: who attacks is missing": ({"kind": "zero"}, {}),
    "attacks.0.agents.0: there is no agent 4": ({"kind": "zero", "agents": [4]}, {}),
    "attacks.0.agents.1: agent 1 is named twice": ({"kind": "zero", "agents": [1, 1]}, {}),
    "attacks.0.agents: expected numbers of agents": ({"kind": "zero", "agents": "5-3"}, {}),
    "attacks.0.count: give either agents or count": (
        {"kind": "zero", "agents": [1], "count": 1},
        {},
    ),
    "attacks.0.count: expected fewer than the 4 agents": ({"kind": "zero", "count": 4}, {}),
    "attacks.0.until: must be above from = 3": (
        {"kind": "zero", "agents": [1], "from": 3, "until": 2},
        {},
    ),
    "attacks: all agents are Byzantine": ({"kind": "zero", "agents": "0-3"}, {}),
    "'random_action' needs a learner that acts in its environment; 'quadratic' does not": (
        {"kind": "random_action", "agents": [1]},
        {},
    ),
    "'dissensus' needs neighbors instead of a coordinator": (
        {"kind": "dissensus", "agents": [1]},
        {"mode": "central"},
    ),
    "'alie' sends every neighbor something else, and 'quantize' remembers one message": (
        {"kind": "alie", "agents": [1]},
        {"compressor": {"kind": "quantize"}},
    ),
    "mixing 'push_sum' needs the mass that every agent holds: 'zero' says a wrong one": (
        {"kind": "zero", "agents": [1]},
        {"mixing": {"kind": "push_sum"}},
    ),
    "mixing 'extra' needs every message in its round": (
        {"kind": "nan", "agents": [1]},
        {"mixing": {"kind": "extra"}},
    ),
    "'zero' needs exchange.payload 'parameters' or 'delta' or 'gradient'": (
        {"kind": "zero", "agents": [1]},
        {"mode": "central", "exchange": {"payload": "logits"}, **CARTS},
    ),
}


@pytest.mark.parametrize("expected", REFUSALS)
def test_an_attack_that_means_nothing_is_refused_with_its_place(expected: str) -> None:
    attack, tables = REFUSALS[expected]
    with pytest.raises(ScenarioError) as error:
        loads(text(4, 2, attacks=(attack,), **tables))  # type: ignore[arg-type]
    assert expected in str(error.value)


def test_the_attack_of_a_fault_has_no_agents_and_no_beginning_of_its_own() -> None:
    attack = {"kind": "zero", "agents": [1], "from": 2, "count": 1}
    fault = {"kind": "turn_byzantine", "at": "1s", "agents": [1], "attack": attack}
    with pytest.raises(ScenarioError) as error:
        loads(text(4, 2, faults=(fault,)))
    for key in ("agents", "count", "from"):
        assert f"faults.0.attack.{key}: " in str(error.value)


def test_validate_names_byzantine_agents_and_the_list_says_what_attacks_know() -> None:
    lie = ({"kind": "zero", "agents": [3, 1]},)
    assert preview(loads(text(4, 2, attacks=lie)))["byzantine"] == [1, 3]
    assert "byzantine" not in preview(loads(text(4, 2)))
    for kind, cls in RULES.items():
        known = {
            "blind": "(blind)",
            "local": "(knows its own messages)",
            "omniscient": "(omniscient",
        }
        assert known[cls.knowledge] in summary(cls.__doc__), kind


def test_a_note_names_attacks_without_effect() -> None:
    attack = {"kind": "zero", "agents": [1]}
    for mode, more, expected in (
        ("independent", {}, "in mode 'independent' without effect: attacks.0"),
        (
            "gossip",
            {"from": 2},
            "without effect: attacks.0; from = 2 is not before stop.rounds = 2",
        ),
    ):
        found = [*notes(loads(text(4, 2, mode=mode, attacks=({**attack, **more},))))]
        assert any(expected in note for note in found), found


@pytest.mark.parametrize(
    ("attack", "fault"),
    [
        ({"kind": "dissensus", "agents": [1]}, {"kind": "join", "agents": [0]}),
        ({"kind": "sybil", "agents": [1, 2]}, {"kind": "leave", "agents": [1]}),
    ],
)
def test_an_omniscient_attacker_does_without_agents_that_are_not_there(attack, fault):
    faults = ({"at": 0.003, **fault},)
    seconds = {"seconds_per_env_step": 0.002}
    record = play(4, 4, attacks=(attack,), faults=faults, compute=seconds)
    assert record.summary["rounds"] == 4
