"""A process goes on from its checkpoints where its rules stand the messages that it missed."""

from pathlib import Path

import pytest

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.laws.runs import text
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.resuming import refuse_resuming

DIFFERENCE = {"kind": "difference", "compressor": {"kind": "qsgd"}}


@pytest.mark.parametrize(
    "tables", [{}, {"mixing": {"kind": "push_sum"}}, {"compressor": DIFFERENCE}], ids=str
)
def test_rules_that_stand_a_lost_message_are_resumed(tables):
    refuse_resuming(loads(text(4, 3, **tables)), Path("runs/a"))


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"mixing": {"kind": "extra"}}, "mixing 'extra'"),
        ({"mixing": {"kind": "gradient_tracking"}}, "mixing 'gradient_tracking'"),
    ],
)
def test_rules_that_need_every_message_are_not(tables, named):
    with pytest.raises(P2PFRLError, match="cannot be resumed") as caught:
        refuse_resuming(loads(text(4, 3, **tables)), Path("runs/a"))
    assert named in str(caught.value)
    assert str(caught.value).startswith("runs/a: ")
