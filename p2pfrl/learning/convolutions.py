"""Convolutions of a population of b agents, as batched matrix products.

An image is stored pixels first, samples last: `(b, height, width, channels, B)`. A product gathers
the windows of all positions as columns, and `np.matmul` multiplies item by item, so that no row
depends on another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Tensor, Vector

_NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Filters, size and stride of each layer, as Mnih et al. have them."""
_LEAST = 36


@dataclass(frozen=True)
class _Layer:
    weight: int  # offsets within a row
    bias: int
    inputs: tuple[int, int, int]  # height, width, channels
    outputs: tuple[int, int, int]
    size: int
    stride: int

    @property
    def window(self) -> int:
        """Numbers that one output sees."""
        return self.size * self.size * self.inputs[2]

    def views(self, rows: Vector) -> tuple[Vector, Vector]:
        """Return weight `(b, filters, window)`, bias `(b, filters, 1)`, as views of rows."""
        filters = self.outputs[2]
        weight = rows[:, self.weight : self.weight + filters * self.window]
        bias = rows[:, self.bias : self.bias + filters]
        return weight.reshape(len(rows), filters, self.window), bias[:, :, None]

    def windows(self) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield each place in a window, with the pixels that lie there at all positions."""
        height, width, _ = self.outputs
        for i in range(self.size):
            for j in range(self.size):
                down = slice(i, i + self.stride * (height - 1) + 1, self.stride)
                right = slice(j, j + self.stride * (width - 1) + 1, self.stride)
                yield i, j, down, right


class Convolutions:
    """Three layers of convolutions with rectifiers: an image becomes `features` numbers.

    Mnih, Kavukcuoglu, Silver et al., "Human-level control through deep reinforcement learning",
    Nature 518, 2015: 32 filters of 8 x 8 with stride 4, 64 of 4 x 4 with stride 2, 64 of 3 x 3 with
    stride 1. The dense layer of 512 units that follows there is `hidden = [512]` here.

    Attributes:
        features: numbers of an encoded image.
        tensors: of the parameters.

    Args:
        part: of the parameters.
        image: height, width and channels; the first numbers of an observation, in this order.

    Raises:
        ScenarioError: the image is too small.
    """

    def __init__(self, part: str, image: tuple[int, ...]) -> None:
        if len(image) != 3 or min(image[:2]) < _LEAST:
            what = f"got {' x '.join(map(str, image))}" if image else "the environment has none"
            raise ScenarioError(
                [
                    f"learner.encoder: 'nature_cnn' needs images of at least {_LEAST} x {_LEAST} pixels; {what}"
                ]
            )
        self._part = part
        self._shapes: list[tuple[tuple[int, int, int], tuple[int, int, int], int, int]] = []
        below = (image[0], image[1], image[2])
        self.tensors: list[Tensor] = []
        for number, (filters, size, stride) in enumerate(_NATURE):
            height, width = ((edge - size) // stride + 1 for edge in below[:2])
            above = (height, width, filters)
            self._shapes.append((below, above, size, stride))
            window = size * size * below[2]
            self.tensors += [
                Tensor(f"{part}.conv{number}.weight", (filters, window)),
                Tensor(f"{part}.conv{number}.bias", (filters,)),
            ]
            below = above
        self.features = below[0] * below[1] * below[2]
        self._layers: tuple[_Layer, ...] = ()
        self._kept: list[tuple[Vector, Vector]] = []

    def place(self, offsets: Mapping[str, int]) -> None:
        """Note where a row holds the tensors."""
        self._layers = tuple(
            _Layer(
                offsets[f"{self._part}.conv{number}.weight"],
                offsets[f"{self._part}.conv{number}.bias"],
                *shapes,
            )
            for number, shapes in enumerate(self._shapes)
        )

    def forward(self, rows: Vector, x: Vector) -> Vector:
        """Return the features `(b, features, B)` of observations `(b, o, B)`.

        `backward` reads what is kept until the next call.
        """
        b, samples = len(rows), x.shape[2]
        height, width, channels = self._layers[0].inputs
        image = x[:, : height * width * channels].reshape(b, height, width, channels, samples)
        self._kept = []
        for layer in self._layers:
            height, width, filters = layer.outputs
            size, channels = layer.size, layer.inputs[2]
            columns = np.empty((b, size, size, channels, height, width, samples), rows.dtype)
            for i, j, down, right in layer.windows():
                columns[:, i, j] = image[:, down, right].transpose(0, 3, 1, 2, 4)
            flat = columns.reshape(b, layer.window, height * width * samples)
            weight, bias = layer.views(rows)
            y: Vector = np.matmul(weight, flat)
            y += bias
            np.maximum(y, 0.0, out=y)
            self._kept.append((flat, y))
            image = y.reshape(b, filters, height, width, samples).transpose(0, 2, 3, 1, 4)
        return self._kept[-1][1].reshape(b, self.features, samples)

    def features_of_last(self) -> Vector:
        """Return what the last `forward` returned."""
        y = self._kept[-1][1]
        return y.reshape(len(y), self.features, -1)

    def backward(self, rows: Vector, slope: Vector, gradient: Vector) -> None:
        """Write the gradient of the last `forward` into `gradient`, given that in the features.

        Args:
            rows: `(b, stride)` parameters.
            slope: `(b, features, B)`.
            gradient: `(b, stride)`; weights and biases are overwritten, the rest is left.
        """
        b, samples = len(rows), slope.shape[2]
        for depth in range(len(self._layers) - 1, -1, -1):
            layer, (flat, y) = self._layers[depth], self._kept[depth]
            height, width, filters = layer.outputs
            delta = slope.reshape(b, filters, height * width * samples) * (y > 0)
            weight_gradient, bias_gradient = layer.views(gradient)
            np.matmul(delta, flat.transpose(0, 2, 1), out=weight_gradient)
            ones = np.ones((delta.shape[2], 1), dtype=rows.dtype)
            np.matmul(delta, ones, out=bias_gradient)
            if depth == 0:
                return
            size, channels = layer.size, layer.inputs[2]
            spread = np.matmul(layer.views(rows)[0].transpose(0, 2, 1), delta)
            spread = spread.reshape(b, size, size, channels, height, width, samples)
            below = np.zeros((b, channels, *layer.inputs[:2], samples), dtype=rows.dtype)
            for i, j, down, right in layer.windows():
                below[:, :, down, right] += spread[:, i, j]
            slope = below
