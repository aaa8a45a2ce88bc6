"""Personal models beside the one that travels. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.learning.personal.apfl import APFL
from p2pfrl.learning.personal.base import Common, Local, Personal, Prepare, Update
from p2pfrl.learning.personal.ditto import Ditto
from p2pfrl.learning.personal.finetune import Finetune

RULES: dict[str, type[Personal]] = {
    "none": Common,
    "ditto": Ditto,
    "apfl": APFL,
    "finetune": Finetune,
}

__all__ = ["APFL", "RULES", "Common", "Ditto", "Finetune", "Local", "Personal", "Prepare", "Update"]
