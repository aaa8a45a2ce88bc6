"""Learners: what one local update of an agent is."""

from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Learner
from p2pfrl.learning.learners.deep_npg import DeepNPG
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.npg import NPG, SoftmaxPG
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.quadratic import Quadratic
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.learners.tabular_q import TabularQ
from p2pfrl.learning.learners.td import TD
from p2pfrl.learning.learners.ucbvi import UCBVI

RULES: dict[str, type[Learner]] = {
    "quadratic": Quadratic,
    "reinforce": REINFORCE,
    "a2c": A2C,
    "ppo": PPO,
    "dqn": DQN,
    "td": TD,
    "tabular_q": TabularQ,
    "softmax_pg": SoftmaxPG,
    "npg": NPG,
    "deep_npg": DeepNPG,
    "ucbvi": UCBVI,
}
