"""Attacks of Byzantine agents: what they send, or do, in place of what the rules say.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.exchange.attacks.base import Attack

RULES: Members[Attack] = Members(
    __name__,
    {
        "sign_flip": "blind:SignFlip",
        "noise": "blind:Noise",
        "zero": "blind:Zero",
        "constant": "blind:Constant",
        "nan": "blind:NotFinite",
        "replay": "blind:Replay",
        "two_faced": "blind:TwoFaced",
        "free_rider": "local:FreeRider",
        "average_zero": "omniscient:AverageZero",
        "alie": "omniscient:ALittleIsEnough",
        "ipm": "omniscient:InnerProduct",
        "dissensus": "omniscient:Dissensus",
        "sybil": "omniscient:Sybil",
        "random_action": "experience:RandomAction",
        "reward_flip": "experience:RewardFlip",
        "reward_shuffle": "experience:RewardShuffle",
    },
)
