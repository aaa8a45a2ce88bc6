"""Aggregators of a coordinator. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.consensus.aggregators.base import Aggregator
    from p2pfrl.consensus.aggregators.robust import Robust

ROBUST: Members[Robust] = Members(
    __name__,
    {
        "median": "coordinates:Median",
        "trimmed_mean": "coordinates:TrimmedMean",
        "geometric_median": "geometric:GeometricMedian",
        "krum": "krum:Krum",
        "multi_krum": "krum:MultiKrum",
        "bulyan": "krum:Bulyan",
        "mda": "krum:MDA",
        "centered_clipping": "clipping:CenteredClipping",
        "norm_clipping": "clipping:NormClipping",
        "cosine_trust": "clipping:CosineTrust",
        "concentration": "concentration:Concentration",
        "suspect_score": "suspects:SuspectScore",
    },
)
"""Rules that bound what Byzantine agents can do. Mixing "neighborhood" takes one of them."""

RULES: Members[Aggregator] = (
    Members(
        __name__,
        {
            "mean": "mean:Mean",
            "normalized": "normalized:Normalized",
            "preferred": "preferred:Preferred",
            "latest": "latest:Latest",
            "importance": "importance:Importance",
            "natural": "natural:Natural",
            "mixture": "mixture:Mixture",
            "distilled": "distilled:Distilled",
            "optimistic": "optimistic:Optimistic",
        },
    )
    | ROBUST
)
