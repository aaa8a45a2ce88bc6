"""Personal models beside the one that travels.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.learning.personal.base import Personal

RULES: Members[Personal] = Members(
    __name__,
    {
        "none": "base:Common",
        "ditto": "ditto:Ditto",
        "apfl": "apfl:APFL",
        "finetune": "finetune:Finetune",
    },
)
