"""Spectrum: transmitters that share a band set their powers, a shared world.

Each member is a link of a transmitter and its receiver. What one transmits, the others receive as
interference, so that every link alone does best at full power, and all together do not. The model
is that of Nasir, Guo, "Multi-agent deep reinforcement learning for dynamic power allocation in
wireless networks", IEEE JSAC 2019, arXiv 1808.00490, on a smaller scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.shared import (
    Share,
    SharedEnvironment,
    by_instance,
    per_member,
    shared_reward,
)

_REFERENCE = 50.0  # m, where a transmitter at full power is received 20 dB above the noise
_SNR = 100.0
_NEAREST = 5.0  # m, below which the path loss no longer falls
_EXPONENT = 3.76
_OUTAGE = 0.5  # bit/s/Hz, below which a link counts as lost


@rule
class Spectrum(SharedEnvironment):
    """Share a band: k links, each of which sets the power of its own transmitter in every slot.

    Gain at full power, receiver i, transmitter j, noise 1: g_ij = 100 (max(d_ij, 5) / 50)^-3.76
    |h_ij|^2 / 2, with d in meters. Fading h is complex Gauss-Markov: h' = rho h + sqrt(1 - rho^2)
    e. Rate r_i = log2(1 + g_ii p_i / (1 + sum over j != i of g_ij p_j)) bit/s/Hz. Transmitters
    stand anywhere in a square, each receiver `distance` away in any direction; new places every
    episode.

    A member observes what it can measure: its own gain, all that it causes at full power, the last
    interference, its last power, its signal-to-interference ratio, and the interference of the last
    powers under the new gains. Actions: power 0, 1 / (levels - 1), ..., 1 of the full one. Reward:
    the rate, shared as `share` says. Physics: distance (m), power (of the full one), correlation
    (rho; .64 is that of 20 ms slots at a Doppler frequency of 10 Hz). Measures: rate, outage (rate
    below .5), power, interference_db.

    Baselines: `full_power`; `wmmse`, a local maximum of the sum of rates by one who knows all
    gains, rounded to the levels.

    Attributes:
        members: links that share a band.
        levels: powers to choose from.
        side: of the square, meters.
        share: own: each link has its own rate; team: the mean of all; externality: its own rate
            less what it takes from the others.
        max_steps: slots of an episode.
    """

    members: int = Field(default=8, ge=2)
    levels: int = Field(default=5, ge=2)
    side: float = Field(default=150.0, gt=0)
    share: Share = "externality"
    max_steps: int = Field(default=50, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Six observations; as many actions as levels."""
        k = self.members
        return Spec(
            observation=6,
            state=3 * k * k + 2 * k,
            actions=self.levels,
            reset_noise=2 * k * k + 3 * k,
            step_noise=2 * k * k,
            max_steps=self.max_steps,
            ranges={
                "distance": (1.0, 1000000.0),
                "power": (0.0, 1000.0),
                "correlation": (0.0, 1.0),
            },
            physics={"distance": 30.0, "power": 1.0, "correlation": 0.64},
            measures=("rate", "outage", "power", "interference_db"),
            baselines={"full_power": self._full_power, "wmmse": self._wmmse},
            members=k,
        )

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Return worlds with new places and fading, and all powers at one half."""
        k, world = self.members, np.zeros((*noise.shape[:2], self.spec.state))
        fading, path, power, _ = self._parts(world)
        fading[:] = _normal(noise[..., : 2 * k * k]).reshape(fading.shape)
        u = noise[..., 2 * k * k :].reshape(*noise.shape[:2], 3, k)
        x, y, angle = u[..., 0, :] * self.side, u[..., 1, :] * self.side, 2 * np.pi * u[..., 2, :]
        distance = by_instance(physics["distance"])
        dx = (x + distance * np.cos(angle))[..., :, None] - x[..., None, :]
        dy = (y + distance * np.sin(angle))[..., :, None] - y[..., None, :]
        far = np.maximum(np.sqrt(dx * dx + dy * dy), _NEAREST)
        path[:] = _SNR / 2 * (far / _REFERENCE) ** -_EXPONENT
        power[:] = 0.5
        return world

    @override
    def observe(self, world: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return six measurements of each link, logarithms of gains and ratios among them."""
        gains = self.gains(world)
        _, _, power, interference = self._parts(world)
        own = np.diagonal(gains, axis1=-2, axis2=-1)
        caused = _total(np.swapaxes(gains, -1, -2)) - own
        ahead = _total(gains * power[..., None, :]) - own * power
        seen = np.stack(
            [
                np.log10(own + 1e-3) / 2,
                np.log10(1 + caused) / 2,
                np.log10(1 + interference) / 2,
                power,
                np.log2(1 + own * power / (1 + interference)) / 5,
                np.log10(1 + ahead) / 2,
            ],
            axis=-1,
        )
        return np.ascontiguousarray(np.swapaxes(seen, 1, 2), dtype=np.float32)

    @override
    def step(
        self,
        world: Array,
        action: NDArray[Any],
        physics: Mapping[str, NDArray[Any]],
        noise: Array,
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Transmit one slot at the chosen powers; then the fading changes."""
        k = self.members
        share = np.swapaxes(action, 1, 2) / (self.levels - 1.0)
        power = share * by_instance(physics["power"])
        gains = self.gains(world)
        rate, interference = rates(gains, power)
        after = world.copy()
        fading, _, last_power, last_interference = self._parts(after)
        rho = by_instance(physics["correlation"])[..., :, None, None]
        fading[:] = rho * fading + np.sqrt(1 - rho * rho) * _normal(noise).reshape(fading.shape)
        last_power[:], last_interference[:] = power, interference
        harm = None
        if self.share == "externality":
            signal = np.diagonal(gains, axis1=-2, axis2=-1) * power
            rest = np.maximum(interference[..., :, None] - gains * power[..., None, :], 0.0)
            gained = np.log2(1 + signal[..., :, None] / (1 + rest)) - rate[..., :, None]
            gained[..., range(k), range(k)] = 0.0
            harm = per_member(_total(np.swapaxes(gained, -1, -2)))
        measures = {
            "rate": per_member(rate),
            "outage": per_member((rate < _OUTAGE).astype(np.float64)),
            "power": per_member(power),
            "interference_db": per_member(10 * np.log10(1 + interference)),
        }
        reward = shared_reward(self.share, measures["rate"], harm)
        return after, reward, np.zeros(world.shape[:2], dtype=np.bool_), measures

    def _full_power(
        self, world: Array, physics: Mapping[str, NDArray[Any]], t: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return np.full((len(world), self.members, world.shape[1]), self.levels - 1)

    def _wmmse(
        self, world: Array, physics: Mapping[str, NDArray[Any]], t: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        full = by_instance(physics["power"])
        share = wmmse(self.gains(world) * full[..., None, :])
        return per_member(np.rint(share * (self.levels - 1)).astype(np.int64))

    def gains(self, world: Array) -> Array:
        """Return the gains at full power `(G, m, receiver, transmitter)`."""
        fading, path, _, _ = self._parts(world)
        gains: Array = path * (np.square(fading[..., 0]) + np.square(fading[..., 1]))
        return gains

    def _parts(self, world: Array) -> tuple[Array, Array, Array, Array]:
        """Return views: fading (k, k, 2), half path gain (k, k), last power and interference."""
        k, shape = self.members, world.shape[:-1]
        cuts = np.split(world, [2 * k * k, 3 * k * k, 3 * k * k + k], axis=-1)
        return cuts[0].reshape(*shape, k, k, 2), cuts[1].reshape(*shape, k, k), cuts[2], cuts[3]


def rates(gains: Array, power: Array) -> tuple[Array, Array]:
    """Return rates (bit/s/Hz) and received interference of links, `(..., k)` each.

    Args:
        gains: at full power, noise 1, `(..., receiver, transmitter)`.
        power: of each transmitter, `(..., k)`.
    """
    signal = np.diagonal(gains, axis1=-2, axis2=-1) * power
    interference = _total(gains * power[..., None, :]) - signal
    return np.log2(1 + signal / (1 + interference)), interference


def wmmse(gains: Array, iterations: int = 100) -> Array:
    """Return powers `(..., k)` in [0, 1] at a local maximum of the sum of rates, from full power.

    The weighted minimum mean square error algorithm for one antenna each, which alternates over
    receivers u, weights w and amplitudes v: u_i = sqrt(g_ii) v_i / (1 + sum_j g_ij v_j^2), w_i = 1
    / (1 - u_i sqrt(g_ii) v_i), v_i = clip(u_i w_i sqrt(g_ii) / sum_j g_ji u_j^2 w_j, 0, 1).

    Reference: Shi, Razaviyayn, Luo, He, "An iteratively weighted MMSE approach to distributed
    sum-utility maximization for a MIMO interfering broadcast channel", IEEE Transactions on Signal
    Processing 2011.

    Args:
        gains: at full power, noise 1, `(..., receiver, transmitter)`.
        iterations: rounds of the three steps.
    """
    own = np.sqrt(np.diagonal(gains, axis1=-2, axis2=-1))
    amplitude = np.ones(own.shape)
    for _ in range(iterations):
        total = 1 + _total(gains * np.square(amplitude)[..., None, :])
        receiver = own * amplitude / total
        weight = 1 / np.maximum(1 - receiver * own * amplitude, 1e-12)
        cost = _total(np.swapaxes(gains * (np.square(receiver) * weight)[..., :, None], -1, -2))
        amplitude = np.clip(receiver * weight * own / np.maximum(cost, 1e-12), 0.0, 1.0)
    power: Array = np.square(amplitude)
    return power


def _total(values: Array) -> Array:
    """Return the sum over the last axis, added in order."""
    total: Array = values[..., 0].copy()
    for i in range(1, values.shape[-1]):
        total += values[..., i]
    return total


def _normal(uniform: Array) -> Array:
    """Return standard normal numbers from as many uniform ones, by pairs (Box, Muller, 1958)."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform[..., 0::2]))
    angle = 2.0 * np.pi * uniform[..., 1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(
        uniform.shape
    )
