"""Environments that compute on arrays.

Any other id is Gymnasium's (`gym.py`, found by `registry.resolve`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.learning.environments.base import Problem

RULES: Members[Problem] = Members(
    __name__,
    {
        "cartpole": "cartpole:CartPole",
        "pendulum": "pendulum:Pendulum",
        "acrobot": "acrobot:Acrobot",
        "mountain_car": "mountain_car:MountainCar",
        "mountain_car_continuous": "mountain_car:MountainCarContinuous",
        "gridworld": "gridworld:GridWorld",
        "garnet": "garnet:Garnet",
        "lqr": "lqr:LQR",
        "drift": "drift:Drift",
        "crossing": "crossing:Crossing",
        "spectrum": "spectrum:Spectrum",
        "signals": "signals:Signals",
        "microgrid": "microgrid:Microgrid",
        "glucose": "glucose:Glucose",
        "maintenance": "maintenance:Maintenance",
        "portfolio": "portfolio:Portfolio",
        "fleet": "fleet:Fleet",
        "networked_mdp": "networked_mdp:NetworkedMDP",
        "matrix_game": "matrix_game:MatrixGame",
        "public_goods": "crowd_games:PublicGoods",
        "congestion": "crowd_games:Congestion",
        "junction": "junction:Junction",
        "signal_grid": "signal_grid:SignalGrid",
        "warehouse": "warehouse:Warehouse",
    },
)
