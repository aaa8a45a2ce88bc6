"""Server-side optimizers. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.server_optimizers.adaptive import Adagrad, Adam, Yogi
from p2pfrl.consensus.server_optimizers.base import Replace, ServerOptimizer, StalenessMix, State
from p2pfrl.consensus.server_optimizers.momentum import Momentum, NormalizedMomentum, Sgd

RULES: dict[str, type[ServerOptimizer]] = {
    "replace": Replace,
    "staleness_mix": StalenessMix,
    "sgd": Sgd,
    "momentum": Momentum,
    "adam": Adam,
    "yogi": Yogi,
    "adagrad": Adagrad,
    "normalized_momentum": NormalizedMomentum,
}

__all__ = [
    "RULES",
    "Adagrad",
    "Adam",
    "Momentum",
    "NormalizedMomentum",
    "Replace",
    "ServerOptimizer",
    "Sgd",
    "StalenessMix",
    "State",
    "Yogi",
]
