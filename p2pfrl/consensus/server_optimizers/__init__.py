"""Server-side optimizers. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.consensus.server_optimizers.base import ServerOptimizer

RULES: Members[ServerOptimizer] = Members(
    __name__,
    {
        "replace": "base:Replace",
        "staleness_mix": "momentum:StalenessMix",
        "sgd": "momentum:Sgd",
        "momentum": "momentum:Momentum",
        "adam": "adaptive:Adam",
        "yogi": "adaptive:Yogi",
        "adagrad": "adaptive:Adagrad",
        "scsg": "own_episodes:Scsg",
        "normalized_momentum": "momentum:NormalizedMomentum",
    },
)
