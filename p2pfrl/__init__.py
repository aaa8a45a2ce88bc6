"""Decentralized federated reinforcement learning: simulate it exactly, then deploy it unchanged.

Example:
    scenario = p2pfrl.load("ring_16.toml", overrides={"stop.rounds": 20})
    record = p2pfrl.run(scenario, seed=3)
    record.metrics["consensus_distance"]

Everything that a user's own code needs is here: running, contracts of the axes, and checkers of
those contracts. Names are imported when they are first used. Figures are in `p2pfrl.plots`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from p2pfrl.results.versions import __version__

if TYPE_CHECKING:
    from p2pfrl.consensus.aggregators.base import Aggregator, Arrived
    from p2pfrl.consensus.aggregators.check import check_aggregator
    from p2pfrl.consensus.mixing.base import Mixing
    from p2pfrl.consensus.mixing.check import check_mixing
    from p2pfrl.consensus.participation.base import Participation, Standing
    from p2pfrl.consensus.participation.check import check_participation
    from p2pfrl.consensus.schedules.base import ScheduleRule
    from p2pfrl.consensus.server_optimizers.base import ServerOptimizer
    from p2pfrl.consensus.server_optimizers.check import check_server_optimizer
    from p2pfrl.consensus.topologies.base import Topology
    from p2pfrl.consensus.topologies.check import check_topology
    from p2pfrl.core.errors import ContractError, P2PFRLError, ScenarioError, ScenarioWarning
    from p2pfrl.core.graph import Graph
    from p2pfrl.core.needs import Need
    from p2pfrl.core.parameters import Layout, Tensor, Vector
    from p2pfrl.core.rng import generator
    from p2pfrl.core.rule import rule
    from p2pfrl.core.turn import Turn
    from p2pfrl.core.types import Message
    from p2pfrl.exchange.compressors.base import Compressor, Encoded
    from p2pfrl.exchange.compressors.check import check_compressor
    from p2pfrl.exchange.gates.base import Gate
    from p2pfrl.exchange.gates.check import check_gate
    from p2pfrl.exchange.payloads.base import Payload
    from p2pfrl.exchange.payloads.check import check_payload
    from p2pfrl.exchange.privacy.base import Privacy
    from p2pfrl.experiment.compare import compare
    from p2pfrl.experiment.run import resume
    from p2pfrl.experiment.run import simulate as run
    from p2pfrl.experiment.series import load_table
    from p2pfrl.experiment.sweep import sweep
    from p2pfrl.experiment.verify import verify
    from p2pfrl.learning.corrections.base import Correction
    from p2pfrl.learning.environments.base import Environment, Spec
    from p2pfrl.learning.environments.check import check_environment
    from p2pfrl.learning.environments.shared import SharedEnvironment
    from p2pfrl.learning.learners.base import (
        Batch,
        Evaluator,
        Exchange,
        Learner,
        Objective,
        Outcome,
        PooledTraining,
        Stack,
        Task,
        Traits,
    )
    from p2pfrl.learning.learners.check import check_learner
    from p2pfrl.learning.learners.kept import OptimizerArray
    from p2pfrl.learning.learners.local import Local, LocalLearner
    from p2pfrl.learning.learners.sb3 import SB3
    from p2pfrl.learning.personal.base import Personal
    from p2pfrl.results.record import Record
    from p2pfrl.results.record import load as load_record
    from p2pfrl.scenario import Scenario, load, loads

_HOMES = {
    "p2pfrl.consensus.aggregators.base": ("Aggregator", "Arrived"),
    "p2pfrl.consensus.aggregators.check": ("check_aggregator",),
    "p2pfrl.consensus.mixing.base": ("Mixing",),
    "p2pfrl.consensus.mixing.check": ("check_mixing",),
    "p2pfrl.consensus.participation.base": ("Participation", "Standing"),
    "p2pfrl.consensus.participation.check": ("check_participation",),
    "p2pfrl.consensus.schedules.base": ("ScheduleRule",),
    "p2pfrl.consensus.server_optimizers.base": ("ServerOptimizer",),
    "p2pfrl.consensus.server_optimizers.check": ("check_server_optimizer",),
    "p2pfrl.consensus.topologies.base": ("Topology",),
    "p2pfrl.consensus.topologies.check": ("check_topology",),
    "p2pfrl.core.errors": ("ContractError", "P2PFRLError", "ScenarioError", "ScenarioWarning"),
    "p2pfrl.core.graph": ("Graph",),
    "p2pfrl.core.needs": ("Need",),
    "p2pfrl.core.parameters": ("Layout", "Tensor", "Vector"),
    "p2pfrl.core.rng": ("generator",),
    "p2pfrl.core.rule": ("rule",),
    "p2pfrl.core.turn": ("Turn",),
    "p2pfrl.core.types": ("Message",),
    "p2pfrl.exchange.compressors.base": ("Compressor", "Encoded"),
    "p2pfrl.exchange.compressors.check": ("check_compressor",),
    "p2pfrl.exchange.gates.base": ("Gate",),
    "p2pfrl.exchange.gates.check": ("check_gate",),
    "p2pfrl.exchange.payloads.base": ("Payload",),
    "p2pfrl.exchange.payloads.check": ("check_payload",),
    "p2pfrl.exchange.privacy.base": ("Privacy",),
    "p2pfrl.experiment.compare": ("compare",),
    "p2pfrl.experiment.run": ("resume",),
    "p2pfrl.experiment.series": ("load_table",),
    "p2pfrl.experiment.sweep": ("sweep",),
    "p2pfrl.experiment.verify": ("verify",),
    "p2pfrl.learning.corrections.base": ("Correction",),
    "p2pfrl.learning.environments.base": ("Environment", "Spec"),
    "p2pfrl.learning.environments.check": ("check_environment",),
    "p2pfrl.learning.environments.shared": ("SharedEnvironment",),
    "p2pfrl.learning.learners.base": (
        "Batch",
        "Evaluator",
        "Exchange",
        "Learner",
        "Objective",
        "Outcome",
        "PooledTraining",
        "Stack",
        "Task",
        "Traits",
    ),
    "p2pfrl.learning.learners.check": ("check_learner",),
    "p2pfrl.learning.learners.kept": ("OptimizerArray",),
    "p2pfrl.learning.learners.local": ("Local", "LocalLearner"),
    "p2pfrl.learning.learners.sb3": ("SB3",),
    "p2pfrl.learning.personal.base": ("Personal",),
    "p2pfrl.results.record": ("Record",),
    "p2pfrl.scenario": ("Scenario", "load", "loads"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_RENAMED = {
    "load_record": ("p2pfrl.results.record", "load"),
    "run": ("p2pfrl.experiment.run", "simulate"),
}

__all__ = [
    "SB3",
    "Aggregator",
    "Arrived",
    "Batch",
    "Compressor",
    "ContractError",
    "Correction",
    "Encoded",
    "Environment",
    "Evaluator",
    "Exchange",
    "Gate",
    "Graph",
    "Layout",
    "Learner",
    "Local",
    "LocalLearner",
    "Message",
    "Mixing",
    "Need",
    "Objective",
    "OptimizerArray",
    "Outcome",
    "P2PFRLError",
    "Participation",
    "Payload",
    "Personal",
    "PooledTraining",
    "Privacy",
    "Record",
    "Scenario",
    "ScenarioError",
    "ScenarioWarning",
    "ScheduleRule",
    "ServerOptimizer",
    "SharedEnvironment",
    "Spec",
    "Stack",
    "Standing",
    "Task",
    "Tensor",
    "Topology",
    "Traits",
    "Turn",
    "Vector",
    "__version__",
    "check_aggregator",
    "check_compressor",
    "check_environment",
    "check_gate",
    "check_learner",
    "check_mixing",
    "check_participation",
    "check_payload",
    "check_server_optimizer",
    "check_topology",
    "compare",
    "generator",
    "load",
    "load_record",
    "load_table",
    "loads",
    "resume",
    "rule",
    "run",
    "sweep",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name == "plots":
        return import_module("p2pfrl.plots")
    if name in _RENAMED:
        home, original = _RENAMED[name]
    elif name in _HOME:
        home, original = _HOME[name], name
    else:
        raise AttributeError(f"module 'p2pfrl' has no attribute {name!r}")
    value = getattr(import_module(home), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
