"""The native engine as functions on numpy arrays: structures of `engine.c` and their calls.

All arrays are C-contiguous float32 unless a function says otherwise, and are changed in place. A
call holds no lock of Python and keeps nothing, so that threads may call at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_double, c_float, c_int, c_int32, c_void_p
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector
from p2pfrl.learning.descent import Formula
from p2pfrl.learning.native import compiler
from p2pfrl.learning.native.compiler import Compiler, EngineError

MAX_LAYERS = 8
_MAX_CHAINS = 2
_CHECK = "dff5456e1cae97c2"
"""The digest of `check`: the same on every machine and with every compiler."""

Layer = tuple[int, int, int, int]
"""Places of weight and bias within a row, inputs, outputs."""


class _Layer(Structure):
    _fields_ = [(name, c_int32) for name in ("weight", "bias", "inputs", "outputs")]


class _Chain(Structure):
    _fields_ = [("layers", c_int32), ("layer", _Layer * MAX_LAYERS)]


class _Net(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("stride", "inputs", "relu", "has_critic", "chains")),
        ("chain", _Chain * _MAX_CHAINS),
    ]


class _Policy(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("gaussian", "outputs", "width", "masked", "log_std")),
        ("choices", POINTER(c_int32)),
    ]


class _Loss(Structure):
    _fields_ = [("clipped", c_int32), *((name, c_float) for name in ("clip", "value", "entropy"))]


class _Optimizer(Structure):
    _fields_ = [
        ("kind", c_int32),
        *((name, c_float) for name in ("eps", "decay", "squares_decay", "max_norm")),
        *((name, c_double) for name in ("b1", "b2")),
    ]


@dataclass(frozen=True)
class Net:
    """A network of one or two chains of layers.

    Attributes:
        stride: numbers of a row.
        inputs: numbers of an observation.
        relu: relu in place of tanh.
        has_critic: whether the last output is a value.
        chains: layers of the actor, or of both; of the critic.
    """

    stride: int
    inputs: int
    relu: bool
    has_critic: bool
    chains: Sequence[Sequence[Layer]]


@dataclass(frozen=True)
class Head:
    """What the actor's outputs mean.

    Attributes:
        outputs: how many there are.
        choices: actions of each discrete choice; empty for a Gaussian.
        is_masked: whether observations end with a mask.
        log_std: place of the log standard deviations within a row.
    """

    outputs: int
    choices: Sequence[int]
    is_masked: bool = False
    log_std: int = 0


KINDS = {"keep": 0, "sgd": 1, "rmsprop": 2, "adam": 3}


@dataclass(frozen=True)
class Rule:
    """An optimizer.

    Attributes:
        kind: name in `KINDS`.
        eps: added to the denominator.
        betas: Adam's; of RMSprop the second is the decay.
        max_norm: bound on the norm of a gradient, 0 for none.
    """

    kind: str
    eps: float = 0.0
    betas: tuple[float, float] = (0.0, 0.0)
    max_norm: float = 0.0


@dataclass(frozen=True)
class Moments:
    """State of an optimizer, where it has it.

    Attributes:
        first: `(b, stride)` Adam's m, or where gradients are kept.
        second: `(b, stride)` mean of squares.
        counts: `(b,)` steps.
    """

    first: Vector | None = None
    second: Vector | None = None
    counts: Vector | None = None


class Engine:
    """The library for one network, policy, loss and optimizer.

    Args:
        library: loaded.
        net: the network.
        head: the policy.
        loss: of samples.
        rule: the optimizer.
    """

    def __init__(
        self, library: ctypes.CDLL, net: Net, head: Head, loss: Formula, rule: Rule
    ) -> None:
        self._library = library
        self._net = _net(net)
        self._choices = (c_int32 * max(1, len(head.choices)))(*head.choices)
        width = len(head.choices) or head.outputs
        self._policy = _Policy(
            not head.choices, head.outputs, width, head.is_masked, head.log_std, self._choices
        )
        clip = 0.0 if loss.clip is None else loss.clip
        self._loss = _Loss(loss.clip is not None, clip, loss.value, loss.entropy)
        b1, b2 = rule.betas
        self._rule = _Optimizer(KINDS[rule.kind], rule.eps, b1, b2, rule.max_norm, b1, b2)
        self._features = net.inputs + width + 3
        self._stride = net.stride

    def learn(
        self,
        rows: Vector,
        moments: Moments,
        rates: NDArray[np.float32],
        samples: Vector,
        order: NDArray[np.int64] | None,
        *,
        epochs: int,
        minibatches: int,
        normalized: bool,
    ) -> NDArray[np.float64]:
        """Take all minibatch steps, in place; return the mean losses `(b,)`.

        Args:
            rows: `(b, stride)` parameters.
            moments: of the optimizer.
            rates: `(b,)` learning rates.
            samples: `(b, size, features)` as (obs, action, log prob, advantage, target).
            order: `(epochs, b, size)` of the samples; None: as they are.
            epochs: passes.
            minibatches: per pass, at most `size`.
            normalized: normalize advantages per minibatch.
        """
        b, size, features = samples.shape
        assert features == self._features
        assert rows.shape == (b, self._stride)
        losses = np.empty(b)
        self._call(
            "learn",
            byref(self._net),
            byref(self._policy),
            byref(self._loss),
            byref(self._rule),
            b,
            *map(_at, (rows, moments.first, moments.second, moments.counts, rates, samples)),
            size,
            None if order is None else _at(order, np.int64),
            epochs,
            minibatches,
            normalized,
            _at(losses, np.float64),
        )
        return losses

    def gradient(self, rows: Vector, samples: Vector, gradient: Vector) -> NDArray[np.float32]:
        """Write the gradient of the loss on `samples` `(b, B, features)`; return losses `(b,)`."""
        b, size, features = samples.shape
        assert features == self._features
        assert rows.shape == gradient.shape == (b, self._stride)
        losses = np.empty(b, dtype=np.float32)
        self._call(
            "gradient",
            byref(self._net),
            byref(self._policy),
            byref(self._loss),
            b,
            *map(_at, (rows, samples)),
            size,
            *map(_at, (gradient, losses)),
        )
        return losses

    def step(
        self, rows: Vector, moments: Moments, rates: NDArray[np.float32], gradient: Vector
    ) -> None:
        """Clip gradients `(b, stride)`, and take one step, in place."""
        self._library.engine_step(
            byref(self._rule),
            *rows.shape,
            *map(_at, (rows, moments.first, moments.second, moments.counts, rates, gradient)),
        )

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._library, f"engine_{name}")(*arguments):
            raise MemoryError


def function(library: ctypes.CDLL, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return exp, log or tanh of the numbers in x, a multiple of 16."""
    y = np.empty_like(x)
    kind = ("exp", "log", "tanh").index(name)
    library.engine_function(kind, x.size, _at(x), _at(y))
    return y


def _net(net: Net) -> _Net:
    made = _Net(net.stride, net.inputs, net.relu, net.has_critic, len(net.chains))
    for number, layers in enumerate(net.chains):
        assert 0 < len(layers) <= MAX_LAYERS
        made.chain[number].layers = len(layers)
        for depth, layer in enumerate(layers):
            made.chain[number].layer[depth] = _Layer(*layer)
    return made


def _at(array: NDArray[np.generic] | None, dtype: type[np.generic] = np.float32) -> int | None:
    """Return where an array lies."""
    if array is None:
        return None
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    return array.ctypes.data


@cache
def library() -> ctypes.CDLL:
    """Return the engine, compiled if it is not in the cache.

    Raises:
        EngineError: there is none here.
    """
    failed: list[str] = []
    for one in compiler.compilers():
        try:
            return _load(one)
        except (EngineError, OSError) as error:
            failed.append(str(error))
    raise EngineError("; ".join(failed))


def _load(one: Compiler) -> ctypes.CDLL:
    folder = compiler.cache()
    if folder is None:
        with compiler.private() as own:
            one.build(Path(own, one.name))
            return opened(Path(own, one.name))
    file = folder / one.name
    if file.exists():
        try:
            return opened(file)
        except (EngineError, OSError):  # a disk was full, or somebody wrote over it
            file.unlink(missing_ok=True)
    one.build(file)
    return opened(file)


def opened(file: Path) -> ctypes.CDLL:
    """Return the library of a file.

    Raises:
        EngineError: it computes other numbers than it should.
        OSError: it cannot be loaded.
    """
    found = ctypes.CDLL(str(file))
    i: type[ctypes._SimpleCData[Any]] = c_int
    at: type[ctypes._SimpleCData[Any]] = c_void_p
    found.engine_learn.argtypes = [at] * 4 + [i] + [at] * 6 + [i, at, i, i, i, at]
    found.engine_gradient.argtypes = [at] * 3 + [i] + [at] * 2 + [i, at, at]
    found.engine_step.argtypes = [at, i, i] + [at] * 6
    found.engine_step.restype = None
    found.engine_function.argtypes = [i, i, at, at]
    found.engine_function.restype = None
    digest = check(found)
    if digest != _CHECK:
        raise EngineError(f"{file.name} computes other numbers than it should ({digest})")
    return found


def check(library: ctypes.CDLL) -> str:
    """Return a digest of a few steps of a small network.

    Sums of another order, or a product and a sum that were made one operation, would change it.
    """
    o, h, k, size = 5, 19, 3, 37
    sizes = ((o, h), (h, h), (h, k))
    layers, end = [], 0
    for inputs, outputs in sizes:
        layers.append((end, end + inputs * outputs, inputs, outputs))
        end += inputs * outputs + outputs
    critic = [(end, end + o, o, 1)]
    stride = -(-(end + o + 1) // 16) * 16
    net = Net(stride, o, relu=False, has_critic=True, chains=(layers, critic))
    rule = Rule("adam", 1e-5, (0.9, 0.999), 0.5)
    engine = Engine(library, net, Head(k, (k,)), Formula(0.2, 0.5, 0.01), rule)
    rows = _pattern(2 * stride).reshape(2, stride)
    samples = _pattern(2 * size * (o + 4)).reshape(2, size, o + 4)
    samples[:, :, o] = np.arange(size) % k
    samples[:, :, o + 1] -= 1.0
    first, second, counts = np.zeros_like(rows), np.zeros_like(rows), np.zeros(2, np.float32)
    moments, rates = Moments(first, second, counts), np.full(2, 0.01, np.float32)
    loss = engine.learn(
        rows, moments, rates, samples, None, epochs=3, minibatches=2, normalized=True
    )
    return blake2b(rows.tobytes() + second.tobytes() + loss.tobytes(), digest_size=8).hexdigest()


def _pattern(count: int) -> NDArray[np.float32]:
    """Return numbers in (-1, 1) that are the same everywhere."""
    bits = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(2**20)
    return (bits.astype(np.float32) - np.float32(2**19)) / np.float32(2**19)
