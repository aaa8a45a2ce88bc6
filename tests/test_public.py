"""The public surface: the names that a user's own code needs.

They are light to import, documented and typed.
"""

import inspect
import json
import subprocess
import sys

import pytest

import p2pfrl

NAMES = [
    "Aggregator",
    "Arrived",
    "Batch",
    "Compressor",
    "ContractError",
    "Correction",
    "Encoded",
    "Environment",
    "Evaluator",
    "Exchange",
    "Gate",
    "Graph",
    "Layout",
    "Learner",
    "Local",
    "LocalLearner",
    "Message",
    "Mixing",
    "Need",
    "Objective",
    "OptimizerArray",
    "Outcome",
    "P2PFRLError",
    "Participation",
    "Payload",
    "Personal",
    "PooledTraining",
    "Privacy",
    "Record",
    "SB3",
    "Scenario",
    "ScenarioError",
    "ScenarioWarning",
    "ScheduleRule",
    "ServerOptimizer",
    "SharedEnvironment",
    "Spec",
    "Stack",
    "Standing",
    "Task",
    "Tensor",
    "Topology",
    "Traits",
    "Turn",
    "Vector",
    "__version__",
    "check_aggregator",
    "check_compressor",
    "check_environment",
    "check_gate",
    "check_learner",
    "check_mixing",
    "check_participation",
    "check_payload",
    "check_server_optimizer",
    "check_topology",
    "compare",
    "generator",
    "load",
    "load_record",
    "load_table",
    "loads",
    "resume",
    "rule",
    "run",
    "sweep",
    "verify",
]


def test_the_list_of_public_names_is_pinned():
    assert sorted(p2pfrl.__all__) == sorted(NAMES)
    assert dir(p2pfrl) == sorted(p2pfrl.__all__)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("__version__", "Vector")])
def test_a_public_name_is_there_and_says_what_it_is(name):
    value = getattr(p2pfrl, name)
    assert inspect.getdoc(value)
    assert value.__module__.startswith("p2pfrl.")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'chek_mixing'"):
        _ = p2pfrl.chek_mixing


def test_importing_the_package_imports_nothing_heavy():
    program = """
import json, sys
import p2pfrl
heavy = ("torch", "gymnasium", "matplotlib", "scipy", "networkx", "numpy", "pydantic")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(done.stdout) == []
