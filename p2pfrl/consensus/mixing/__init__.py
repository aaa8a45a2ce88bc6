"""Mixing rules of an agent. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.consensus.mixing.base import Mixing

MATRICES: Members[Mixing] = Members(
    __name__,
    {
        "metropolis": "metropolis:Metropolis",
        "laplacian": "linear:Laplacian",
        "uniform": "linear:Uniform",
        "lazy": "linear:Lazy",
    },
)
"""Rules that consist of a matrix alone. Other rules build on them."""

RULES: Members[Mixing] = MATRICES | Members(
    __name__,
    {
        "chebyshev": "accelerated:Chebyshev",
        "push_sum": "push_sum:PushSum",
        "gradient_tracking": "tracking:GradientTracking",
        "extra": "tracking:Extra",
        "by_role": "linear:ByRole",
        "capacity": "capacity:Capacity",
        "choco": "choco:Choco",
        "pairwise": "pairwise:Pairwise",
        "neighborhood": "robust:Neighborhood",
        "clipped_gossip": "robust:ClippedGossip",
        "bridge": "robust:Bridge",
        "ubar": "ubar:Ubar",
    },
)
