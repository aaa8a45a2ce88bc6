"""Compressors of payloads. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.exchange.compressors.base import Compressor

INNER: Members[Compressor] = Members(
    __name__,
    {
        "topk": "sparse:TopK",
        "randk": "sparse:RandK",
        "threshold": "sparse:Threshold",
        "quantize": "quantized:Quantize",
        "qsgd": "quantized:QSGD",
        "sign": "quantized:Sign",
        "low_rank": "low_rank:LowRank",
    },
)
"""What others can be around: compressors that remember no errors of their own."""

RULES: Members[Compressor] = (
    Members(__name__, {"none": "base:Raw"})
    | INNER
    | Members(
        __name__, {"error_feedback": "memory:ErrorFeedback", "difference": "memory:Difference"}
    )
)
