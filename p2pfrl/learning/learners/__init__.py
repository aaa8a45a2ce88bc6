"""Learners: what one local update of an agent is."""

from p2pfrl.learning.learners.base import Learner
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.quadratic import Quadratic

RULES: dict[str, type[Learner]] = {"quadratic": Quadratic, "ppo": PPO}
