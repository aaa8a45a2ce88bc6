"""The garbage collector runs more rarely during a run, and as before when it is over."""

import gc

import pytest

from p2pfrl.experiment.run import fewer_collections


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_run_leaves_the_collector_as_it_was(is_frozen: bool) -> None:
    was = gc.get_freeze_count()
    thresholds = gc.get_threshold()
    try:
        gc.unfreeze()
        if is_frozen:
            gc.freeze()
        count = gc.get_freeze_count()
        with fewer_collections():
            assert gc.get_freeze_count() == count
            assert gc.get_threshold() != thresholds
        assert gc.get_threshold() == thresholds
        assert (gc.get_freeze_count() > 0) == is_frozen == (count > 0)
    finally:
        if was:
            gc.freeze()


def test_the_garbage_of_earlier_runs_is_collected() -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            self.self = self
            Node.alive += 1

        def __del__(self) -> None:
            Node.alive -= 1

    for _ in range(3):
        Node()
        with fewer_collections():
            assert Node.alive == 0
