"""Learners: rules for one local update of an agent.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.learning.learners.base import Learner

RULES: Members[Learner] = Members(
    __name__,
    {
        "quadratic": "quadratic:Quadratic",
        "reinforce": "reinforce:REINFORCE",
        "a2c": "a2c:A2C",
        "ppo": "ppo:PPO",
        "dqn": "dqn:DQN",
        "sac": "sac:SAC",
        "td3": "td3:TD3",
        "td": "td:TD",
        "tabular_q": "tabular_q:TabularQ",
        "tabular_ac": "tabular_ac:TabularAC",
        "softmax_pg": "npg:SoftmaxPG",
        "npg": "npg:NPG",
        "deep_npg": "deep_npg:DeepNPG",
        "ucbvi": "ucbvi:UCBVI",
        "local": "local:Local",
        "sb3": "sb3:SB3",
    },
)
