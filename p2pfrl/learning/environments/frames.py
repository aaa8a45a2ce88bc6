"""Stacked frames: an observation is the last k observations of its episode, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.learning.environments.around import AroundSimulator
from p2pfrl.learning.environments.base import Simulator, Spec, State, Step

FRAMES = "frames"
"""State array: `(b, m, k, o)` the last k observations without their masks, oldest first."""


class FrameStack(AroundSimulator):
    """A simulator around another one, whose observations are its last k ones together.

    Before an episode has k observations its first one stands for those before it, as in Gymnasium's
    wrapper FrameStackObservation. Frames of an image become its channels. A mask is not stacked.

    Args:
        inner: the simulator that steps.
        frames: k.
    """

    def __init__(self, inner: Simulator, frames: int) -> None:
        super().__init__(inner)
        self._frames = frames
        self.spec = stacked(inner.spec, frames)
        self._mask = inner.spec.mask

    @override
    def init(self, agents: Sequence[int], purpose: str = "environment") -> State:
        state = self.inner.init(agents, purpose)
        first = self._bare(self.inner.shown(agents, state))
        return state | {FRAMES: np.repeat(first[:, :, None], self._frames, axis=2)}

    @override
    def observe(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        """Return the current observations; where an episode begins anew, so do the frames."""
        obs = self.inner.observe(agents, state)
        now, frames = self._bare(obs), state[FRAMES]
        is_other = (frames[:, :, -1] != now).any(axis=-1)
        if is_other.any():
            state[FRAMES] = np.where(is_other[..., None, None], now[:, :, None], frames)
        return self._together(state[FRAMES], obs)

    @override
    def shown(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        return self._together(state[FRAMES], self.inner.shown(agents, state))

    @override
    def narrow(self, rows: NDArray[np.intp]) -> bool:
        return self.inner.narrow(rows)

    @override
    def step(self, state: State, action: NDArray[np.generic]) -> Step:
        frames = state[FRAMES]
        step = self.inner.step(state, action)
        after = np.concatenate([frames[:, :, 1:], self._bare(step.next_obs)[:, :, None]], axis=2)
        first = self._bare(step.obs)[:, :, None]
        state[FRAMES] = np.where(step.finished[..., None, None], first, after)
        return replace(
            step,
            next_obs=self._together(after, step.next_obs),
            obs=self._together(state[FRAMES], step.obs),
        )

    def _bare(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return observations `(b, m, o)` without their masks."""
        return obs[..., : obs.shape[-1] - self._mask]

    def _together(
        self, frames: NDArray[np.float32], obs: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return frames as observations, with the mask of the newest."""
        b, m, k, _ = frames.shape
        if self.inner.spec.image:
            height, width, channels = self.inner.spec.image
            pixels = frames.reshape(b, m, k, height * width, channels).swapaxes(2, 3)
        else:
            pixels = frames
        flat = pixels.reshape(b, m, -1)
        return np.concatenate([flat, obs[..., obs.shape[-1] - self._mask :]], axis=-1)


def stacked(spec: Spec, frames: int) -> Spec:
    """Return the spec of an environment whose observations are `frames` of its own."""
    image = (*spec.image[:-1], frames * spec.image[-1]) if spec.image else ()
    size = frames * (spec.observation - spec.mask) + spec.mask
    return replace(spec, observation=size, image=image)
