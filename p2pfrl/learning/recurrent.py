"""Networks with a memory: a gated recurrent unit between the hidden layers and the heads.

What such a network is given, `(b, 2 + h + o, T m)`, has the observations of T steps of m sequences,
step by step, and before them what a sequence needs: 1 in its first step, else 0; 1 where an
episode begins, else 0; and the h numbers of the memory before the first step, which later steps do
not read. So a minibatch says itself where its sequences begin, and one call with T = 1 acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.learning.networks import Chain, Network

MEMORY = "memory"
"""State array: `(b, m, h)` what each instance's network remembers of its episode."""


@dataclass(frozen=True)
class _Tape:
    """What `backward` needs of the last `forward`, `(b, h, T m)` each but for the lists."""

    features: Vector
    reset: Vector
    update: Vector
    candidate: Vector
    inner: Vector
    before: Vector
    after: Vector
    goes_on: Vector
    instances: int


class RecurrentNetwork(Network):
    """Hidden layers, a gated recurrent unit of as many numbers as the last one has, and the heads.

    r, z = sigmoid(W x + b + U s + c) (two of three rows), n = tanh(W x + b + r (U s + c)), s' = (1
    - z) n + z s; s = 0 where an episode begins. Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares,
    Schwenk, Bengio, Learning phrase representations using RNN encoder-decoder for statistical
    machine translation, EMNLP 2014, arXiv 1406.1078, as torch computes it. The arguments are those
    of `Network` with `shared_trunk` and `memory`.
    """

    _tape: _Tape | None = None

    @property
    @override
    def extra(self) -> int:
        return 2 + self.remembered

    @override
    def shown(self, obs: NDArray[np.float32], memory: NDArray[np.generic]) -> Vector:
        b, m, o = obs.shape
        x = np.zeros((b, self.extra + o, m), dtype=self.layout.dtype)
        x[:, 0] = 1.0
        x[:, 2 : self.extra] = memory.transpose(0, 2, 1)
        x[:, self.extra :] = obs.transpose(0, 2, 1)
        return x

    @property
    def memory(self) -> Vector:
        """What is remembered after the last step of the last `forward`, `(b, m, h)`."""
        assert self._tape is not None
        last: Vector = self._tape.after[:, :, -self._tape.instances :]
        return last.transpose(0, 2, 1).copy()

    @override
    def forward(
        self, rows: Vector, x: Vector, out: Vector, chains: Sequence[Chain] | None = None
    ) -> None:
        b, _, samples = x.shape
        h, (chain,) = self.remembered, self.chains
        instances = int((x[0, 0] == 1.0).sum())
        features = self._scaled(rows, x[:, self.extra :])
        for depth, layer in enumerate(chain.layers[:-1]):
            weight, bias = layer.views(rows)
            y = self._buffer(0, depth, b, layer.outputs, samples)
            np.matmul(weight, features, out=y)
            y += bias
            self.activation.function(y)
            features = y
        weight, bias = self.gates[0].views(rows)
        given = np.matmul(weight, features)
        given += bias
        weight, bias = self.gates[1].views(rows)
        goes_on = 1.0 - x[:, 1:2]
        kept = [np.empty((b, h, samples), rows.dtype) for _ in range(6)]
        reset, update, candidate, inner, before, after = kept
        state = x[:, 2 : self.extra, :instances]
        for first in range(0, samples, instances):
            at = slice(first, first + instances)
            before[:, :, at] = state * goes_on[:, :, at]
            own = np.matmul(weight, np.ascontiguousarray(before[:, :, at]))
            own += bias
            new = given[:, :, at]
            reset[:, :, at] = _sigmoid(new[:, :h] + own[:, :h])
            update[:, :, at] = _sigmoid(new[:, h : 2 * h] + own[:, h : 2 * h])
            inner[:, :, at] = own[:, 2 * h :]
            candidate[:, :, at] = np.tanh(new[:, 2 * h :] + reset[:, :, at] * own[:, 2 * h :])
            share = update[:, :, at]
            state = (1.0 - share) * candidate[:, :, at] + share * before[:, :, at]
            after[:, :, at] = state
        self._tape = _Tape(
            features, reset, update, candidate, inner, before, after, goes_on, instances
        )
        weight, bias = chain.layers[-1].views(rows)
        np.matmul(weight, after, out=out)
        out += bias

    @override
    def backward(self, rows: Vector, x: Vector, output_gradient: Vector, gradient: Vector) -> None:
        """Write the gradient of the last `forward`: through all its steps, not before the first."""
        tape, (chain,), h = self._tape, self.chains, self.remembered
        assert tape is not None
        b, samples = len(rows), x.shape[2]
        ones = np.ones((samples, 1), dtype=rows.dtype)
        head = chain.layers[-1]
        _write(head.views(gradient), output_gradient, tape.after, ones)
        slope = np.matmul(head.views(rows)[0].transpose(0, 2, 1), output_gradient)
        weight = self.gates[1].views(rows)[0].transpose(0, 2, 1)
        into, own = (np.empty((b, 3 * h, samples), rows.dtype) for _ in range(2))
        carried = np.zeros((b, h, tape.instances), dtype=rows.dtype)
        for first in range(samples - tape.instances, -1, -tape.instances):
            at = slice(first, first + tape.instances)
            r, z, n = tape.reset[:, :, at], tape.update[:, :, at], tape.candidate[:, :, at]
            delta = slope[:, :, at] + carried
            candidate = delta * (1.0 - z) * (1.0 - np.square(n))
            into[:, :h, at] = candidate * tape.inner[:, :, at] * r * (1.0 - r)
            into[:, h : 2 * h, at] = delta * (tape.before[:, :, at] - n) * z * (1.0 - z)
            into[:, 2 * h :, at] = candidate
            own[:, : 2 * h, at] = into[:, : 2 * h, at]
            own[:, 2 * h :, at] = candidate * r
            back = np.matmul(weight, np.ascontiguousarray(own[:, :, at]))
            carried = (delta * z + back) * tape.goes_on[:, :, at]
        _write(self.gates[1].views(gradient), own, tape.before, ones)
        _write(self.gates[0].views(gradient), into, tape.features, ones)
        delta = np.matmul(self.gates[0].views(rows)[0].transpose(0, 2, 1), into)
        seen = self._scaled(rows, x[:, self.extra :])
        for depth in range(len(chain.layers) - 2, -1, -1):
            layer = chain.layers[depth]
            y = self._buffer(0, depth, b, layer.outputs, samples)
            below = self._buffer(0, depth - 1, b, layer.inputs, samples) if depth else seen
            self.activation.derivative(y)
            delta = delta * y
            _write(layer.views(gradient), delta, below, ones)
            delta = np.matmul(layer.views(rows)[0].transpose(0, 2, 1), delta)


def _write(views: tuple[Vector, Vector], slope: Vector, below: Vector, ones: Vector) -> None:
    """Write the gradients of weights and biases."""
    weight, bias = views
    np.matmul(slope, below.transpose(0, 2, 1), out=weight)
    np.matmul(slope, ones, out=bias)


def _sigmoid(x: Vector) -> Vector:
    """Return 1 / (1 + exp(-x)), by the tanh, which gives the same bits at all positions."""
    out: Vector = 0.5 * (1.0 + np.tanh(0.5 * x))
    return out
