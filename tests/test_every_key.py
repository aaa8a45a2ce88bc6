"""No option, override or key is accepted without effect; what is recorded suffices to run again."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_key import EFFECT, SILENT, UNTRIED, Outcome, Walk, dumped, merged, put, read
from safetensors.numpy import save_file

import p2pfrl
from p2pfrl.consensus.aggregators import ROBUST
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.options import options_of
from p2pfrl.core.tables import leaves
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.render import to_toml

Table = dict[str, Any]

QUADRATIC = {
    "name": "walk",
    "agents": 4,
    "stop": {"rounds": 4},
    "learner": {"kind": "quadratic", "dimension": 4, "noise": 0.1, "initial_spread": 1.0},
    "compute": {"seconds_per_env_step": 0.002},
}
GRID = {
    "environment": {"id": "gridworld", "rows": 2, "columns": 2, "instances": 1},
    "learner": {"kind": "tabular_q", "dimension": None},
    "evaluation": {"episodes": 1},
}
CARTS = {
    "environment": {"id": "CartPole-v1", "instances": 1, "max_steps": 6},
    "learner": {"kind": "reinforce", "hidden": [2], "steps": 12},
    "evaluation": {"episodes": 1},
}
GARNET = {
    "environment": {"id": "garnet", "states": 4, "max_steps": 4, "instances": 1},
    "evaluation": {"episodes": 1},
}
UNEVEN = {
    "compute": {
        "seconds_per_env_step": 0.002,
        "speed": {"kind": "cycle", "list": [1.0, 0.3, 0.6, 0.1]},
    }
}
MACHINE = {"id": "maintenance", "levels": 5, "max_steps": 4, "instances": 1, "states": None}
ASYNCHRONOUS, BUFFERED = {"kind": "asynchronous"}, {"kind": "buffered", "size": 2}
VARIANTS: dict[str, Table] = {
    "gossip": {"mode": "gossip"},
    "central": {"mode": "central"},
    "hierarchical": {"mode": "hierarchical"},
    "pooled": {"mode": "pooled"},
    "independent": {"mode": "independent"},
    "gossip_asynchronous": {"mode": "gossip", "schedule": ASYNCHRONOUS, **UNEVEN},
    "central_asynchronous": {"mode": "central", "schedule": ASYNCHRONOUS, **UNEVEN},
    "central_buffered": {"mode": "central", "schedule": BUFFERED, **UNEVEN},
}
BASES: dict[str, Table] = {
    "work": {**UNEVEN, "schedule": {"every": 4}},
    "allocation": {
        "allocation": {"utility": "log", "weights": {"kind": "linspace", "low": 1.0, "high": 3.5}}
    },
    "environment": GRID,
    "evaluation": GRID,
    "stop": GRID,
    "network": {"compute": {"seconds_per_env_step": 0.3}},
    "mixing": {"agents": 5, "topology": {"kind": "tree"}},
    "topology": {"agents": 6},
    "start": {**CARTS, "start": {"path": "start.safetensors", "models": "mean"}},
}
"""Section -> what is set where its keys are tried, if a quadratic problem does not suffice."""

CART = {"environment": CARTS["environment"], "evaluation": CARTS["evaluation"]}
SWING = {"environment": {"id": "Pendulum-v1", "instances": 1, "max_steps": 6}}
EXPERIENCE = merged(merged(CARTS, SWING), {"environment": {"instances": 2}, "stop": {"rounds": 6}})
LOSSY = {"network": {"loss": 0.3}}
HANGING = {
    "compute": {"speed": {"kind": "values", "list": [1.0, 1.0, 1.0, 0.01]}},
    "schedule": {"deadline": 0.02},
    "stop": {"rounds": 10},
}
LATE = {**UNEVEN, "stop": {"rounds": 12}}
DRIFT = {
    "environment": {"id": "drift", "instances": 1, "max_steps": 6},
    "learner": {"kind": "reinforce", "hidden": [2], "steps": 12},
}
SMALL = {"hidden": [2], "steps": 12}
CRASH = {"kind": "crash", "at": 0.0055, "agents": [0]}
RESTART = {**CRASH, "kind": "restart", "at": 0.0065}
CONTINUOUS = {"learner": {"kind": "reinforce", "hidden": [2], "steps": 12}}
DIRECTED = [
    {"mixing": {"kind": "push_sum"}},
    {"mixing": {"kind": "push_sum"}, "schedule": {"staleness": {"kind": "constant"}}},
]
SUMS = {
    **GARNET,
    "learner": {"kind": "ucbvi"},
    "exchange": {"payload": "statistics"},
    "coordinator": {"aggregator": {"kind": "optimistic"}},
}

NEWS = {
    "gate": {"kind": "news"},
    "environment": {"instances": 512},
    "learner": {"horizon": 1},
    "stop": {"rounds": 40},
}
"""So many visits that the news of UCB-VI are guessed by the end."""

ATTACKS = (
    "sign_flip",
    "noise",
    "zero",
    "constant",
    "nan",
    "replay",
    "two_faced",
    "free_rider",
    "average_zero",
    "alie",
    "ipm",
    "dissensus",
    "sybil",
    "random_action",
    "reward_flip",
    "reward_shuffle",
)
NETWORKED = ("reinforce", "a2c", "ppo", "dqn", "sac", "td3")
REQUIRED: dict[str, Table] = {
    "distributions:constant": {"value": 0.5},
    "distributions:uniform": {"low": 0.2, "high": 0.8},
    "distributions:normal": {"mean": 0.5, "std": 0.1},
    "distributions:lognormal": {"median": 0.2, "sigma": 0.1},
    "distributions:exponential": {"mean": 0.05},
    "distributions:choice": {"choices": [0.2, 0.7]},
    "distributions:linspace": {"low": 0.2, "high": 0.8},
    "distributions:arithmetic": {"start": 0.2, "step": 0.1},
    "environment:spectrum": {"members": 2},
    "environment:networked_mdp": {"members": 2, "states": 2, "max_steps": 3},
    "environment:public_goods": {"members": 2},
    "environment:congestion": {"members": 2},
    "environment:warehouse": {"members": 2, "aisles": 2, "shelves": 3},
    "environment:signal_grid": {"rows": 1, "columns": 2, "delay": 1},
    "distributions:values": {"list": [0.2, 0.3, 0.5, 0.7]},
    "distributions:cycle": {"list": [0.2, 0.6]},
    "drifts:step": {"at": 1, "add": 0.1},
    "drifts:ramp": {"length": 2, "add": 0.1},
    "drifts:sine": {"period": 3, "add": 0.1},
    "drifts:trace": {"path": "drift.csv"},
    "loss models:independent": {"probability": 0.3},
    "loss models:burst": {"good_to_bad": 0.4, "bad_to_good": 0.5},
    "environment:garnet": {"states": 4, "max_steps": 4},
    "learner:reinforce": SMALL,
    "learner:a2c": SMALL,
    "learner:ppo": {**SMALL, "num_minibatches": 2, "update_epochs": 2},
    "learner:dqn": {
        **SMALL,
        "capacity": 1000,
        "batch_size": 4,
        "learn_start": 6,
        "epsilon_steps": 20,
    },
    "learner:sac": {**SMALL, "capacity": 1000, "batch_size": 4, "learn_start": 6},
    "learner:td3": {**SMALL, "capacity": 1000, "batch_size": 4, "learn_start": 6},
    "learner:local": {"make": "local_learners:Mine", "steps": 4},
    "learner:deep_npg": SMALL,
    "learner:sb3": {"steps": 4, "kwargs": {"batch_size": 4, "n_epochs": 1}},
    **{
        f"learner:{kind}.lr_schedule:{schedule}": {"updates": 3}
        for kind in NETWORKED
        for schedule in ("linear", "cosine")
    },
    "learner:tabular_q.behavior:given": {"policies": [[0.3, 0.7]]},
    "learner:td.policy:table": {"rows": [[0.3, 0.7]]},
    "learner:td.policy:baseline": {"name": "run_to_failure"},
    "learner:td.policy:saved": {"path": "policy.csv"},
    "privacy:clip_noise": {"clip": 0.5},
    "privacy:distributed_noise": {"clip": 0.5, "parts": 3},
    "privacy:central_noise": {"clip": 0.5},
    "topology:random_regular": {"degree": 3},
    "topology:islands.graph:random_regular": {"degree": 2},
    "topology:islands.graph:watts_strogatz": {"neighbors": 2, "rewire": 0.5},
    "coordinator.server_optimizer:sgd": {"lr": 0.5},
    "topology:file": {"path": "square.graphml"},
    "coordinator.participation:lag": {"smoothness": [1.0, 2.0, 3.0, 4.0], "lr": 0.01},
    "gate:every": {"tau": 2},
    "mixing:clipped_gossip": {"byzantine": 0},
    "coordinator.aggregator:concentration": {"sigma": 0.5},
    "mixing:neighborhood.aggregator:concentration": {"sigma": 1.0},
    "gate:norm": {"threshold": 0.5},
    "gate:lag": {"alpha": 0.01},
    "gate:performance": {"threshold": 1.0},
    "gate:reached": {"value": 1.0},
    "network.links": {"from": 0, "to": 1, "latency": 0.1},
    "faults:partition": {"at": 0.001, "groups": [[0]]},
    "faults:heal": {"at": 0.004},
    "faults:crash": {"at": 0.001, "agents": [1]},
    "faults:restart": {"at": 0.004, "agents": [1]},
    "faults:straggle": {"at": 0.001, "agents": [1]},
    "faults:loss": {"at": 0.001, "probability": 0.5},
    "faults:leave": {"at": 0.003, "agents": [1]},
    "faults:opt_out": {"at": 0.003, "agents": [1]},
    "faults:join": {"at": 0.003, "agents": [1]},
    "faults:turn_byzantine": {
        "at": 0.003,
        "agents": [1, 2],
        "attack": {"kind": "sign_flip"},
    },
    **{f"attacks:{kind}": {"agents": [1]} for kind in ATTACKS},
    "attacks:sybil": {"agents": [1, 2]},
    "groups": {"agents": [1], "learner": {"lr": 0.2}},
}
"""Label of a kind -> the options that it must have, and those that make it small."""

DELTAS = {"exchange": {"payload": "delta"}}
TABLES = {
    **GARNET,
    "learner": {
        "kind": "tabular_q",
        "steps": 20,
        "behavior": {"kind": "given", "policies": [[0.9, 0.1], [0.1, 0.9]]},
    },
    "exchange": {"payload": "table"},
}
LOGITS = {**GARNET, "learner": {"kind": "softmax_pg"}}
FISHER = {**LOGITS, "exchange": {"payload": "fisher"}}
STEPPING = {"coordinator": {"server_optimizer": {"kind": "sgd", "lr": 0.5}}}
NATURAL = merged(STEPPING, {"coordinator": {"aggregator": {"kind": "natural"}}})
LATEST = merged(NATURAL, {"coordinator": {"aggregator": {"latest": True}}})
REPLAY = {**CART, "learner": {"kind": "dqn", "hidden": [2], "steps": 40, "learn_start": 6}}

EPISODES = merged(
    CARTS, {"environment": {"max_steps": 100}, "learner": {"steps": 64}, "stop": {"rounds": 8}}
)
WHOLE = {"environment": {"max_steps": 100}, "learner": {"episodes": 2}}
"""Updates of as many steps as episodes last."""
PLAYED = merged(
    {**CARTS, "learner": {"kind": "reinforce", "hidden": [2], "episodes": 2}},
    {
        "environment": {"max_steps": 50},
        "exchange": {"payload": "gradient"},
        "coordinator": {"server_optimizer": {"lr": 0.01, "episodes": 2, "batch": 2}},
    },
)
"""A coordinator that plays episodes of its own."""
FULL = {"topology": {"kind": "complete"}}
DEAD = {
    "coordinator": {"standbys": 2},
    "faults": [{"at": "1ms", "kind": "crash", "agents": ["coordinator"]}],
    "network": {"peer_timeout": "1ms"},
}
SUMMED = {"secure": {"kind": "secure_aggregation", "minimum": 4}}
SEALED = ("secret_shares", "secure_aggregation", "neighborhood_masks")
NEAR = [{"agents": 9, "coordinator": {"aggregator": {"sigma": sigma}}} for sigma in (0.5, 0.8, 1.1)]
"""Radii that some gradients are within, and not all."""
FEW = [{"agents": 16, "topology": {"kind": "random_regular", "degree": 8}}]
COUNTING = ("bulyan", "concentration", "mda", "trimmed_mean")
"""Robust aggregators that need many vectors to leave some out."""
PLACES = ("coordinator", "mixing:neighborhood")
"""Where robust aggregators are named."""
UNLIKE = {"agents": [1], "learner": {"steps": 3}}

ONE_WAY = ("one_peer_exponential", "directed_ring")
LARGER = (
    "complete",
    "erdos_renyi",
    "random_regular",
    "watts_strogatz",
    "random_geometric",
)
"""Graphs that are a ring among three agents."""

HELPS: dict[str, list[Table]] = {
    **{f"compressor:{kind}": [DELTAS] for kind in ("topk", "randk", "threshold", "low_rank")},
    **{f"compressor:{kind}": [DELTAS] for kind in ("sign", "error_feedback")},
    "exchange.payload:table": [merged(TABLES, {"exchange": None})],
    "exchange.payload:fisher": [merged(LOGITS, NATURAL)],
    "exchange.payload:statistics": [merged(SUMS, {"exchange": None})],
    "exchange.payload:logits": [CARTS],
    "exchange.payload:transitions": [REPLAY],
    "coordinator.aggregator:importance": [TABLES],
    "coordinator.aggregator:mixture": [LOGITS],
    **{f"coordinator.aggregator:{kind}": [{"agents": 9}] for kind in ("krum", "multi_krum")},
    **{
        f"coordinator.aggregator:geometric_median.{option}": [
            {"agents": 16},
            {"schedule": {"size": 4}},
        ]
        for option in ("tolerance", "smoothing", "steps")
    },
    "coordinator.aggregator:bulyan": [{"agents": 12}],
    **{f"coordinator.aggregator:{kind}.pre": [{"agents": 16}] for kind in (*COUNTING, "median")},
    "mixing:neighborhood.aggregator:bulyan.pre": [{"agents": 16}],
    **{
        f"mixing:neighborhood.aggregator:{kind}": [{"agents": 12, **FULL}]
        for kind in (*COUNTING, "krum", "multi_krum")
    },
    **{f"coordinator.aggregator:{kind}": [DELTAS] for kind in ("norm_clipping", "cosine_trust")},
    "coordinator.aggregator:natural": [merged(FISHER, STEPPING)],
    "coordinator.aggregator:optimistic": [merged(SUMS, {"coordinator": None})],
    "correction:guide": [merged(CARTS, {"schedule": {"every": 3}})],
    "coordinator.aggregator:preferred": [EPISODES],
    "coordinator.aggregator:preferred.weights": [WHOLE, {**WHOLE, "schedule": {"size": 4}}],
    "coordinator.aggregator:distilled.weights": [WHOLE, {**WHOLE, "schedule": {"size": 4}}],
    "coordinator.aggregator:distilled": [CARTS],
    "coordinator.participation:power_of_choice.by": [EPISODES],
    "exchange.payload:fisher_policy": [merged(LOGITS, LATEST)],
    "privacy:central_noise": [DELTAS],
    "privacy:distributed_noise": [merged(DELTAS, SUMMED)],
    "secure:neighborhood_masks": [FULL],
    "correction:prox": [{"schedule": {"every": 3}}],
    "correction:lookahead": [
        {
            "exchange": {"payload": "gradient"},
            "coordinator": {"server_optimizer": {"kind": "normalized_momentum"}},
        }
    ],
    "coordinator.server_optimizer:scsg": [PLAYED],
    "coordinator.aggregator:concentration.byzantine": NEAR,
    "coordinator.aggregator:concentration.delta": NEAR,
    "mixing:neighborhood.aggregator:krum.byzantine": FEW,
    "coordinator.aggregator:mixture.weights": [{"groups": [UNLIKE]}],
    "coordinator.participation:lag": [{"coordinator": {"aggregator": {"kind": "latest"}}}],
    "exchange.payload:gradient": [STEPPING],
    "gate:news": [merged(SUMS, {"environment": {"instances": 16}, "stop": {"rounds": 40}})],
    "attacks:alie.z": [{"agents": 9}],
    "faults:turn_byzantine.attack:alie.z": [{"agents": 16, "stop": {"rounds": 40}}],
    "attacks:replay.rounds": [{"stop": {"rounds": 40}}],
    "gate:performance": [EPISODES],
    "gate:reached": [EPISODES],
    "gate:reached.once": [{"gate": {"value": 20.0}}],
    "mixing:choco": [{"compressor": {"kind": "difference"}}],
    "topology:hypercube": [{"agents": 8}],
    "topology:file": [{"agents": 4}],
    "compute.engine": [CARTS],
    "network.latency:edge": [{"topology": {"kind": "random_geometric", "latency_per_unit": 0.1}}],
    "faults:restart.agents": [
        {
            "faults": [
                {**CRASH, "at": 0.001, "agents": [1, 2]},
                {"kind": "restart", "at": 0.004, "agents": [1]},
            ]
        }
    ],
    **{
        f"{place}:{kind}": [EXPERIENCE]
        for place in ("attacks", "faults:turn_byzantine.attack")
        for kind in ("random_action", "reward_flip", "reward_shuffle")
    },
    "environment:cartpole": [CONTINUOUS],
    "environment:pendulum": [CONTINUOUS],
    "environment:acrobot": [CONTINUOUS],
    "environment:mountain_car": [CONTINUOUS],
    "environment:mountain_car_continuous": [CONTINUOUS],
    "environment:lqr": [CONTINUOUS],
    "environment:drift": [CONTINUOUS],
    "environment:signals": [CONTINUOUS],
    "environment:microgrid": [CONTINUOUS],
    "environment:glucose": [CONTINUOUS],
    "environment:portfolio": [CONTINUOUS],
    "environment:fleet": [CONTINUOUS],
    "environment:Walked-v0": [CONTINUOUS],
    "environment:spectrum": [CONTINUOUS],
    "environment:junction": [CONTINUOUS],
    "environment:signal_grid": [CONTINUOUS],
    "environment:warehouse": [CONTINUOUS],
    "learner:reinforce": [CART],
    "learner:a2c": [CART],
    "learner:ppo": [CART],
    "learner:dqn": [CART],
    "learner:sac": [SWING],
    "learner:td3": [SWING],
    "learner:deep_npg": [CART],
    "learner:local": [CART],
    "learner:sb3": [CART],
    **{
        f"learner:{kind}.statistics": [{"learner": {"normalize_observations": True}}]
        for kind in NETWORKED
    },
    **{
        f"learner:{kind}.policy": [{"learner": {"hidden": None}}]
        for kind in ("a2c", "dqn", "ppo", "reinforce")
    },
    "learner:td": [GARNET],
    "learner:td.policy:baseline": [{"environment": MACHINE}],
    "learner:tabular_q": [GARNET],
    "learner:tabular_ac": [GARNET],
    "environment:networked_mdp": [{"learner": {"kind": "tabular_ac", "steps": 2}}],
    "environment:public_goods": [CONTINUOUS],
    "environment:congestion": [CONTINUOUS],
    "environment:matrix_game": [
        {**CONTINUOUS, "topology": {"kind": "islands", "count": 2, "agents": "alternate"}}
    ],
    "learner:softmax_pg": [GARNET],
    "learner:npg": [GARNET],
    "learner:ucbvi": [{**GARNET, "exchange": SUMS["exchange"], "coordinator": SUMS["coordinator"]}],
    "topology:exponential": DIRECTED,
    "topology:one_peer_exponential": DIRECTED,
    "topology:directed_ring": DIRECTED,
    **{f"topology:islands.graph:{kind}": DIRECTED for kind in ONE_WAY},
    **{f"topology:islands.graph:{kind}": [{"agents": 10}] for kind in LARGER},
    "topology:islands.graph:exponential": [merged(way, {"agents": 10}) for way in DIRECTED],
    "faults:heal": [{"faults": [{"kind": "partition", "at": 0.001, "groups": [[0]]}]}],
    "faults:restart": [{"faults": [{**CRASH, "at": 0.001, "agents": [1]}]}],
    "work.most": [{"work": {"assign": "time", "time": 0.1}, "schedule": {"every": 1}}],
    "coordinator.aggregator:normalized": [DELTAS, {**DELTAS, "groups": [UNLIKE]}],
    "hierarchy.branching": [{"agents": 9}],
    "allocation.alpha": [{"allocation": {"utility": "alpha_fair"}}],
    "checkpoint.every": [
        {"faults": [CRASH, RESTART], **LATE},
        {"faults": [CRASH, RESTART]},
        {"faults": [CRASH, RESTART], **CARTS},
    ],
    "network.peer_timeout": [
        {"faults": [CRASH]},
        {"faults": [{**CRASH, "at": 0.5}, {**RESTART, "at": 1.4}], "stop": {"rounds": 12}},
        {"faults": [{**CRASH, "agents": [0, 1, 2, 3]}]},
    ],
    "groups.environment": [GRID],
    "schedule:synchronous.deadline": [LOSSY, {"faults": [CRASH]}],
    "schedule:synchronous.suspect_after": [HANGING],
    "schedule:synchronous.max_staleness": [
        {"network": {"loss": 0.5}, "mixing": {"on_loss": "last_known"}, "stop": {"rounds": 10}}
    ],
    "schedule:asynchronous.staleness:hinge.slope": [LATE],
    "schedule:asynchronous.staleness:hinge.grace": [LATE],
    "schedule:buffered.staleness:hinge.slope": [{**LATE, "schedule": {"staleness": {"grace": 0}}}],
    "schedule:buffered.staleness:hinge.grace": [{**LATE, "schedule": {"staleness": {"grace": 1}}}],
    "exchange.shared": [CARTS],
    "mixing:ubar": [merged(CARTS, FULL)],
    "mixing:ubar.episodes": [merged(EPISODES, FULL)],
    "mixing:bridge": [FULL],
    "mixing:clipped_gossip.byzantine": [FULL],
    "mixing:metropolis.on_loss": [LOSSY],
    "mixing:laplacian.on_loss": [LOSSY],
    "mixing:uniform.on_loss": [LOSSY],
    "mixing:lazy.on_loss": [LOSSY],
    "mixing:capacity.on_loss": [LOSSY],
    "mixing:by_role.on_loss": [LOSSY],
    "mixing:push_sum.least_weight": [
        {"topology": {"kind": "star"}, **LOSSY, "stop": {"rounds": 12}}
    ],
    "coordinator.aggregator:latest": [
        {"coordinator": {"participation": {"kind": "uniform"}}, "stop": {"rounds": 20}}
    ],
    "coordinator.aggregator:latest.reduce": [{"exchange": {"payload": "delta"}}],
    "coordinator.standby_wait": [DEAD],
    "coordinator.fallback": [DEAD],
    "coordinator.at": [
        {
            "topology": {"kind": "random_geometric", "latency_per_unit": 0.1},
            "network": {"latency": {"kind": "edge"}},
        }
    ],
    "coordinator.participation:lag.memory": [
        {"stop": {"rounds": 20}},
        {
            "stop": {"rounds": 20},
            "coordinator": {"participation": {"smoothness": [1.0, 1.0, 1.0, 1.0], "lr": 0.05}},
        },
        {
            "stop": {"rounds": 20},
            "coordinator": {"participation": {"smoothness": [1.0, 1.0, 1.0, 1.0], "lr": 0.5}},
        },
    ],
    "environment:crossing.max_steps": [CONTINUOUS],
    "environment:matrix_game.opponents": [{**FULL, "mixing": {"kind": "by_role"}}],
    "environment:junction.opponents": [FULL],
    "environment:garnet.opposed": [{"environment": {"kinds": 2}}],
    "learner:npg.damping": [{"learner": {"exact": False}}],
    "learner:npg.horizon": [{"learner": {"exact": False}}],
    "learner:softmax_pg.horizon": [{"learner": {"exact": False}}],
    "learner:ucbvi.condition": [NEWS],
    "learner:ucbvi.episodes": [NEWS],
    "learner:ucbvi.heterogeneity": [merged(NEWS, {"learner": {"episodes": 1, "confidence": 0.04}})],
    "learner:ucbvi.confidence": [merged(NEWS, {"learner": {"episodes": 1}})],
    "correction:maml.delta": [{"correction": {"order": "hessian_free"}}],
    "gate:lag.agents": [{"stop": {"rounds": 20}}],
    "gate:lag.memory": [{"stop": {"rounds": 20}}],
    "gate:lag.variance": [{"stop": {"rounds": 20}}],
}
"""Label of a key or kind -> settings with which it has an effect, tried in this order."""

VALUES: dict[str, list[Any]] = {
    **{f"secure:{kind}.clip": [0.01] for kind in SEALED},
    **{f"secure:{kind}.fraction_bits": [4] for kind in SEALED},
    **{f"secure:{kind}.ring_bits": [56] for kind in SEALED},
    **{f"secure:{kind}.minimum": [4] for kind in SEALED[:2]},
    "privacy:distributed_noise.parts": [4],
    "mixing:capacity.capacities": [[1.0, 3.0, 2.0, 1.0, 2.0]],
    "coordinator.participation:capable.values": [[1.0, 3.0, 2.0, 1.0]],
    "name": ["other"],
    "compute.device": ["cuda"],
    **{f"{place}.aggregator:{kind}.pre": [["bucketing"]] for kind in ROBUST for place in PLACES},
    "mixing:clipped_gossip.attackers": [[1]],
    **{f"learner:{kind}.policy": ["own_networks:Plain"] for kind in ("a2c", "ppo", "reinforce")},
    **{f"learner:{kind}.policy": ["own_networks:Actor"] for kind in ("dqn", "sac", "td3")},
    "learner:local.make": ["local_learners:Small"],
    "learner:local.kwargs": [{"hidden": 3}],
    "environment:gridworld.walls": [[[0, 1]]],
    "environment:mountain_car.vary.goal_velocity": [0.07],
    "environment:mountain_car_continuous.vary.goal_velocity": [0.07],
    "environment:matrix_game.game": ["rps"],
    "environment:congestion.roads": [[[1.0, 0.0], [0.5, 1.0]]],
    "environment:gridworld.start": [[0, 1]],
    "availability.trace": ["trace.csv"],
    "topology:file.path": ["path.graphml"],
    "start.path": ["other.safetensors"],
    "start.parts": [["actor"]],
    "hierarchy.groups": [[[0, 1, 2], [3]]],
    "exchange.shared": [["actor"]],
    "environment.drift:trace.path": ["other.csv"],
    "checkpoint.every": [3, 2],
    "checkpoint.journal": [20_000],
    "gate:performance.threshold": [30.0, 5.0],
    "gate:reached.value": [15.0, 25.0],
    "learner:tabular_q.behavior:given.policies": [[[0.6, 0.4]]],
    **{f"faults:turn_byzantine.attack:{kind}.agents": [[3]] for kind in ATTACKS},
    "learner:dqn.capacity": [8],
    "learner:sac.capacity": [14],
    "learner:td3.capacity": [14],
    "learner:td.policy:table.rows": [[[0.6, 0.4]]],
    "learner:td.policy:baseline.name": ["replace_in_time"],
    "learner:td.policy:saved.path": ["policy2.csv"],
    "learner:ucbvi.confidence": [1e-9, 0.9],
    "learner:ucbvi.heterogeneity": [2.0],
    "learner:softmax_pg.logits": [[0.5, 0.0]],
    "learner:npg.logits": [[0.5, 0.0]],
    "groups.learner": [{"lr": 0.3}],
    "groups.environment": [{"max_steps": 3}],
    "faults:partition.groups": [[[1, 2]]],
    "groups.agents": [[2]],
    "environment:Walked-v0.kwargs": [{"gain": 2.0}],
    "environment:Walked-v0.resize": [[2, 2]],
}
"""Label of a key -> other values, where the type does not give them."""

ELSEWHERE = {"checkpoint.on_error": "results/test_stream.py"}
"""Label of a key whose effect takes a disk that refuses writes -> the test that shows it."""

_NODES = "".join(f'<node id="{name}"/>' for name in "abcd")
_EDGES = {"square": ("ab", "bc", "cd", "da"), "path": ("ab", "bc", "cd")}


def write_files() -> None:
    """Write the files that scenarios name into the working directory."""
    for name, edges in _EDGES.items():
        inner = "".join(f'<edge source="{a}" target="{b}"/>' for a, b in edges)
        graph = f'<graph edgedefault="undirected">{_NODES}{inner}</graph>'
        text = f'<graphml xmlns="http://graphml.graphdrawing.org/xmlns">{graph}</graphml>'
        Path(f"{name}.graphml").write_text(text, encoding="utf-8")
    for name, value in (("start", 0.5), ("other", 0.25)):
        biases = {f"{part}.0.bias": np.full(2, value) for part in ("actor", "critic")}
        save_file(biases, f"{name}.safetensors")
    Path("policy.csv").write_text("0.9,0.1\n" * 4, encoding="utf-8")
    Path("policy2.csv").write_text("0.4,0.6\n" * 4, encoding="utf-8")
    Path("drift.csv").write_text("update,value\n1,0.4\n", encoding="utf-8")
    Path("other.csv").write_text("update,value\n2,0.3\n", encoding="utf-8")
    Path("trace.csv").write_text("agent,from,until\n1,0s,0.5ms\n", encoding="utf-8")


SECTIONS = tuple(options_of(Scenario))
SLOW = (
    "environment",
    "learner",
    "mixing",
    "network",
    "coordinator",
    "compressor",
    "compute",
    "gate",
    "topology",
    "energy",
    "allocation",
    "attacks",
    "faults",
)
"""Sections with so many options that they are run before releases alone; else they are loaded."""
LONGEST = ("environment", "learner", "coordinator", "faults")
"""Those among them with options by the hundred, which are loaded before releases alone, too."""


KIND = re.compile(r"(?!compute|network|energy|allocation)[a-z_.]+:[a-zA-Z0-9_-]+")
"""Labels of members of axes; distributions without bounds are refused where numbers have some."""


def walk(section: str, variant: str, *, is_dry: bool = False) -> Walk:
    """Walk over a section in a mode and schedule.

    What an environment's options do is the same in every mode, so most are tried in one.
    """
    ids = () if variant == "gossip" else ("gridworld", "cartpole")
    found = Walk(REQUIRED, HELPS, VALUES, ids, is_dry=is_dry)
    base = BASES.get(section, {})
    base = CARTS if variant == "pooled" and base is GRID else base
    found.section(section, merged(merged(QUADRATIC, VARIANTS[variant]), base))
    return found


def section_of(label: str) -> str:
    """Return the section that a label is of."""
    return re.split("[.:]", label)[0]


def silent(walked: Walk) -> list[str]:
    """Return the keys that have neither an effect nor a note or a refusal."""
    return [
        f"{label}: {one.why}"
        for label, one in walked.found.items()
        if one.what in (SILENT, UNTRIED) and label not in ELSEWHERE
    ]


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """Collect the garbage of runs, which is left out of collection while they are made."""
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files()


@pytest.mark.parametrize("section", [name for name in SECTIONS if name not in SLOW])
def test_every_key_has_an_effect_or_a_reason_in_mode_gossip(section: str) -> None:
    assert not silent(walk(section, "gossip"))


@pytest.mark.parametrize(
    "section",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LONGEST)) for name in SLOW],
)
def test_every_key_has_another_value_and_every_rule_a_scenario(section: str) -> None:
    assert not silent(walk(section, "gossip", is_dry=True))


@pytest.mark.parametrize(("label", "test"), ELSEWHERE.items())
def test_a_key_without_effect_in_the_walk_has_one_in_another_test(label: str, test: str) -> None:
    assert walk(label.partition(".")[0], "gossip").found[label].what == SILENT
    assert f'"{label}"' in (Path(__file__).parent / test).read_text(encoding="utf-8")


def test_an_override_of_every_key_is_that_key_in_the_file() -> None:
    for start in (QUADRATIC, merged(QUADRATIC, CARTS)):
        full = dumped(start)
        assert full is not None
        for key, value in leaves(full):
            changed = next((other for other in (3, 0.25, True) if type(other) is type(value)), None)
            if changed is None or (table := put(full, tuple(key.split(".")), changed)) == full:
                continue
            expected = read(table)
            try:
                found = Outcome(scenario=loads(to_toml(full), {key: changed}))
            except ScenarioError as error:
                found = Outcome(refusal=tuple(error.problems))
            assert found.scenario == expected.scenario, key
            assert bool(found.refusal) == bool(expected.refusal), key


@pytest.mark.parametrize("name", ["gossip", "central", "hierarchical", "pooled", "independent"])
def test_what_is_recorded_suffices_to_run_again(name: str, tmp_path: Path) -> None:
    outcome = read(merged(QUADRATIC, {**VARIANTS[name], **UNEVEN, "network": {"loss": 0.1}}))
    assert outcome.scenario is not None
    record = p2pfrl.run(outcome.scenario, out=tmp_path / "run")
    assert loads(record.scenario) == outcome.scenario
    assert p2pfrl.verify(tmp_path / "run").is_equal


ABSENT = set() if find_spec("stable_baselines3") else {"learner:sb3"}
"""Rules whose package is not installed here: they are refused."""


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_has_an_effect_or_a_reason_in_every_mode(section: str) -> None:
    walks = {variant: walk(section, variant) for variant in VARIANTS}
    assert not {variant: found for variant, one in walks.items() if (found := silent(one))}
    moved = {
        label
        for one in walks.values()
        for label, found in one.found.items()
        if found.what == EFFECT
    }
    labels = {label for one in walks.values() for label in one.found if KIND.fullmatch(label)}
    labels -= ABSENT
    assert labels <= moved, "these have no effect in any mode, so that their options were not tried"
    used = {label for one in walks.values() for label in one.used}
    helped = {label for label in HELPS if section_of(label) == section} - ABSENT
    assert helped <= used, "these have an effect without their settings in HELPS, too"


def test_every_help_is_of_a_section_that_is_walked() -> None:
    assert {section_of(label) for label in HELPS} <= set(SECTIONS)
