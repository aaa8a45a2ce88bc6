"""An update's inputs are fixed when it starts, and its result counts when it ends.

Nothing is seen in between.
"""

from dataclasses import replace

import numpy as np
import pytest
from learner_worlds import DISCRETE, stack

from p2pfrl.learning.executors import LostChunkError
from p2pfrl.learning.learners.base import Batch, Task
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.quadratic import Quadratic
from p2pfrl.learning.trainer import Trainer


def quadratic(agents: int = 4, **options) -> Trainer:
    return Trainer(Quadratic(dimension=5, **options).prepare(Task(1, agents)), agents)


def test_a_result_is_not_seen_before_it_is_committed():
    trainer = quadratic()
    before = trainer.parameters.copy()
    trainer.freeze(2)
    trainer.compute()
    assert np.array_equal(trainer.parameters, before)
    trainer.commit(2)
    assert not np.array_equal(trainer.parameters[2], before[2])
    assert np.array_equal(np.delete(trainer.parameters, 2, axis=0), np.delete(before, 2, axis=0))
    assert trainer.index.tolist() == [0, 0, 1, 0]


def test_an_update_starts_from_the_parameters_at_its_start_and_keeps_what_was_written_since():
    plain, disturbed = quadratic(noise=0.1), quadratic(noise=0.1)
    for computed_first in (True, False):
        start = plain.read(1).copy()
        plain.update([1])
        shift = np.zeros_like(start)
        shift[:5] = np.arange(5)
        disturbed.freeze(1)
        if computed_first:
            disturbed.compute()
        disturbed.write(1, start + shift)
        disturbed.write(1, start + 2 * shift)
        disturbed.commit(1)
        change = plain.read(1) - start
        assert np.array_equal(disturbed.read(1), start + 2 * shift + change)
        disturbed.write(1, plain.read(1))


def test_looking_ahead_shows_the_end_of_an_update_and_leaves_no_trace():
    trainer, plain = (Trainer(stack(PPO(steps=8, hidden=(8,)), DISCRETE, 3), 3) for _ in range(2))
    with trainer.ahead(0):  # nothing is under way
        assert np.array_equal(trainer.parameters, plain.parameters)
    plain.update([0, 1])
    trainer.freeze(0)
    trainer.freeze(1)
    before = trainer.parameters.copy()
    states = {name: values.copy() for name, values in trainer.state.items()}
    with trainer.ahead(1):
        assert np.array_equal(trainer.parameters[1], plain.parameters[1])
        assert np.array_equal(trainer.parameters[0], before[0])
        assert all(np.array_equal(trainer.state[n][1], plain.state[n][1]) for n in states)
    assert np.array_equal(trainer.parameters, before)
    assert all(np.array_equal(trainer.state[n], states[n]) for n in states)
    trainer.commit(0)
    trainer.commit(1)
    assert np.array_equal(trainer.parameters, plain.parameters)


def test_a_cancelled_update_leaves_no_trace():
    trainer, other = (Trainer(stack(PPO(steps=8, hidden=(8,)), DISCRETE, 3), 3) for _ in range(2))
    trainer.freeze(0)
    trainer.freeze(1)
    trainer.compute()
    trainer.cancel(0)
    trainer.commit(1)
    other.update([1])
    assert np.array_equal(trainer.parameters, other.parameters)
    assert all(np.array_equal(trainer.state[name], other.state[name]) for name in other.state)
    a, b = trainer.update([0])[0], other.update([0])[0]
    assert a.loss == b.loss
    assert np.array_equal(trainer.parameters, other.parameters)


def test_updates_computed_together_or_apart_are_the_same():
    together, apart = quadratic(6, noise=0.5), quadratic(6, noise=0.5)
    together.update(range(6))
    for agent in (5, 2, 0, 1, 4, 3):
        apart.update([agent])
    assert np.array_equal(together.parameters, apart.parameters)
    assert together.mean_batch == 6.0
    assert apart.mean_batch == 1.0


def test_chunks_do_not_change_results():
    whole, chunked = quadratic(7, noise=0.5), quadratic(7, noise=0.5)
    chunked.stack.traits = replace(chunked.stack.traits, chunk=2)
    assert (
        list(whole.update([5, 0, 6, 3, 1, 2, 4]))
        == list(chunked.update(range(7)))
        == list(range(7))
    )
    assert np.array_equal(whole.parameters, chunked.parameters)


class Elsewhere:
    """Computes chunks when their results are wanted, the last one first; loses some."""

    most, is_here = None, False

    def __init__(self, update, workers=2, *, room=0, loses=()):
        self.workers, self.room, self.loses = workers, room, loses
        self.update, self.seen, self.results = update, [], {}

    def has_room(self):
        return len(self.results) < self.room

    def space(self, agents):
        return None

    def submit(self, batch):
        self.seen.append(tuple(batch.agents))
        self.results[tuple(batch.agents)] = batch
        return tuple(batch.agents)

    def result(self, handle):
        for agents in reversed(self.results):
            if isinstance(self.results[agents], Batch):
                self.results[agents] = self.update(self.results[agents])
        outcome = self.results.pop(handle)
        if handle in self.loses:
            raise LostChunkError
        return outcome


@pytest.mark.parametrize("loses", [(), ((2, 3),), ((0, 1), (2, 3), (4,))])
def test_chunks_may_be_computed_elsewhere(loses):
    learner = Quadratic(dimension=5, noise=0.5).prepare(Task(1, 5))
    learner.traits = replace(learner.traits, chunk=2)
    elsewhere = Elsewhere(learner.update, loses=loses)
    remote, here = Trainer(learner, 5, executor=elsewhere), Trainer(learner, 5)
    remote.update(range(5))
    here.update(range(5))
    assert elsewhere.seen == [(0, 1), (2, 3), (4,)]
    assert np.array_equal(remote.parameters, here.parameters)
    assert remote.mean_batch == 5


def test_chunks_are_submitted_as_soon_as_enough_agents_have_started():
    learner = Quadratic(dimension=5, noise=0.5).prepare(Task(1, 6))
    elsewhere = Elsewhere(learner.update, room=3)
    remote, here = Trainer(learner, 6, executor=elsewhere), Trainer(learner, 6)
    for trainer in (remote, here):
        for agent in (5, 0, 3, 1):
            trainer.freeze(agent)
        trainer.write(3, np.ones(learner.layout.size))
        trainer.cancel(0)
        trainer.freeze(4)
        trainer.compute()
        for agent in (1, 3, 4, 5):
            trainer.commit(agent)
    assert elsewhere.seen == [(0, 3, 5), (1,), (4,)]
    assert np.array_equal(remote.parameters, here.parameters)
    assert remote.mean_batch == here.mean_batch == 4


def test_an_update_under_way_keeps_its_moments_whenever_it_is_computed():
    def run(early):
        trainer = Trainer(stack(PPO(steps=8, hidden=(8,)), DISCRETE, 2), 2)
        trainer.update([0, 1])
        trainer.freeze(0)
        if early:
            trainer.compute([0])
        trainer.reset_moments(0)
        assert not trainer.state["adam_m"][0].any()
        trainer.commit(0)
        return trainer.read(0)

    assert np.array_equal(run(early=True), run(early=False))


def test_a_peer_with_some_of_the_agents_computes_what_the_simulation_computes():
    everyone, some = quadratic(6, noise=0.5), Trainer(quadratic(6, noise=0.5).stack, [4, 1])
    assert some.agents == (1, 4)
    everyone.update(range(6))
    some.update([1, 4])
    assert np.array_equal(some.parameters, everyone.parameters[[1, 4]])


def test_a_snapshot_brings_everything_back():
    trainer = Trainer(stack(PPO(steps=8, hidden=(8,)), DISCRETE, 2), 2)
    trainer.update([0, 1])
    saved = trainer.snapshot(1)
    first = trainer.update([1])[1]
    after = trainer.snapshot(1)
    trainer.freeze(1)
    trainer.restore(1, saved)
    again = trainer.update([1])[1]
    assert first.loss == again.loss
    assert np.array_equal(trainer.read(1), after.parameters)
    assert all(np.array_equal(trainer.state[name][1], after.state[name]) for name in after.state)


def test_a_reset_agent_begins_anew_with_the_same_numbers():
    trainer = Trainer(stack(PPO(steps=8, hidden=(8,)), DISCRETE, 2), 2)
    start = trainer.read(1).copy()
    first = trainer.update([1])[1]
    trainer.reset(1)
    assert np.array_equal(trainer.read(1), start)
    assert not trainer.state["adam_m"][1].any()
    assert trainer.index[1] == 0
    assert trainer.update([1])[1].loss == first.loss


def test_reset_moments_clears_moments_and_their_counts_of_one_agent():
    trainer = Trainer(stack(PPO(steps=8, hidden=(8,)), DISCRETE, 2), 2)
    trainer.update([0, 1])
    trainer.reset_moments(0)
    for name in ("adam_m", "adam_v", "adam_steps"):
        assert not trainer.state[name][0].any()
        assert trainer.state[name][1].any()


def test_a_view_of_the_parameters_cannot_be_written():
    trainer = quadratic()
    with pytest.raises(ValueError, match="read-only"):
        trainer.read(0)[0] = 1.0


def test_rows_start_on_64_bytes():
    trainer = Trainer(stack(PPO(), DISCRETE, 3), 3)
    for array in (
        trainer.parameters,
        *(trainer.state[name] for name in trainer.stack.traits.moments),
    ):
        assert all(row.ctypes.data % 64 == 0 for row in array)
