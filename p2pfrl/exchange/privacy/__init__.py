"""Privacy rules: the last step before compression.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.exchange.privacy.base import Privacy

RULES: Members[Privacy] = Members(
    __name__,
    {
        "none": "base:Plain",
        "clip_noise": "gaussian:ClipNoise",
        "central_noise": "central:CentralNoise",
        "distributed_noise": "distributed:DistributedNoise",
    },
)
