"""Self-play: every agent trains in a copy of its shared world, against what it knows of the others.

Agents that share a world train together, in one process, and wait for each other (meetings.py). In
self-play each has a world to itself. The other members act in it with the last parameters that the
agent has heard of them; what else acting and learning need (optimizer moments, step counts) is the
agent's own. So nobody waits, and members may live anywhere.

What an agent has heard is a state array of the trainer (`Traits.heard`): saved, restored and sent
between processes like all its state. At first it is the agent's own start parameters, of every
member. A message that takes part in an exchange replaces it by what it holds, noise, compression
and attacks included; a coordinator's model replaces it for all members.

Random numbers have the names that they have in a shared world: those of the environment (seed,
world, update), those of a member's actions (seed, member, update). So if everyone hears of everyone
after every update, and what it hears is what they then train from, private worlds are equal, and
results are those of the shared world to the last bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.parameters import aligned_zeros
from p2pfrl.learning.learners.base import Batch, Outcome, Stack, Wrapped
from p2pfrl.learning.meetings import whole_worlds

KNOWN = "known"
"""State array: `(b, k, stride)` what agents know of the members of their worlds."""


class SelfPlay(Wrapped):
    """A learner of shared worlds whose agents play against what they know of each other.

    Args:
        inner: the learner, which computes whole worlds.
        members: agents k of a world.
    """

    def __init__(self, inner: Stack, members: int) -> None:
        super().__init__(inner)
        self._members = members
        self.traits = replace(inner.traits, companions=members, heard=(KNOWN,))

    @override
    def update(self, batch: Batch) -> Outcome:
        """Compute the whole world of every agent, and return what the agent itself learned.

        Worlds are computed by the number of their agent, so that no batch has one twice.
        """
        numbers = np.asarray(batch.agents, dtype=np.intp) % self._members
        rows = [np.flatnonzero(numbers == number) for number in range(self._members)]
        present = [at for at in rows if len(at)]
        found = [self._play(batch, at) for at in present]
        order = np.argsort(np.concatenate(present))
        batch.parameters[:] = np.concatenate([own.parameters for own in found])[order]
        state = {
            name: np.concatenate([own.state[name] for own in found])[order]
            for name in found[0].state
        }
        returns = [ended for own in found for ended in own.returns]
        return Outcome(
            batch.parameters,
            state | {KNOWN: batch.state[KNOWN]},
            np.concatenate([own.env_steps for own in found])[order],
            np.concatenate([own.loss for own in found])[order],
            [returns[row] for row in order],
            {
                name: np.concatenate([own.measures[name] for own in found])[order]
                for name in found[0].measures
            },
        )

    def _play(self, batch: Batch, at: NDArray[np.intp]) -> Outcome:
        """Return the updates of some rows of a batch, all of different worlds."""
        k, stride = self._members, batch.parameters.shape[1]
        agents = [batch.agents[row] for row in at]
        own = np.arange(len(at)) * k + np.asarray(agents, dtype=np.intp) % k
        rows = aligned_zeros((len(at) * k, stride), self.layout.dtype)
        rows[:] = np.asarray(batch.state[KNOWN])[at].reshape(-1, stride)
        rows[own] = batch.parameters[at]
        state = {
            name: np.repeat(values[at], k, axis=0)
            for name, values in batch.state.items()
            if name != KNOWN
        }
        index = [batch.index[row] for row in at for _ in range(k)]
        outcome = self.inner.update(Batch(whole_worlds(agents, k), index, rows, state))
        return Outcome(
            outcome.parameters[own],
            {name: values[own] for name, values in outcome.state.items()},
            outcome.env_steps[own],
            outcome.loss[own],
            [outcome.returns[row] for row in own],
            {name: values[own] for name, values in outcome.measures.items()},
        )
