"""Neighbors are computed in their rows of the state arrays, and nobody can tell."""

from dataclasses import replace

import numpy as np
import pytest
from learner_worlds import DISCRETE, stack
from typing_extensions import override

from p2pfrl.core.errors import AgentError
from p2pfrl.learning.executors import InThisThread
from p2pfrl.learning.learners.base import Batch, Outcome, Stack, State
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.trainer import Trainer

N = 5
_PPO = PPO(steps=4, hidden=(4,), num_minibatches=1, update_epochs=1)


class Copying(InThisThread):
    """Computes copies, as if it were elsewhere."""

    is_here = False


class Plain(Stack):
    """Counts updates: `a <- a + 1`, `b <- a`; the rest is what a test lets it be."""

    def __init__(self) -> None:
        self.traits = replace(stack(_PPO, DISCRETE, N).traits, chunk=3, moments=(), counts=())
        self.in_place: list[bool] = []
        self.known: State = {}
        self.breaks: int | None = None

    @override
    def start(self, agents, *, same):
        return self.layout.zeros(len(agents))

    @override
    def init(self, agents):
        return self.known | {name: np.zeros((len(agents), 2)) for name in ("a", "b")}

    @override
    def update(self, batch: Batch) -> Outcome:
        batch.state["a"] += 1
        if self.breaks in batch.agents:
            raise AgentError(self.breaks, "broke")
        counts = batch.state["a"][:, 0]
        batch.parameters[:] += 1
        return Outcome(
            batch.parameters,
            {"a": batch.state["b"] + batch.state["a"], "b": batch.state["a"]},
            np.ones(len(counts), dtype=np.int64),
            np.zeros(len(counts)),
            [()] * len(counts),
            {"count": counts},
        )


def plain(*, copies: bool = False) -> Trainer:
    """Return agents whose learner returns the rows of one array for those of another."""
    learner = Plain()
    return Trainer(learner, N, executor=Copying(learner.update) if copies else None)


def ppo(*, copies: bool = False) -> Trainer:
    learner = stack(_PPO, DISCRETE, N)
    learner.traits = replace(learner.traits, chunk=3)
    return Trainer(learner, N, executor=Copying(learner.update) if copies else None)


def same(a: Trainer, b: Trainer) -> bool:
    """Return whether all agents of two trainers have the same values."""
    pairs = [(a.parameters, b.parameters), (a.index, b.index)]
    pairs += [(values, b.state[name]) for name, values in a.state.items()]
    return all(np.array_equal(one, other) for one, other in pairs)


def operate(trainer: Trainer, rng: np.random.Generator, saved: dict) -> object:
    """Do something that a run may do at any time; return what is seen of it."""
    agent, what = int(rng.integers(N)), int(rng.integers(12))
    is_pending = agent in trainer._pending
    if what <= 3:
        for other in range(agent + 1):
            if other not in trainer._pending:
                trainer.freeze(other)
    elif what == 4:
        trainer.compute()
    elif what <= 6:
        done = [a for a in sorted(trainer._pending) if rng.random() < 0.8]
        return [trainer.commit(a) for a in done]
    elif what == 7 and is_pending:
        trainer.cancel(agent)
    elif what == 8:
        trainer.write(agent, rng.standard_normal(trainer.stack.layout.size).astype(np.float32))
    elif what == 9:
        name = sorted(trainer.state if rng.random() < 0.5 else trainer._state)[0]
        trainer.entry(agent, name)[...] = 0
        return trainer.values(agent, name).copy()
    elif what == 10:
        saved[agent] = trainer.snapshot(agent)
        with trainer.ahead(agent):
            return trainer.read(agent).copy(), trainer.snapshot(agent).state
    elif agent in saved:
        trainer.restore(agent, saved.pop(agent))
    return None


@pytest.mark.parametrize("made", [plain, ppo])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_meanwhile_it_is_as_if_copies_were_computed(made, seed):
    here, copies = made(), made(copies=True)
    memories: list[dict] = [{}, {}]
    draws = [np.random.default_rng(seed) for _ in range(2)]
    for _ in range(80):
        found = [
            operate(trainer, rng, saved)
            for trainer, rng, saved in zip((here, copies), draws, memories, strict=True)
        ]
        assert repr(found[0]) == repr(found[1])
        assert np.array_equal(here.parameters, copies.parameters)
    assert here.index.sum() > N
    assert same(here, copies)


@pytest.mark.parametrize("made", [plain, ppo])
def test_state_shows_what_has_ended_and_nothing_else(made):
    trainer, before, after = made(), made(), made()
    for each in (trainer, before, after):
        each.update(range(N))
    after.update(range(N))
    for agent in range(N):
        trainer.freeze(agent)
    trainer.compute()
    assert trainer._in_place
    trainer.commit(1)
    for name, values in trainer.state.items():
        expected = before.state[name].copy()
        expected[1] = after.state[name][1]
        assert np.array_equal(values, expected)
    assert not trainer._in_place
    for agent in (0, 2, 3, 4):
        trainer.commit(agent)
    assert same(trainer, after)


def test_only_what_is_asked_for_is_put_back():
    trainer = ppo()
    for agent in range(N):
        trainer.freeze(agent)
    trainer.compute()
    trainer.commit(0)
    trainer.entry(0, "adam_m")[...] = 7
    trainer.snapshot(0)
    assert len(trainer._in_place) == 2
    trainer.snapshot(1)
    assert len(trainer._in_place) == 1


def test_measures_that_share_memory_with_state_stay():
    trainer = plain()
    trainer.freeze(0)
    trainer.compute()
    assert not trainer.state["a"].any()
    assert trainer.commit(0).measures == {"count": 1.0}


def test_an_error_leaves_no_trace():
    trainer, other = plain(), plain(copies=True)
    for agent in range(N):
        trainer.freeze(agent)
    trainer.stack.breaks = 4  # of the second chunk
    with pytest.raises(AgentError, match="broke"):
        trainer.compute()
    trainer.cancel(4)
    assert same(trainer, other)
    trainer.stack.breaks = None
    trainer.compute()
    for agent in range(4):
        trainer.commit(agent)
    other.update(range(4))
    assert same(trainer, other)


def test_an_update_that_is_not_finite_leaves_no_trace():
    trainer, other = ppo(), ppo(copies=True)
    trainer.write(1, np.full(trainer.stack.layout.size, 1e38, dtype=np.float32))
    for agent in range(N):
        trainer.freeze(agent)
    trainer.write(1, other.stack.layout.pack(other.read(1)))
    with pytest.raises(AgentError, match="not finite"):
        trainer.compute()
    assert same(trainer, other)
    trainer.cancel(1)
    trainer.compute()
    for agent in (0, 2, 3, 4):
        trainer.commit(agent)
    other.update([0, 2, 3, 4])
    assert same(trainer, other)


def test_updates_under_way_are_saved():
    trainer, other = ppo(), ppo()
    trainer.update(range(N))
    for agent in range(N):
        trainer.freeze(agent)
    trainer.compute()
    trainer.commit(3)
    other.load(trainer.save())
    for agent in (0, 1, 2, 4):
        assert repr(trainer.commit(agent)) == repr(other.commit(agent))
    assert same(trainer, other)


def test_agents_that_are_no_neighbors_or_whose_update_another_thread_computes_get_copies():
    for agents, overlaps, expected in (((1, 2), True, 1), ((1, 3), True, 0), ((1, 2), False, 0)):
        trainer = ppo()
        trainer.overlaps = overlaps
        for agent in agents:
            trainer.freeze(agent)
        trainer.compute()
        assert len(trainer._in_place) == expected
