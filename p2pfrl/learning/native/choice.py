"""The choice of the engine: for what the native one has code, and whether it is here."""

from __future__ import annotations

from collections.abc import Sequence

from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.actor_critics import ActorCritics
from p2pfrl.learning.descent import Plan
from p2pfrl.learning.distillation import Distillation
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.native.compiler import EngineError
from p2pfrl.learning.native.library import MAX_LAYERS, Layers, Net, library, orthogonal
from p2pfrl.learning.native.optimizers import KNOWN, NativeOptimizer
from p2pfrl.learning.networks import ACTIVATIONS, Network
from p2pfrl.learning.optimizers import Adam, Optimizer
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


def native_layers(
    network: Network, optimizer: Optimizer, task: Task, max_norm: float
) -> NativeOptimizer | None:
    """Let the native engine compute the layers of a network whose loss is computed elsewhere.

    Returns:
        the native form of the optimizer, which clips gradients, too; None: torch computes.

    Raises:
        ScenarioError: the task names the native engine, which has no code or is not here.
    """
    if task.engine == "torch":
        return None
    what = lacking_layers(network)
    why = missing() if what is None else None
    if what is None and why is None:
        network.layers = Layers(library(), net_of(network))
        network.orthogonal = orthogonal
        return NativeOptimizer(optimizer, max_norm)
    if task.engine == "auto":
        return None
    raise refusal(what, why)


def native_members(
    network: ActorCritics, optimizers: Sequence[Adam], task: Task
) -> list[Optimizer]:
    """Let the native engine compute the layers of an actor and its critics.

    Returns:
        the optimizers in their native form, or as they are where torch computes.

    Raises:
        ScenarioError: the task names the native engine, which has no code or is not here.
    """
    if task.engine == "torch":
        return [*optimizers]
    what, why = None, missing()
    if network.own is not None:
        if task.engine == "auto":
            return [*optimizers]
        raise refusal("networks other than dense layers", None)
    members = network.members
    most = max(len(chain) for member in members for chain in member.chains())
    if most > MAX_LAYERS:
        what = f"{most} layers, {MAX_LAYERS} is the most"
    if what is None and why is None:
        for member in members:
            chains = member.chains()
            inputs, relu = chains[0][0][2], network.activation == "relu"
            net = Net(network.layout.stride, inputs, relu, has_critic=False, chains=chains)
            member.native = Layers(library(), net)
        return [NativeOptimizer(optimizer) for optimizer in optimizers]
    if task.engine == "auto":
        return [*optimizers]
    raise refusal(what, why)


def refusal(what: str | None, why: str | None) -> ScenarioError:
    """Return the error of a task that names the native engine: no code for `what`, or why not."""
    reason = f"'native' has no code for {what}; choose 'torch'"
    if what is None:
        reason = f"'native' cannot be used here: {why}; install gcc or clang, or choose 'torch'"
    return ScenarioError([f"compute.engine: {reason}"])


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
    known = (Categorical, Categoricals, Gaussian)
    if plan.formula is None:
        return "the loss of this learner"
    if (what := lacking_layers(network)) is not None:
        return what
    if not isinstance(policy, known) or not isinstance(optimizer, KNOWN):
        return f"{type(policy).__name__} or {type(optimizer).__name__}"
    return None


def lacking_layers(network: Network) -> str | None:
    """Return for what part of a network the engine has no code; None: it has all."""
    layers = max((len(chain.layers) for chain in network.chains), default=0)
    if type(network) is not Network or network.encodes:
        return "networks other than dense layers"
    if network.layout.dtype != "float32":
        return "numbers other than float32"
    if layers > MAX_LAYERS:
        return f"{layers} layers, {MAX_LAYERS} is the most"
    return None


def net_of(network: Network) -> Net:
    """Return the sizes and places of a network's layers."""
    return Net(
        network.layout.stride,
        network.inputs,
        relu=network.activation == ACTIVATIONS["relu"],
        has_critic=network.has_critic,
        chains=[
            [(layer.weight, layer.bias, layer.inputs, layer.outputs) for layer in chain.layers]
            for chain in network.chains
        ],
    )
