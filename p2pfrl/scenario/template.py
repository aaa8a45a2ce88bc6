"""Template of a first scenario file, with comments."""

from __future__ import annotations

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.wording import show
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import NAME

_TEXT = """\
# Describe the experiment here.
name = "{name}"
seed = 1                     # determines all random numbers
agents = 8
mode = "gossip"              # {modes}

[stop]                       # the first condition that holds ends the run
rounds = 60
target_return = 475.0        # mean over agents; remove it to run all rounds

[environment]                # `p2pfrl list environments`, or any Gymnasium id
id = "CartPole-v1"
instances = 4                # parallel copies per agent
# [environment.vary]         # heterogeneous agents: a value for each
# gravity = {{kind = "uniform", low = 8.0, high = 12.0}}

[learner]                    # `p2pfrl list learners`; the options of each are in `p2pfrl schema`
kind = "ppo"
same_start = true            # all agents start with the same parameters

[schedule]
kind = "synchronous"         # or asynchronous: agents do not wait
every = 1                    # local updates per exchange

[topology]                   # `p2pfrl list topologies`
kind = "ring"

[mixing]                     # `p2pfrl list mixing`
kind = "metropolis"

[network]
latency = {{kind = "lognormal", median = "20ms", sigma = 0.5}}
bandwidth = "100Mbit/s"      # of each agent's interface
loss = 0.0

[compute]
seconds_per_env_step = 1e-4  # virtual time of local work
speed = 1.0                  # or a list, or {{kind = "lognormal", sigma = 0.5}}: 2.0 is twice as fast

[evaluation]                 # greedy, apart from training
every = 10
episodes = 10

# [[faults]]                 # `p2pfrl list faults`
# at = "2s"
# kind = "crash"
# agents = [3]
"""


def new(name: str) -> str:
    """Return a scenario file with comments.

    Raises:
        ScenarioError: `name` is not valid as the name of a run directory.
    """
    if not NAME.fullmatch(name):
        raise ScenarioError(
            [
                f"name: expected 1 to 64 letters a-z and A-Z, digits, dots, hyphens and underscores, got {show(name)}"
            ]
        )
    return _TEXT.format(name=name, modes=" | ".join(MODES))
