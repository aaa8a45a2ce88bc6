"""Multilayer perceptrons of a population of b agents, as batched matrix products.

Arrays are stored features first: inputs `(b, in, B)`, weights `(b, out, in)`, outputs `(b, out,
B)`, B samples of each of b agents. Products run on views of the flat parameter rows by `np.matmul`,
which multiplies item by item, so that no row depends on another; elementwise functions are numpy's
for the same reason (torch's tanh is ten times slower, and its sigmoid gives other last bits at
other positions). The backward pass of the layers is written here, once; the losses are left to
autograd, which sees the few outputs only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Layout, Tensor, Vector, aligned_zeros
from p2pfrl.learning.convolutions import Convolutions
from p2pfrl.learning.normalization import Normalizer

LOG_STD = "actor.log_std"
"""The tensor of the log standard deviations of continuous actions."""
Orthogonal = Callable[[np.random.Generator, int, int], Vector]
"""Random numbers, rows, columns -> a matrix with orthonormal rows or columns."""


class Layers(Protocol):
    """Computes layers; `native.library.Layers` does."""

    def forward(self, rows: Vector, x: Vector) -> Vector:
        """Return the outputs `(b, outputs, B)` of all chains for `x` `(b, inputs, B)`."""

    def backward(
        self, rows: Vector, slope: Vector, gradient: Vector | None, wanted: int = 0
    ) -> Vector:
        """Write the gradient of the last `forward`; return that by the last `wanted` inputs."""


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivative, both computed in place.

    The derivative is given in terms of the function's result.
    """

    function: Callable[[Vector], None]
    derivative: Callable[[Vector], None]


def _tanh(x: Vector) -> None:
    np.tanh(x, out=x)


def _tanh_derivative(y: Vector) -> None:
    np.multiply(y, y, out=y)
    np.subtract(1.0, y, out=y)


def _relu(x: Vector) -> None:
    np.maximum(x, 0.0, out=x)


def _relu_derivative(y: Vector) -> None:
    np.greater(y, 0.0, out=y, casting="unsafe")


ACTIVATIONS = {
    "tanh": Activation(_tanh, _tanh_derivative),
    "relu": Activation(_relu, _relu_derivative),
}


@dataclass(frozen=True)
class _Layer:
    weight: int  # offsets within a row
    bias: int
    inputs: int
    outputs: int

    def views(self, rows: Vector) -> tuple[Vector, Vector]:
        """Return weight `(b, outputs, inputs)`, bias `(b, outputs, 1)`, as views of rows."""
        weight = rows[:, self.weight : self.weight + self.outputs * self.inputs]
        bias = rows[:, self.bias : self.bias + self.outputs]
        return weight.reshape(len(rows), self.outputs, self.inputs), bias[:, :, None]


@dataclass(frozen=True)
class Chain:
    """Layers one after the other, the last of which is linear.

    It gives the rows `first`, first + 1, ... of the network's output.
    """

    layers: tuple[_Layer, ...]
    first: int

    @property
    def rows(self) -> slice:
        """Rows of the output."""
        return slice(self.first, self.first + self.layers[-1].outputs)


class Network:
    """Actor and critic: `policy` outputs (logits or means), then the value, from one observation.

    Separate networks have the parts `actor` and `critic`; with a shared trunk there is `trunk` too,
    and the heads lie next to each other, so that one product gives all outputs. State-independent
    log standard deviations belong to the actor. Without a critic there is the part `actor` alone
    and no value.

    Attributes:
        inputs: size of an observation.
        policy: outputs of the actor.
        outputs: all of them.
        has_critic: whether the last output is a value.
        layout: of the parameters.
        remembered: numbers of the memory, h; 0 without one.
        gates: of the memory: the layers of its input and of its state.
        activation: of the hidden layers.
        orthogonal: makes the matrices of `start`.
        layers: computes all chains in place of numpy; None: nothing does.
        chains: of layers, the one that acts first, the one that gives the value last.
        normalizer: scales observations; None: nothing does.
        fixed: numbers of the columns of a row that nothing trains.

    Args:
        inputs: size of an observation.
        policy: outputs of the actor.
        hidden: sizes of the hidden layers.
        activation: name in `ACTIVATIONS`.
        shared_trunk: actor and critic share the hidden layers.
        critic: whether there is one.
        actor_inputs: how many numbers, the first of an observation, the actor sees; 0: all. Not
            with a shared trunk.
        log_std: learn `policy` log standard deviations.
        normalizer: scales observations, by statistics in the parameters; None: nothing does.
        image: height, width and channels of observations, which convolutions encode; None: they
            go to the hidden layers as they are.
        memory: whether the trunk ends with a recurrent unit (`recurrent.RecurrentNetwork`).
        dtype: float32, or float64 for checks of gradients.
    """

    fixed: NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def __init__(
        self,
        inputs: int,
        policy: int,
        *,
        hidden: Sequence[int],
        activation: str = "tanh",
        shared_trunk: bool = False,
        critic: bool = True,
        actor_inputs: int = 0,
        log_std: bool = False,
        normalizer: Normalizer | None = None,
        image: tuple[int, ...] | None = None,
        memory: bool = False,
        dtype: str = "float32",
    ) -> None:
        assert not shared_trunk or (critic and not actor_inputs)
        assert image is None or not actor_inputs
        self.inputs = inputs
        self.orthogonal: Orthogonal = random_orthogonal
        self.layers: Layers | None = None
        self.policy = policy
        self.outputs = policy + critic
        self.has_critic = critic
        parts = ("trunk",) if shared_trunk else ("actor", "critic")[: 1 + critic]
        encoders = [] if image is None else [Convolutions(part, image) for part in parts]
        first = encoders[0].features if encoders else inputs
        sizes = {part: [first, *hidden] for part in ("trunk", "actor", "critic")}
        sizes["actor"][0] = actor_inputs or first
        tensors: list[Tensor] = []
        for number, part in enumerate(parts):
            tensors += encoders[number].tensors if encoders else []
            for i, (below, above) in enumerate(pairwise(sizes[part])):
                tensors += [
                    Tensor(f"{part}.{i}.weight", (above, below)),
                    Tensor(f"{part}.{i}.bias", (above,)),
                ]
            if not shared_trunk:
                size = policy if part == "actor" else 1
                tensors += [
                    Tensor(f"{part}.head.weight", (size, sizes[part][-1])),
                    Tensor(f"{part}.head.bias", (size,)),
                ]
        if shared_trunk:
            tensors += [
                Tensor("actor.head.weight", (policy, sizes["trunk"][-1])),
                Tensor("critic.head.weight", (1, sizes["trunk"][-1]), aligned=False),
                Tensor("actor.head.bias", (policy,)),
                Tensor("critic.head.bias", (1,), aligned=False),
            ]
        self.remembered = sizes["trunk"][-1] if memory else 0
        if memory:
            h = self.remembered
            for name in ("input", "state"):
                tensors += [
                    Tensor(f"trunk.gru.{name}.weight", (3 * h, h)),
                    Tensor(f"trunk.gru.{name}.bias", (3 * h,)),
                ]
        if log_std:
            tensors.append(Tensor(LOG_STD, (policy,)))
        if normalizer is not None:
            tensors += normalizer.tensors
        self.layout = Layout(tuple(tensors), dtype)
        self.normalizer = normalizer
        if normalizer is not None:
            normalizer.place(self.layout)
        self._offset = {
            t.name: offset for t, offset in zip(tensors, self.layout.offsets, strict=True)
        }
        self.gates: tuple[_Layer, ...] = ()
        if memory:
            self.gates = tuple(
                _Layer(
                    self._offset[f"trunk.gru.{name}.weight"],
                    self._offset[f"trunk.gru.{name}.bias"],
                    self.remembered,
                    3 * self.remembered,
                )
                for name in ("input", "state")
            )
        self._encoders = encoders
        for encoder in encoders:
            encoder.place(self._offset)
        self.activation = ACTIVATIONS[activation]
        trunk = {part: self._hidden(part, sizes[part]) for part in parts}
        if shared_trunk:
            self.chains: tuple[Chain, ...] = (
                Chain((*trunk["trunk"], self._head("actor", sizes["trunk"][-1], policy + 1)), 0),
            )
        else:
            heads = {"actor": (policy, 0), "critic": (1, policy)}
            self.chains = tuple(
                Chain(
                    (*trunk[part], self._head(part, sizes[part][-1], heads[part][0])),
                    heads[part][1],
                )
                for part in parts
            )
        self._scratch: dict[tuple[int, int], Vector] = {}

    def _hidden(self, part: str, sizes: Sequence[int]) -> tuple[_Layer, ...]:
        offset = self._offset
        return tuple(
            _Layer(offset[f"{part}.{i}.weight"], offset[f"{part}.{i}.bias"], below, above)
            for i, (below, above) in enumerate(pairwise(sizes))
        )

    def _head(self, part: str, inputs: int, outputs: int) -> _Layer:
        return _Layer(
            self._offset[f"{part}.head.weight"], self._offset[f"{part}.head.bias"], inputs, outputs
        )

    def place(self, tensor: str) -> int:
        """Return where a tensor begins within a row."""
        return self._offset[tensor]

    @property
    def encodes(self) -> bool:
        """Whether convolutions come before the dense layers."""
        return bool(self._encoders)

    @property
    def extra(self) -> int:
        """Numbers before the observation in what the network is given."""
        return 0

    def shown(self, obs: NDArray[np.float32], memory: NDArray[np.generic]) -> Vector:
        """Return what the network is given in one step, `(b, extra + o, m)`.

        Args:
            obs: `(b, m, o)`.
            memory: `(b, m, h)` of the instances; `(b, m, 0)` without a memory.
        """
        return np.ascontiguousarray(obs.transpose(0, 2, 1), dtype=self.layout.dtype)

    @property
    def memory(self) -> Vector:
        """What is remembered after the last step of the last `forward`, `(b, m, h)`."""
        raise AssertionError("this network has no memory")

    def start(self, rng: np.random.Generator) -> Vector:
        """Return one row `(stride,)`: orthogonal weights of gain sqrt(2), 0.01 (policy), 1 (value).

        Saxe, McClelland, Ganguli, Exact solutions to the nonlinear dynamics of learning in deep
        linear neural networks, ICLR 2014, arXiv 1312.6120; the gains as in CleanRL.
        """
        row: Vector = self.layout.zeros(1)[0]
        gains = {"actor.head.weight": 0.01, "critic.head.weight": 1.0}
        gains |= {f"trunk.gru.{name}.weight": 1.0 for name in ("input", "state")}
        for tensor in self.layout.tensors:
            if tensor.name.endswith(".weight"):
                weight = gains.get(tensor.name, math.sqrt(2.0)) * self.orthogonal(
                    rng, *tensor.shape
                )
                offset = self._offset[tensor.name]
                row[offset : offset + tensor.size] = weight.ravel()
        return row

    def log_std(self, rows: Vector) -> Vector:
        """Return log standard deviations, a view `(b, policy)` of rows; else `(b, 0)`."""
        offset = self._offset.get(LOG_STD)
        return rows[:, :0] if offset is None else rows[:, offset : offset + self.policy]

    def forward(
        self, rows: Vector, x: Vector, out: Vector, chains: Sequence[Chain] | None = None
    ) -> None:
        """Write the outputs of `chains` (all by default) for `x` `(b, in, B)` into `out`.

        Of each sample a chain sees as many numbers as its first layer has inputs.

        The hidden activations stay in the network's scratch memory until the next call: `backward`
        reads them.
        """
        x = self._scaled(rows, x)
        if self.layers is not None and len(chains or self.chains) == len(self.chains):
            out[:] = self.layers.forward(rows, x)
            return
        for number, chain in enumerate(self.chains if chains is None else chains):
            h = x[:, : chain.layers[0].inputs]
            if self._encoders:
                h = self._encoders[self.chains.index(chain)].forward(rows, x)
            for depth, layer in enumerate(chain.layers):
                weight, bias = layer.views(rows)
                is_last = depth == len(chain.layers) - 1
                y = (
                    out[:, chain.rows]
                    if is_last
                    else self._buffer(number, depth, len(rows), layer.outputs, x.shape[2])
                )
                np.matmul(weight, h, out=y)
                y += bias
                if not is_last:
                    self.activation.function(y)
                h = y

    def backward(self, rows: Vector, x: Vector, output_gradient: Vector, gradient: Vector) -> None:
        """Write the gradient of the last `forward`, of all chains, into `gradient` `(b, stride)`.

        Args:
            rows: `(b, stride)` parameters.
            x: `(b, in, B)`.
            output_gradient: `(b, outputs, B)`.
            gradient: weights and biases are overwritten, the rest is left.
        """
        if self.layers is not None:
            self.layers.backward(rows, output_gradient, gradient)
            return
        b, samples = len(rows), x.shape[2]
        x = self._scaled(rows, x)
        ones = np.ones((samples, 1), dtype=rows.dtype)
        for number, chain in enumerate(self.chains):
            delta = output_gradient[:, chain.rows]
            seen = x[:, : chain.layers[0].inputs]
            if self._encoders:
                seen = self._encoders[number].features_of_last()
            for depth in range(len(chain.layers) - 1, -1, -1):
                layer = chain.layers[depth]
                below = (
                    seen
                    if depth == 0
                    else self._buffer(number, depth - 1, b, layer.inputs, samples)
                )
                weight_gradient, bias_gradient = layer.views(gradient)
                np.matmul(delta, below.transpose(0, 2, 1), out=weight_gradient)
                np.matmul(delta, ones, out=bias_gradient)
                if depth or self._encoders:
                    under = self._buffer(-1, depth, b, layer.inputs, samples)
                    np.matmul(layer.views(rows)[0].transpose(0, 2, 1), delta, out=under)
                if depth:
                    self.activation.derivative(below)
                    under *= below
                    delta = under
                elif self._encoders:
                    self._encoders[number].backward(rows, under, gradient)

    def _scaled(self, rows: Vector, x: Vector) -> Vector:
        return x if self.normalizer is None else self.normalizer.scaled(rows, x)

    def _buffer(self, number: int, depth: int, *shape: int) -> Vector:
        """Return scratch memory of `shape`, kept between calls because fresh pages cost more."""
        size = math.prod(shape)
        memory = self._scratch.get((number, depth))
        if memory is None or len(memory) < size:
            memory = self._scratch[number, depth] = aligned_zeros((size,), self.layout.dtype)
        return memory[:size].reshape(shape)


def random_orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Vector:
    """Return a `(rows, columns)` matrix with orthonormal rows or columns, whichever are fewer."""
    Q, R = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    Q *= np.sign(np.diag(R))
    return Q if rows >= columns else Q.T
