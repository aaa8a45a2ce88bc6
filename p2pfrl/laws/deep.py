"""Laws of partial sharing: distillation, guides, shared critics, mixtures of policies, DQN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from p2pfrl.core.parameters import Vector
from p2pfrl.core.softmax import log_softmax
from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import Array, play, text
from p2pfrl.results.record import Record
from p2pfrl.scenario import loads
from p2pfrl.scenario.bind import acting, outline

_CART = {"id": "CartPole-v1", "instances": 4}
_STATES, _ACTIONS = 32, 2


def distilled(mode: str, seed: int, rounds: int = 30) -> Record:
    """Run six CartPole agents that exchange their policies' outputs in public states."""
    return play(
        6,
        rounds,
        mode=mode,
        seed=seed,
        environment=_CART,
        topology={"kind": "complete"},
        learner={
            "kind": "ppo",
            "hidden": [32],
            "same_start": False,
            "distill": {"coef": 5.0, "states": _STATES},
        },
        exchange={"payload": "logits"},
    )


def _distillation() -> Iterator[Figure]:
    for seed in (1, 2):
        runs = {mode: distilled(mode, seed) for mode in ("independent", "gossip", "central")}
        apart = {mode: float(run.metrics["policy_kl"][-10:].mean()) for mode, run in runs.items()}
        spread = {mode: float(run.metrics["consensus_distance"][-1]) for mode, run in runs.items()}
        for mode in ("gossip", "central"):
            sent = runs[mode].summary
            per_message = sent["bytes_sent"] / sent["messages_sent"]
            yield _size(f"seed {seed}: bytes per message, {mode}", _STATES * _ACTIONS, per_message)
            yield at_most(
                f"seed {seed}: policy KL, {mode} / independent",
                0.8,
                apart[mode] / apart["independent"],
            )
            yield at_least(
                f"seed {seed}: distance of parameters, {mode} / independent",
                0.5,
                spread[mode] / spread["independent"],
            )


def _size(what: str, numbers: int, measured: float) -> Figure:
    """Return a figure for the size of a message of float32 numbers and a header."""
    return Figure(what, f"{4 * numbers} + header", measured, 4 * numbers + 100, 4 * numbers + 200)


def guided(coef: float | None, seed: int) -> Record:
    """Run six agents on a ring with unlike gravity, regularized toward their neighbors' policy."""
    more: dict[str, Any] = {} if coef is None else {"correction": {"kind": "guide", "coef": coef}}
    environment = {**_CART, "vary": {"gravity": {"kind": "uniform", "low": 5.0, "high": 15.0}}}
    return play(
        6,
        12,
        seed=seed,
        environment=environment,
        learner={"kind": "ppo", "hidden": [32]},
        topology={"kind": "ring"},
        **more,
    )


def _guide() -> Iterator[Figure]:
    for seed in (1, 2):
        plain, runs = guided(None, seed), {coef: guided(coef, seed) for coef in (0.0, 3.0, 30.0)}
        apart = {coef: float(run.metrics["policy_kl"][2:].mean()) for coef, run in runs.items()}
        gap = float(np.abs(plain.parameters - runs[0.0].parameters).max())
        yield at_most(f"seed {seed}: coef 0 against no guide, largest difference", 0.0, gap)
        yield at_most(f"seed {seed}: KL between policies, coef 3 / 0", 0.8, apart[3.0] / apart[0.0])
        yield at_most(
            f"seed {seed}: KL between policies, coef 30 / 3", 0.8, apart[30.0] / apart[3.0]
        )


def _mixture() -> Iterator[Figure]:
    for seed, actions in ((1, 3), (5, 4)):
        tables: dict[str, Any] = {
            "environment": {
                "id": "garnet",
                "states": 6,
                "actions": actions,
                "vary": {"reward_perturbation": 1.0},
            },
            "learner": {"kind": "softmax_pg", "lr": 20.0, "gamma": 0.9},
        }
        alone = _table(play(5, 1, mode="independent", seed=seed, **tables), actions)
        policies: Array = np.exp(log_softmax(alone))

        def central(
            rule: dict[str, Any], seed: int = seed, actions: int = actions, tables: Any = tables
        ) -> Array:
            made = play(5, 1, mode="central", seed=seed, coordinator={"aggregator": rule}, **tables)
            return np.exp(log_softmax(_table(made, actions)))

        mixed, mean = central({"kind": "mixture", "actions": actions}), central({"kind": "mean"})
        yield at_most(
            f"{actions} actions: mixture against mean of policies",
            1e-12,
            _gap(mixed, policies.mean(axis=0)),
        )
        geometric = np.exp(log_softmax(np.log(policies).mean(axis=0)))
        yield at_most(
            f"{actions} actions: mean of logits against geometric mean",
            1e-12,
            _gap(mean, geometric),
        )
        yield at_least(f"{actions} actions: the two apart", 0.01, _gap(mixed, geometric))


def _table(record: Record, actions: int) -> Array:
    return np.asarray(record.parameters, dtype=np.float64).reshape(
        len(record.parameters), -1, actions
    )


def _gap(a: Array, b: Array) -> float:
    return float(np.abs(a - b).max())


def critics(
    shared: bool, seed: int, agents: int = 6, rounds: int = 60
) -> tuple[Record, dict[str, Array]]:
    """Run agents with unlike rewards; return the record and every agent's actor and critic."""
    tables: dict[str, Any] = {
        "environment": {
            "id": "garnet",
            "instances": 8,
            "states": 8,
            "vary": {"reward_perturbation": 1.0},
        },
        "learner": {
            "kind": "a2c",
            "hidden": [16],
            "optimizer": "sgd",
            "lr": 0.05,
            "vf_coef": 2.0,
            "reward_scale": 1.0,
        },
        "exchange": {"shared": ["critic"]},
        "topology": {"kind": "ring"},
    }
    mode = "gossip" if shared else "independent"
    record = play(agents, rounds, mode=mode, seed=seed, **tables)
    layout = outline(loads(text(agents, rounds, mode=mode, seed=seed, **tables))).layout
    rows = layout.zeros(agents)
    layout.unpack(record.parameters, rows)
    return record, {part: layout.pack(rows, [part]).astype(np.float64) for part in layout.parts}


def _distance(rows: Array) -> float:
    return float(np.sqrt(np.square(rows - rows.mean(axis=0)).sum(axis=1).mean()))


def _critics() -> Iterator[Figure]:
    for seed in (1,):
        (gossip, own), (_, alone) = critics(True, seed), critics(False, seed)
        per_message = gossip.summary["bytes_sent"] / gossip.summary["messages_sent"]
        yield _size(
            f"seed {seed}: bytes per message, of a critic", own["critic"].shape[1], per_message
        )
        ratio = _distance(own["critic"]) / _distance(alone["critic"])
        yield at_most(f"seed {seed}: distance of critics, gossip / independent", 0.3, ratio)
        ratio = _distance(own["actor"]) / _distance(alone["actor"])
        yield at_least(f"seed {seed}: distance of actors, gossip / independent", 0.5, ratio)


def dqn(mode: str, seed: int, rounds: int, **tables: Any) -> Record:
    """Run five agents that learn CartPole by DQN."""
    learner = {"kind": "dqn", **tables.pop("learner", {})}
    return play(
        5,
        rounds,
        mode=mode,
        seed=seed,
        environment={"id": "CartPole-v1"},
        learner=learner,
        **tables,
    )


def _dqn() -> Iterator[Figure]:
    for seed in (1, 2, 3):
        run = dqn("independent", seed, 150)
        best = float(run.metrics["return_mean"].max())
        yield at_least(f"seed {seed}: mean return of 5 agents, at best", 195.0, best)


def swung(kind: str, mode: str, seed: int, **tables: Any) -> Record:
    """Run three agents that learn Pendulum from replay, 10,000 steps each."""
    learner = {
        "kind": kind,
        "hidden": [64, 64],
        "batch_size": 64,
        "lr": 1e-3,
        "steps": 100,
        "same_start": False,
        **tables.pop("learner", {}),
    }
    return play(
        3,
        100,
        mode=mode,
        seed=seed,
        environment={"id": "Pendulum-v1", "instances": 1},
        learner=learner,
        evaluation={"episodes": 10},
        **tables,
    )


def _from_replay() -> Iterator[Figure]:
    for kind in ("sac", "td3"):
        runs = [swung(kind, "independent", seed) for seed in (1, 2, 3)]
        found = [float(run.summary["evaluation"]["own"]) for run in runs]
        yield at_least(f"{kind}: return, median of 3 seeds", -200.0, float(np.median(found)))


def chances(scenario: str, parameters: Vector) -> Array:
    """Return the policies `(n, states, actions)` of networks of a scenario in its public states."""
    from p2pfrl.learning.distillation import Distillation
    from p2pfrl.learning.learners.distill import LOGITS, Distill
    from p2pfrl.learning.learners.on_policy import OnPolicyStack

    read = loads(scenario)
    stack = acting(read, 0)[0]
    assert isinstance(stack, OnPolicyStack)
    shown, found = Distillation(Distill(), stack.network, stack.simulator, read.seed), []
    for own in parameters:
        row = stack.layout.zeros(1)
        stack.layout.unpack(own.astype(stack.layout.dtype), row[0])
        found.append(shown.offer(LOGITS, 0, row, {}).astype(np.float64))
    return np.array(found).reshape(len(found), shown.public.shape[1], -1)


def _networks() -> Iterator[Figure]:
    garnet = {"id": "garnet", "states": 6, "actions": 3, "vary": {"reward_perturbation": 1.0}}
    for where, environment in (("6 states", garnet), ("CartPole", _CART)):
        tables: dict[str, Any] = {
            "environment": environment,
            "learner": {"kind": "a2c", "hidden": [16], "lr": 0.05, "steps": 32},
            "schedule": {"every": 10},
            "evaluation": {"episodes": 0},
        }
        scenario = text(4, 1, mode="independent", **tables)
        mixture = chances(scenario, play(4, 1, mode="independent", **tables).parameters).mean(
            axis=0
        )
        apart: dict[str, float] = {}
        for kind in ("mean", "distilled"):
            rule = {"aggregator": {"kind": kind}}
            made = play(4, 1, mode="central", coordinator=rule, **tables)
            own = chances(scenario, made.parameters[:1])[0]
            apart[kind] = float((mixture * np.log(mixture / own)).sum(axis=1).mean())
        ratio = apart["distilled"] / apart["mean"]
        yield at_least(f"{where}: KL(mixture || policy of mean parameters)", 5e-4, apart["mean"])
        yield at_most(f"{where}: KL of the imitating network over that", 0.02, ratio)


LAWS = (
    Law(
        "replay_pendulum",
        "agents that learn Pendulum by SAC and TD3, each alone, reach a return of -200 in 10,000 steps",
        "after Haarnoja et al., 2018, arXiv 1812.05905; Fujimoto et al., ICML 2018, arXiv 1802.09477; computed",
        _from_replay,
        is_slow=True,
    ),
    Law(
        "distillation_agrees",
        "agents that send action probabilities in public states agree on a policy while their parameters stay apart",
        "after Jiang et al., AAMAS 2025, arXiv 2502.00870; computed",
        _distillation,
        is_slow=True,
    ),
    Law(
        "guide_nearer",
        "a heavier guide brings policies closer; with weight zero no bit changes",
        "computed",
        _guide,
        is_slow=True,
    ),
    Law(
        "mixture_exact",
        "the mixture of policies is their mean, and the mean of logits is their geometric mean",
        "computed",
        _mixture,
    ),
    Law(
        "mixture_networks",
        "a network imitates the mixture of policies of networks, which the mean of their parameters is far from",
        "after Lin, Kong, Stich, Jaggi, NeurIPS 2020, arXiv 2006.07242; computed",
        _networks,
    ),
    Law(
        "critic_consensus",
        "shared critics agree, while actors stay personal",
        "after Zhang et al., ICML 2018, arXiv 1802.08757; computed",
        _critics,
    ),
    Law(
        "dqn_cartpole",
        "five agents that learn CartPole by DQN, each alone, reach a mean return of 195 within 150 updates",
        "after Mnih et al., Nature 518, 2015; computed",
        _dqn,
        is_slow=True,
    ),
)
