"""A process goes on from checkpoints only where they hold everything that its rules remember."""

from pathlib import Path

import pytest

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.laws.runs import text
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.simulated import refuse_resuming


def test_plain_averaging_is_resumed():
    refuse_resuming(loads(text(4, 3)), Path("runs/a"))


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"mixing": {"kind": "push_sum"}}, "mixing 'push_sum'"),
        ({"mixing": {"kind": "extra"}}, "mixing 'extra'"),
        (
            {"compressor": {"kind": "difference", "compressor": {"kind": "qsgd"}}},
            "compressor 'difference'",
        ),
    ],
)
def test_what_remembers_more_than_a_checkpoint_holds_is_not(tables, named):
    with pytest.raises(P2PFRLError, match="cannot be resumed") as caught:
        refuse_resuming(loads(text(4, 3, **tables)), Path("runs/a"))
    assert named in str(caught.value)
    assert str(caught.value).startswith("runs/a: ")
