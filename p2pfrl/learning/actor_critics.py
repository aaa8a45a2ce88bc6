"""An actor and two critics of state and action, of a population of b agents.

Arrays are stored features first, as in `networks`: observations `(b, o, B)`, actions `(b, a, B)`.
The backward passes are written here, because the actor's gradient passes through the critics to the
action and not to their weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from p2pfrl.core.parameters import Layout, Tensor, Vector, aligned_zeros
from p2pfrl.learning.networks import ACTIVATIONS, Layers, Network
from p2pfrl.learning.normalization import Normalizer

TEMPERATURE = "temperature"
"""The part of the parameters that holds the logarithm of the temperature."""


@dataclass(frozen=True)
class _Layer:
    weight: int  # offsets within a row
    bias: int
    shape: tuple[int, int, int]  # members, outputs, inputs

    def views(self, rows: Vector) -> tuple[Vector, Vector]:
        """Return weights `(b, e, outputs, inputs)` and biases `(b, e, outputs, 1)` of e members."""
        e, outputs, inputs = self.shape
        weight = rows[:, self.weight : self.weight + e * outputs * inputs]
        bias = rows[:, self.bias : self.bias + e * outputs]
        return weight.reshape(len(rows), *self.shape), bias.reshape(len(rows), e, outputs, 1)


class _Members:
    """Networks of one shape, side by side: e outputs `(b, e, out, B)` of one input `(b, in, B)`.

    Args:
        layers: the last of which is linear.
        activation: of the others, in `ACTIVATIONS`.

    Attributes:
        native: computes the layers in place of numpy; None: nothing does.
    """

    def __init__(self, layers: Sequence[_Layer], activation: str) -> None:
        self.native: Layers | None = None
        self._layers = tuple(layers)
        self._activation = ACTIVATIONS[activation]
        self._scratch: dict[tuple[str, int], Vector] = {}

    def forward(self, rows: Vector, x: Vector) -> Vector:
        """Return the outputs, a new array; `backward` reads what is kept until the next call."""
        if self.native is not None:
            shape = (len(rows), *self._layers[-1].shape[:2], x.shape[2])
            return self.native.forward(rows, x).reshape(shape)
        h = x[:, None]
        for depth, layer in enumerate(self._layers):
            weight, bias = layer.views(rows)
            shape = (len(rows), *layer.shape[:2], x.shape[2])
            is_last = depth == len(self._layers) - 1
            y = np.empty(shape, rows.dtype) if is_last else self._buffer("h", depth, shape)
            np.matmul(weight, h, out=y)
            y += bias
            if not is_last:
                self._activation.function(y)
            h = y
        return h

    def backward(
        self, rows: Vector, x: Vector, slope: Vector, gradient: Vector | None, inputs: int = 0
    ) -> Vector:
        """Return the gradient in the last `inputs` features of the last `forward`'s input.

        It can be called once after each `forward`.

        Args:
            rows: `(b, stride)` parameters.
            x: `(b, in, B)` what `forward` was given.
            slope: `(b, e, out, B)` gradient in the outputs.
            gradient: `(b, stride)`; that in weights and biases is written here. None: nowhere.
            inputs: features of the input whose gradient is wanted, the last ones.

        Returns:
            `(b, inputs, B)`, summed over the members.
        """
        if self.native is not None:
            joined = slope.reshape(len(rows), -1, x.shape[2])
            return self.native.backward(rows, joined, gradient, inputs)
        samples, ones = x.shape[2], np.ones((x.shape[2], 1), dtype=rows.dtype)
        for depth in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[depth]
            e, _, below = layer.shape
            shape = (len(rows), e, below, samples)
            h = self._buffer("h", depth - 1, shape) if depth else x[:, None]
            if gradient is not None:
                weight_gradient, bias_gradient = layer.views(gradient)
                np.matmul(slope, h.swapaxes(2, 3), out=weight_gradient)
                np.matmul(slope, ones, out=bias_gradient)
            weight = layer.views(rows)[0]
            if depth:
                under = self._buffer("under", depth, shape)
                np.matmul(weight.swapaxes(2, 3), slope, out=under)
                self._activation.derivative(h)
                under *= h
                slope = under
            elif inputs:
                wanted = weight[..., below - inputs :].swapaxes(2, 3)
                into: Vector = np.matmul(wanted, slope).sum(axis=1)
                return into
        return np.empty((len(rows), 0, samples), dtype=rows.dtype)

    def chains(self) -> list[list[tuple[int, int, int, int]]]:
        """Return places of weight and bias, inputs and outputs of every layer, of each member."""
        places = [(layer.weight, layer.bias, layer.shape) for layer in self._layers]
        return [
            [
                (weight + k * outputs * inputs, bias + k * outputs, inputs, outputs)
                for weight, bias, (_, outputs, inputs) in places
            ]
            for k in range(self._layers[0].shape[0])
        ]

    def _buffer(self, name: str, depth: int, shape: tuple[int, ...]) -> Vector:
        """Return scratch memory of `shape`, kept between calls because fresh pages cost more."""
        size = math.prod(shape)
        memory = self._scratch.get((name, depth))
        if memory is None or len(memory) < size:
            memory = self._scratch[name, depth] = aligned_zeros((size,), np.float32)
        return memory[:size].reshape(shape)


class _Own:
    """An actor that is a user's network, with the face of `_Members` of one member.

    Args:
        network: its tensors stand first in a row.
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    def forward(self, rows: Vector, x: Vector) -> Vector:
        out = np.empty((len(rows), self.network.outputs, x.shape[2]), dtype=rows.dtype)
        self.network.forward(rows, np.ascontiguousarray(x), out)
        return out[:, None]

    def backward(self, rows: Vector, x: Vector, slope: Vector, gradient: Vector) -> None:
        self.network.backward(rows, np.ascontiguousarray(x), slope[:, 0], gradient)


class ActorCritics:
    """The parts `actor`, `critic` (two networks) and, where it is learned, `temperature`.

    Attributes:
        layout: of the parameters.
        activation: of the hidden layers.
        own: the user's network, the actor; None: it has layers.
        actor, critics: what computes them.
        members: those of them that have layers.
        normalizer: scales observations; None: nothing does.
        actor_columns: columns of a row that hold the actor.
        critic_columns: those of the critics.
        temperature: column of the logarithm of the temperature; None: it is not learned.
        temperature_columns: those from the temperature to the critics; none without one.

    Args:
        observation: numbers of an observation, o.
        action: numbers of an action, a.
        outputs: of the actor.
        hidden: sizes of the hidden layers of each network.
        activation: of the hidden layers.
        temperature: whether a temperature is learned.
        normalizer: scales observations, by statistics in the parameters; None: nothing does.
        own: the user's network, the actor in place of layers; None: it has layers.
    """

    def __init__(
        self,
        observation: int,
        action: int,
        outputs: int,
        *,
        hidden: Sequence[int],
        activation: str,
        temperature: bool,
        normalizer: Normalizer | None = None,
        own: Network | None = None,
    ) -> None:
        self._action = action
        layers = _tensors("actor", [observation, *hidden, outputs], 1)
        actor = layers if own is None else _within("actor", own.layout)
        critic = _tensors("critic", [observation + action, *hidden, 1], 2)
        between = [Tensor(f"{TEMPERATURE}.log", (1,))] if temperature else []
        statistics = [] if normalizer is None else normalizer.tensors
        self.layout = Layout((*actor, *between, *critic, *statistics))
        self.normalizer = normalizer
        if normalizer is not None:
            normalizer.place(self.layout)
        offsets = dict(zip((t.name for t in self.layout.tensors), self.layout.offsets, strict=True))
        self._offsets = offsets
        first = offsets[critic[0].name]
        self.temperature = offsets[f"{TEMPERATURE}.log"] if temperature else None
        last = first if self.temperature is None else self.temperature
        self.actor_columns, self.critic_columns = slice(0, last), slice(first, self.layout.stride)
        self.temperature_columns = slice(last, first)
        self.activation = activation
        self.own = own
        self.critics = _Members(_layers(critic, offsets), activation)
        self.members = [self.critics]
        self.actor: _Members | _Own
        if own is None:
            self.actor = layered = _Members(_layers(actor, offsets), activation)
            self.members.insert(0, layered)
        else:
            self.actor = _Own(own)

    def start(self, rng: np.random.Generator) -> Vector:
        """Return one row `(stride,)`: weights and biases uniform in +-1/sqrt(inputs).

        So torch starts its linear layers, and with them CleanRL. The temperature starts at 1. An
        actor of the user's own starts as its constructor says.
        """
        row: Vector = self.layout.zeros(1)[0]
        bound = 0.0
        drawn: tuple[str, ...] = ("actor", "critic")
        if self.own is not None:
            own, drawn = self.own.start(rng), ("critic",)
            end = self.own.layout.offsets[-1] + self.own.layout.tensors[-1].size
            row[:end] = own[:end]
        for tensor in self.layout.tensors:
            if tensor.part not in drawn:
                continue
            if tensor.name.endswith(".weight"):
                bound = 1.0 / math.sqrt(tensor.shape[-1])
            offset = self._offsets[tensor.name]
            row[offset : offset + tensor.size] = rng.uniform(-bound, bound, tensor.size)
        return row

    def head(self, rows: Vector, obs: Vector) -> Vector:
        """Return the actor's outputs `(b, outputs, B)` at observations `(b, o, B)`."""
        return self.actor.forward(rows, self._scaled(rows, obs))[:, 0]

    def head_backward(self, rows: Vector, obs: Vector, slope: Vector, gradient: Vector) -> None:
        """Write the actor's gradient into `gradient`, after `head` of the same observations."""
        self.actor.backward(rows, self._scaled(rows, obs), slope[:, None], gradient)

    def values(self, rows: Vector, obs: Vector, action: Vector) -> Vector:
        """Return both critics' values `(b, 2, B)` of actions `(b, a, B)`."""
        return self.critics.forward(rows, self._joined(rows, obs, action))[:, :, 0]

    def values_backward(
        self, rows: Vector, obs: Vector, action: Vector, slope: Vector, gradient: Vector | None
    ) -> Vector:
        """Return the gradient in the action `(b, a, B)`, after `values` of the same samples.

        Args:
            rows: parameters.
            obs: `(b, o, B)`.
            action: `(b, a, B)`.
            slope: `(b, 2, B)` gradient in the values.
            gradient: the critics' is written here; None: it is not wanted, and that in the action
                is; else that in the action is empty.
        """
        wanted = self._action if gradient is None else 0
        x = self._joined(rows, obs, action)
        return self.critics.backward(rows, x, slope[:, :, None], gradient, wanted)

    def _scaled(self, rows: Vector, obs: Vector) -> Vector:
        return obs if self.normalizer is None else self.normalizer.scaled(rows, obs)

    def _joined(self, rows: Vector, obs: Vector, action: Vector) -> Vector:
        return np.concatenate([self._scaled(rows, obs), action], axis=1)


def _tensors(part: str, sizes: Sequence[int], members: int) -> list[Tensor]:
    """Return weights and biases of `members` networks, those of a layer in one tensor."""
    several = (members,) if members > 1 else ()
    names = [*map(str, range(len(sizes) - 2)), "head"]
    return [
        tensor
        for name, (below, above) in zip(names, pairwise(sizes), strict=True)
        for tensor in (
            Tensor(f"{part}.{name}.weight", (*several, above, below)),
            Tensor(f"{part}.{name}.bias", (*several, above)),
        )
    ]


def _within(part: str, layout: Layout) -> list[Tensor]:
    """Return the tensors of a network as those of a part, at the same places if they are first."""
    return [replace(tensor, name=f"{part}.{tensor.name}") for tensor in layout.tensors]


def _layers(tensors: Sequence[Tensor], offsets: dict[str, int]) -> list[_Layer]:
    found = []
    for weight, bias in zip(tensors[::2], tensors[1::2], strict=True):
        members = weight.shape[0] if len(weight.shape) == 3 else 1
        outputs, inputs = weight.shape[-2:]
        shape = (members, outputs, inputs)
        found.append(_Layer(offsets[weight.name], offsets[bias.name], shape))
    return found
