"""Experience sharing: transitions travel in place of parameters, in messages of one size.

Agents learn from them.
"""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.modes.pooled import Upload
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.types import TRANSITIONS
from p2pfrl.exchange.payloads import RULES
from p2pfrl.scenario import loads

TEXT = """
name = "x"
agents = 4
mode = "{mode}"
[stop]
rounds = 6
[environment]
id = "CartPole-v1"
[learner]
kind = "dqn"
hidden = [16]
learn_start = 100
{learner}
[exchange]
payload = "{payload}"
[topology]
kind = "ring"
{more}
"""


def text(mode="gossip", payload="transitions", learner="", more=""):
    return TEXT.format(mode=mode, payload=payload, learner=learner, more=more)


@pytest.mark.parametrize("count", [1, 32])
@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
def test_messages_hold_so_many_transitions_and_no_parameters(count, schedule):
    more = f'[schedule]\nkind = "{schedule}"'
    record = p2pfrl.run(loads(text(learner=f"share = {{count = {count}}}", more=more)))
    per_message = record.summary["bytes_sent"] / record.summary["messages_sent"]
    assert count * 11 * 4 < per_message < count * 11 * 4 + 260
    assert record.summary["env_steps"] >= 4 * 6 * 64


def test_agents_learn_from_it_and_keep_their_own_parameters():
    shared, alone = (p2pfrl.run(loads(text(mode))) for mode in ("gossip", "independent"))
    assert not np.array_equal(shared.parameters, alone.parameters)
    assert not np.array_equal(shared.parameters[0], shared.parameters[1])
    assert alone.summary["bytes_sent"] == 0


def test_it_says_that_it_is_raw_experience_as_pooled_training_does():
    assert {name for name, rule in RULES.items() if rule.reveals_experience} == {"transitions"}
    assert Upload.reveals_experience
    assert RULES["transitions"]().parts(("actor",)) == Upload().parts(("actor",)) == (TRANSITIONS,)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mode": "central"}, "pooled"),
        ({"learner": "share = {count = 5000}"}, "transitions"),
        ({"payload": "parameters", "learner": "share = {count = 3}"}, 'payload = "transitions"'),
        (
            {"more": '[compressor]\nkind = "quantize"'},
            "'transitions' needs numbers that arrive exactly as they were sent",
        ),
        ({"learner": 'moments = "reset"'}, "moments"),
    ],
)
def test_what_means_nothing_is_refused(options, reason):
    with pytest.raises(ScenarioError, match=reason):
        loads(text(**options))


def test_learners_without_a_buffer_are_refused():
    with pytest.raises(ScenarioError, match="no transitions to send"):
        loads(text().replace('kind = "dqn"', 'kind = "ppo"').replace("learn_start = 100", ""))
