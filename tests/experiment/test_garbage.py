"""The garbage collector runs more rarely during a run, and as before when it is over."""

import gc

import pytest

from p2pfrl.experiment.run import fewer_collections


def test_a_run_leaves_the_collector_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> int:
        raise AssertionError("who asks, freezes or unfreezes takes longer than a small run")

    for name in ("freeze", "unfreeze", "get_freeze_count"):
        monkeypatch.setattr(gc, name, asked)
    thresholds = gc.get_threshold()
    with fewer_collections():
        assert gc.get_threshold() != thresholds
    assert gc.get_threshold() == thresholds


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
