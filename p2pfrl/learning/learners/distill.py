"""Options of distillation: how a learner uses what payload "logits" brings."""

from __future__ import annotations

from pydantic import Field

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Task

LOGITS = "logits"


@rule
class Distill:
    """Adds coef T^2 mean_s KL(target(.|s) || pi_T(.|s)) over public states s to the loss.

    Here pi_T = softmax(outputs / T).

    Attributes:
        coef: weight in the loss.
        states: public states of an environment without tables; with tables every state is one.
        temperature: T; a Q network needs one that fits the size of its values.

    Reference: the loss of Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network",
        2015, arXiv 1503.02531.
    """

    coef: float = Field(default=1.0, ge=0)
    states: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, gt=0)


def check_payload(task: Task, option: str, given: object, default: object, payload: str) -> None:
    """Refuse an option that only another payload reads.

    Raises:
        ScenarioError: `given` is not the default, and the run's payload is not `payload`.
    """
    if given != default and task.offer != payload:
        raise ScenarioError([f'learner.{option}: needs exchange.payload = "{payload}"'])
