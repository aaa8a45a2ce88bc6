"""A start from saved parameters: tensors that match by name and shape replace the learner's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.saved import Saved
from p2pfrl.core.wording import did_you_mean, show
from p2pfrl.learning.grouped import PART as GROUP
from p2pfrl.learning.learners.base import Stack, Wrapped
from p2pfrl.learning.personal.base import PART as PERSONAL

Models = Literal["own", "mean"]

UNWANTED = "not in start.parts"
"""Why a tensor is not taken that the scenario did not ask for."""
_OF_GROUP = re.compile(rf"{GROUP}\d+")


@dataclass(frozen=True)
class Match:
    """What a layout takes from saved parameters.

    Attributes:
        saved: k, the number of saved models.
        models: "own": agent i starts from model i; "mean": every agent from the mean of all.
        taken: name of each tensor that is taken -> the name it has there.
        usual: name of each tensor that starts as usual -> why.
    """

    saved: int
    models: Models
    taken: Mapping[str, str]
    usual: Mapping[str, str]

    @property
    def record(self) -> dict[str, object]:
        """What the summary of a run says of it."""
        return {
            "models": self.models,
            "saved": self.saved,
            "taken": list(self.taken),
            "usual": dict(self.usual),
        }


def match(
    layout: Layout,
    saved: Saved,
    agents: int,
    *,
    models: Models | None = None,
    parts: Sequence[str] | None = None,
) -> Match:
    """Return what `agents` agents of a layout take from saved parameters.

    A personal tensor that was not saved is taken from the shared one that it belongs to: both
    models of an agent begin at one point. A tensor that only one group of agents has is taken
    where agent i starts from model i.

    Args:
        layout: of one agent's parameters.
        saved: by name of the tensor.
        agents: number of agents n.
        models: whether agent i starts from model i or from the mean. By default it is the first
            where there are n models, else the second.
        parts: parts of the layout that are taken; None: all.

    Raises:
        ScenarioError: there are no n models, there is no such part, or nothing matches.
    """
    k = len(next(iter(saved.values()), ()))
    if models == "own" and k != agents:
        fix = 'give models = "mean", or leave it out'
        raise ScenarioError([f"start.models: {k} models were saved for {agents} agents; {fix}"])
    for part in parts or ():
        if part not in layout.parts:
            hint = did_you_mean(part, layout.parts)
            raise ScenarioError([f"start.parts: the parameters have no part {part!r}{hint}"])
    chosen: Models = models or ("own" if k == agents else "mean")
    taken, usual = dict[str, str](), dict[str, str]()
    for tensor in layout.tensors:
        if parts is not None and tensor.part not in parts:
            usual[tensor.name] = UNWANTED
            continue
        name = tensor.name
        if name not in saved:
            name = name.removeprefix(f"{PERSONAL}.")
        reason = _misfit(tensor, saved.get(name), chosen)
        if reason:
            usual[tensor.name] = reason
        else:
            taken[tensor.name] = name
    if not taken:
        raise ScenarioError([f"start: nothing matches by name and shape: {_reasons(usual, saved)}"])
    return Match(k, chosen, taken, usual)


def _misfit(tensor: Tensor, values: NDArray[Any] | None, models: Models) -> str:
    """Return why a tensor is not taken, or ""."""
    if values is None:
        return "not saved"
    if values.shape[1:] != tensor.shape:
        return f"has shape {list(tensor.shape)}, saved {list(values.shape[1:])}"
    if models == "mean" and _OF_GROUP.fullmatch(tensor.part):
        return "belongs to one group of agents, and the mean is over all"
    return ""


_MOST = 4


def _reasons(usual: Mapping[str, str], saved: Saved) -> str:
    """Return why nothing is taken, in words."""
    shown = [f"{name} {reason}" for name, reason in [*usual.items()][:_MOST]]
    more = [f"and {len(usual) - _MOST} more"] if len(usual) > _MOST else []
    names = [show(name) for name in [*saved][:_MOST]]
    has = f"; saved are {', '.join(names)}{' and others' if len(saved) > _MOST else ''}"
    return "; ".join([*shown, *more]) + (has if saved else "; no tensor was saved")


def usual_in_words(usual: Mapping[str, str]) -> str:
    """Return the tensors that start as usual, at most a few, each with its reason."""
    shown = [f"{name} ({reason})" for name, reason in [*usual.items()][:_MOST]]
    more = [f"{len(usual) - _MOST} more"] if len(usual) > _MOST else []
    return ", ".join([*shown, *more])


class Started(Wrapped):
    """A learner that starts from saved parameters.

    A coordinator's first model is the mean of the saved ones, whatever the agents start from.

    Args:
        inner: the learner.
        saved: by name of the tensor, `(k, *shape)`.
        found: what is taken, from `match`.

    Raises:
        ScenarioError: the learner computes its parameters from what it remembers beside them, or
            a number is not finite, or not as one of the parameters.
    """

    def __init__(self, inner: Stack, saved: Saved, found: Match) -> None:
        super().__init__(inner)
        self._places: list[tuple[slice, NDArray[Any], NDArray[Any]]] = []
        self._models = found.models
        if inner.traits.only_payload is not None:
            what = f"sends {inner.traits.only_payload!r} and computes its parameters from that"
            raise ScenarioError([f"start: this learner {what}: saved ones would not last"])
        layout = inner.layout
        for tensor, offset in zip(layout.tensors, layout.offsets, strict=True):
            if tensor.name not in found.taken:
                continue
            name = found.taken[tensor.name]
            values = saved[name].reshape(found.saved, -1)
            if not np.isfinite(values).all():
                raise ScenarioError([f"start: {name} is not finite"])
            with np.errstate(over="ignore"):
                own = values.astype(layout.dtype)
            if not np.isfinite(own).all():
                raise ScenarioError(
                    [f"start: {name} has values that are too large for {own.dtype} parameters"]
                )
            mean = values.mean(axis=0, dtype=np.float64).astype(layout.dtype)
            self._places.append((slice(offset, offset + tensor.size), own, mean))

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        rows = self.inner.start(agents, same=same)
        for at, own, mean in self._places:
            rows[:, at] = own[list(agents)] if self._models == "own" else mean
        return rows

    @override
    def common_start(self) -> Vector:
        row = self.inner.common_start()
        for at, _, mean in self._places:
            row[:, at] = mean
        return row
