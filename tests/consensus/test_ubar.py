"""UBAR tries out what its nearest neighbors sent."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl import ScenarioError
from p2pfrl.consensus import topologies
from p2pfrl.consensus.mixing.ubar import Ubar
from p2pfrl.core.contract import turn_of
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.turn import NoMemory
from p2pfrl.scenario import loads
from p2pfrl.scenario.bind import learning


class Tries(NoMemory):
    """Gives each vector the return -|x - 5| and notes the episodes that were asked for."""

    def __init__(self):
        self.asked = []

    def try_out(self, vectors, episodes, index):
        self.asked.append((len(vectors), episodes, index))
        return [-abs(float(vector[0]) - 5.0) for vector in vectors]


def mix(rule, own, others):
    turn = turn_of(0, np.array([own]), np.array([own]), round=3)
    turn.memory = Tries()
    received = {i + 1: np.array([value]) for i, value in enumerate(others)}
    row = dict.fromkeys(range(len(others) + 1), 1.0 / (len(others) + 1))
    return float(rule.mix(turn, received, row, ())[0][0]), turn.memory.asked


def test_the_nearest_are_tried_and_those_that_do_as_well_count():
    out, asked = mix(Ubar(byzantine=1), 3.0, [4.0, 2.0, 6.0, 1000.0])
    assert out == pytest.approx(0.5 * 3.0 + 0.5 * (4.0 + 6.0) / 2)
    assert asked == [(4, 1, 1_000_003)]
    out, asked = mix(Ubar(byzantine=2, share=0.0, episodes=7), 3.0, [4.0, 2.0, 6.0, 1000.0])
    assert out == pytest.approx(4.0)
    assert asked[0][:2] == (3, 7)


def test_the_best_counts_if_all_do_worse():
    out, _ = mix(Ubar(byzantine=1, share=0.0), 5.0, [5.5, 4.0, 99.0])
    assert out == pytest.approx(5.5)


def test_an_agent_that_hears_nobody_stays():
    assert mix(Ubar(), 5.0, [])[0] == 5.0


def test_too_few_neighbors_are_refused():
    ring = topologies.RULES["ring"]().at(8, 0, 0)
    Ubar(byzantine=1).check(ring)
    assert Ubar().tolerated(2) == 1
    with pytest.raises(TopologyError, match=r"b \+ 1 = 3 neighbors .* receives from 2"):
        Ubar(byzantine=2).check(ring)


SCENARIO = """
name = "tries"
agents = 4
stop = {{rounds = 2}}
{more}
topology = {{kind = "complete"}}
mixing = {{kind = "ubar", byzantine = {byzantine}}}
"""
CARTS = """
environment = {id = "CartPole-v1", instances = 1, max_steps = 20}
learner = {kind = "reinforce", hidden = [2], steps = 16, lr = 0.1}
evaluation = {episodes = 0}
"""


def test_agents_try_out_policies_in_their_own_environment():
    runs = [p2pfrl.run(loads(SCENARIO.format(more=CARTS, byzantine=b))) for b in (0, 0, 2)]
    assert runs[0].summary["digest"] == runs[1].summary["digest"]
    assert not np.array_equal(runs[0].parameters, runs[2].parameters)
    assert runs[0].summary["env_steps"] == 4 * 2 * 16


@pytest.mark.parametrize(("mode", "simulators"), [("gossip", 2), ("central", 1)])
def test_agents_that_do_not_mix_have_no_environment_to_try_out_in(mode, simulators):
    more = f"{CARTS}mode = '{mode}'"
    assert len(learning(loads(SCENARIO.format(more=more, byzantine=1))).simulators) == simulators


def test_learners_without_episodes_are_refused():
    with pytest.raises(ScenarioError, match="ubar"):
        loads(SCENARIO.format(more='learner = {kind = "quadratic"}', byzantine=1))
