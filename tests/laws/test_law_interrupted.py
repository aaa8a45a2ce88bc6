"""A law whose run is interrupted says nothing, and does not fail."""

import os
import signal

import pytest

from p2pfrl.laws.runs import play, play_tables
from p2pfrl.simulator.digest import Log


@pytest.mark.parametrize(
    "played", [play, lambda n, rounds: play_tables(n, rounds, {}, mode="gossip")]
)
def test_an_interrupted_run_of_a_law_is_an_interrupt(played, monkeypatch):
    extend = Log.extend

    def interrupted(self, events):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        extend(self, events)

    monkeypatch.setattr(Log, "extend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        played(3, 50)
