"""The environments that compute as arrays; any other id is Gymnasium's (`gym.py`, found by `registry.resolve`)."""

from __future__ import annotations

from p2pfrl.learning.environments.acrobot import Acrobot
from p2pfrl.learning.environments.base import Environment
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.crossing import Crossing
from p2pfrl.learning.environments.drift import Drift
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.gridworld import GridWorld
from p2pfrl.learning.environments.lqr import LQR
from p2pfrl.learning.environments.mountain_car import MountainCar, MountainCarContinuous
from p2pfrl.learning.environments.pendulum import Pendulum

RULES: dict[str, type[Environment]] = {
    "cartpole": CartPole,
    "pendulum": Pendulum,
    "acrobot": Acrobot,
    "mountain_car": MountainCar,
    "mountain_car_continuous": MountainCarContinuous,
    "gridworld": GridWorld,
    "garnet": Garnet,
    "lqr": LQR,
    "drift": Drift,
    "crossing": Crossing,
}
