"""Rules of a user, for tests of records that name them."""

import numpy as np

import p2pfrl


@p2pfrl.rule
class Clipped(p2pfrl.Mixing):
    """theta_i <- theta_i + sum_j w_ij clip(theta_j - theta_i, radius), with uniform weights."""

    radius: float = 0.5

    def weights(self, graph):
        heard = graph.predecessors
        return tuple(
            {j: 1 / (1 + len(heard[i])) for j in sorted({i, *heard[i]})} for i in range(graph.n)
        )

    def mix(self, turn, received, weights, state):
        mixed = turn.own.copy()
        for j, weight in weights.items():
            if j in received:
                pull = received[j] - turn.own
                norm = max(float(np.linalg.norm(pull)), 1e-12)
                mixed += turn.own.dtype.type(weight * min(1.0, self.radius / norm)) * pull
        return mixed, state


@p2pfrl.rule
class Alternate(p2pfrl.Gate):
    """Send in even rounds only."""

    def decide(self, payload, turn, state):
        return turn.round % 2 == 0, state


@p2pfrl.rule
class Point(p2pfrl.Environment):
    """A point on a line that is pushed left or right."""

    size: float = 0.1

    @property
    def spec(self):
        return p2pfrl.Spec(
            observation=1, state=1, actions=2, reset_noise=1, physics={"push": 0.1}, max_steps=20
        )

    def reset(self, physics, noise):
        return 2.0 * noise - 1.0

    def observe(self, state, physics):
        return state.astype(np.float32)

    def step(self, state, action, physics, noise):
        moved = state + physics["push"][..., None] * (2.0 * action[..., None] - 1.0)
        return moved, -np.abs(moved[..., 0]), np.abs(moved[..., 0]) > 3.0, {}


@p2pfrl.rule
class Doubled(p2pfrl.Payload):
    """Twice the parameters; the coordinator halves the mean."""

    def extract(self, turn):
        return 2 * turn.own

    def scaled(self, vector, model, factor):
        return 2 * model + factor * (vector - 2 * model)

    def target(self, model, aggregate):
        return aggregate / 2
