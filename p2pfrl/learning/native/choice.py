"""The choice of the engine: for what the native one has code, and whether it is here."""

from __future__ import annotations

from p2pfrl.learning.descent import Plan
from p2pfrl.learning.distillation import Distillation
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.native.compiler import EngineError
from p2pfrl.learning.native.library import MAX_LAYERS, library
from p2pfrl.learning.networks import Network
from p2pfrl.learning.optimizers import SGD, Adam, Keep, Optimizer, RMSprop
from p2pfrl.learning.policies import Categorical, Categoricals, Gaussian, Policy


def is_chosen(
    network: Network,
    policy: Policy,
    optimizer: Optimizer,
    plan: Plan,
    task: Task,
    distillation: Distillation | None,
) -> bool:
    """Whether the native engine computes: if the task says so or, with "auto", if it can."""
    if task.engine != "auto":
        return task.engine == "native"
    if lacking(network, policy, optimizer, plan, task, distillation) is not None:
        return False
    return missing() is None


def missing() -> str | None:
    """Return why there is no native engine here; None: there is one."""
    try:
        library()
    except EngineError as error:
        return str(error)
    return None


def lacking(
    network: Network,
    policy: Policy,
    optimizer: Optimizer,
    plan: Plan,
    task: Task,
    distillation: Distillation | None,
) -> str | None:
    """Return for what the engine has no code, in words; None: it has all that is needed."""
    layers = max((len(chain.layers) for chain in network.chains), default=0)
    known = (Categorical, Categoricals, Gaussian)
    if plan.formula is None:
        return "the loss of this learner"
    if type(network) is not Network or plan.image is not None or plan.sequences:
        return "networks other than dense layers"
    if network.layout.dtype != "float32":
        return "numbers other than float32"
    if layers > MAX_LAYERS:
        return f"{layers} layers, {MAX_LAYERS} is the most"
    if not isinstance(policy, known) or not isinstance(optimizer, (Adam, RMSprop, SGD, Keep)):
        return f"{type(policy).__name__} or {type(optimizer).__name__}"
    if task.correction.guided_by is not None:
        return "corrections by a guide"
    if distillation is not None:
        return "distillation"
    return None
