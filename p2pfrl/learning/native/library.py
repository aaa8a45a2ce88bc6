"""The native engine as functions on numpy arrays: structures of `engine.c` and their calls.

All arrays are C-contiguous float32 unless a function says otherwise, and are changed in place. A
call holds no lock of Python. An `Engine` keeps nothing, so that threads may call it at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ctypes import (
    POINTER,
    Structure,
    addressof,
    byref,
    c_char,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_void_p,
)
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector, aligned_empty, aligned_zeros
from p2pfrl.core.rng import Streams
from p2pfrl.learning.descent import Formula
from p2pfrl.learning.native import compiler
from p2pfrl.learning.native.compiler import Compiler, EngineError

MAX_LAYERS = 8
_MAX_CHAINS = 2
_CHECK = "bc1b8e5255c995ea"
"""The digest of `check`: the same on every machine and with every compiler."""

_MOST_KEPT = 8
"""Numbers of rows and samples for which hidden layers are kept."""

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


class _TD(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("doubled", "masked")),
        *((name, c_float) for name in ("scale", "gamma")),
    ]


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
class Target:
    """The target of a TD error: scale r + gamma (1 - terminated) max_a' Q_ahead(s', a').

    Attributes:
        double: the action a' is that of Q, not of Q_ahead.
        is_masked: whether observations end with a mask of the actions that are allowed.
        scale: of rewards.
        gamma: discount.
    """

    double: bool
    is_masked: bool
    scale: float
    gamma: float


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


class NotFiniteError(Exception):
    """An observation is not finite.

    Attributes:
        row: the first in which one is not.
    """

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row}: an observation is not finite")
        self.row = row


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
        self._net = structure(net)
        self._choices = (c_int32 * max(1, len(head.choices)))(*head.choices)
        width = len(head.choices) or head.outputs
        self._policy = _Policy(
            not head.choices, head.outputs, width, head.is_masked, head.log_std, self._choices
        )
        clip = 0.0 if loss.clip is None else loss.clip
        self._loss = _Loss(loss.clip is not None, clip, loss.value, loss.entropy)
        self._rule = _optimizer(rule)
        self._features = net.inputs + width + 3
        self._stride = net.stride

    def learn(
        self,
        rows: Vector,
        moments: Moments,
        rates: NDArray[np.float32],
        samples: Vector,
        orders: Streams | None,
        layers: Vector | None = None,
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
            orders: draw the order of the samples of each pass; None: as they are.
            layers: of the samples at `rows`, of one minibatch in order; None: nobody has them.
            epochs: passes.
            minibatches: per pass, at most `size`.
            normalized: normalize advantages per minibatch.
        """
        b, size, features = samples.shape
        assert features == self._features
        assert rows.shape == (b, self._stride)
        assert layers is None or (orders is None and minibatches == 1)
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
            _at(layers),
            None if orders is None else _at(np.ascontiguousarray(orders.keys), np.uint64),
            0 if orders is None else orders.skip(epochs * size),
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

    def samples(self, b: int, size: int) -> Vector:
        """Return room for samples `(b, size, features)`."""
        return np.empty((b, size, self._features), dtype=np.float32)

    def layers(self, b: int, size: int) -> Vector:
        """Return room for the layers of samples, `(b, numbers of all layers)`."""
        return aligned_empty((b, self.numbers_of_layers(size)), np.float32)

    def numbers_of_layers(self, size: int) -> int:
        """Return how many numbers the layers of so many samples of one agent are."""
        return int(self._library.engine_layers(byref(self._net), size))

    def prepared(self, rows: Vector) -> Vector:
        """Return the parameters `(b, stride)` as acting needs them, one row each."""
        b = len(rows)
        size = self._library.engine_prepared(byref(self._net))
        prepared = aligned_zeros((b, size), np.float32)
        self._library.engine_prepare(byref(self._net), b, _at(rows), _at(prepared))
        return prepared

    def act(
        self,
        rows: Vector,
        prepared: Vector,
        obs: Vector,
        seen: Vector,
        noise: Vector | None = None,
        t: int = 0,
        samples: Vector | None = None,
        value: Vector | None = None,
        layers: Vector | None = None,
    ) -> NDArray[np.generic]:
        """Return actions `(b, m, width)`: integers, or float32 without regard to bounds.

        Args:
            rows: `(b, stride)`.
            prepared: what `prepared` made of them.
            obs: `(b, m, o)`; where nothing is written into samples, o may be what actors see alone.
            seen: `(b, m, o)` what the network sees of them.
            noise: `(b, steps, width, m)`; None: the likeliest actions.
            t: the step that counts.
            samples: `(b, steps m, features)`, where obs, action and log prob of the step go.
            value: `(b, steps, m)`, where values of the step go, if actor and critic share layers.
            layers: where those of the samples of the step go.
        """
        (b, m, o), width = obs.shape, self._policy.width
        if o < self._net.inputs and samples is None:
            rest = np.zeros((b, m, self._net.inputs - o), dtype=np.float32)
            obs, seen = (np.concatenate((x, rest), axis=2) for x in (obs, seen))
        assert obs.shape == seen.shape == (b, m, self._net.inputs)
        gaussian = bool(self._policy.gaussian)
        chosen = np.empty((b, m, width), dtype=np.float32 if gaussian else np.int64)
        steps = 1 if noise is None else noise.shape[1]
        has_value = value is not None and self._net.has_critic and self._net.chains == 1
        self._call(
            "act",
            byref(self._net),
            byref(self._policy),
            b,
            _at(rows),
            _at(prepared),
            m,
            _at(np.ascontiguousarray(obs, dtype=np.float32)),
            _at(np.ascontiguousarray(seen, dtype=np.float32)),
            _at(noise),
            steps,
            t,
            _at(samples),
            _at(value) if has_value else None,
            _at(layers),
            None if gaussian else _at(chosen, np.int64),
            _at(chosen) if gaussian else None,
        )
        return chosen

    def values(
        self, prepared: Vector, obs: Vector, layers: Vector | None = None
    ) -> NDArray[np.float32]:
        """Return the values `(b, q)` of observations `(b, q, o)`, whose `layers` are kept."""
        b, q, _ = obs.shape
        if obs.strides[2] != 4 or obs.strides[0] != q * obs.strides[1]:
            obs = np.ascontiguousarray(obs)
        prepared = np.ascontiguousarray(prepared)
        values = np.empty((b, q), dtype=np.float32)
        assert obs.dtype == np.float32
        self._call(
            "values",
            byref(self._net),
            byref(self._policy),
            b,
            _at(prepared),
            q,
            obs.ctypes.data,
            obs.strides[1] // 4,
            _at(values),
            _at(layers),
        )
        return values

    def advantages(
        self,
        reward: Vector,
        value: Vector,
        next_value: Vector,
        finished: NDArray[np.bool_],
        scale: float,
        gamma: float,
        gae_lambda: float,
        samples: Vector,
    ) -> None:
        """Write advantages and value targets to the samples; `GAE` says which."""
        b, steps, m = reward.shape
        assert samples.shape == (b, steps * m, self._features)
        self._library.engine_advantages(
            b,
            steps,
            m,
            *(_at(np.ascontiguousarray(each)) for each in (reward, value, next_value)),
            _at(np.ascontiguousarray(finished), np.bool_),
            scale,
            gamma,
            gamma * gae_lambda,
            self._features,
            _at(samples),
        )

    def explained_variance(self, value: Vector, samples: Vector) -> NDArray[np.float64]:
        """Return `rollout.explained_variance` of values `(b, steps, m)` and of samples."""
        b, size, _ = samples.shape
        assert samples.shape[2] == self._features
        assert value.size == b * size
        share = np.empty(b)
        places = (_at(np.ascontiguousarray(value)), _at(samples))
        self._call("explained", b, size, *places, self._features, _at(share, np.float64))
        return share

    def cartpole(
        self,
        rows: Vector,
        physics: NDArray[np.float64],
        state: Mapping[str, NDArray[Any]],
        resets: Streams,
        actions: Streams,
        steps: int,
        limit: int,
        episodes: int = 0,
        forced: NDArray[np.int64] | None = None,
        layers: Vector | None = None,
    ) -> tuple[
        Vector,
        Vector,
        Vector,
        Vector,
        NDArray[np.bool_],
        NDArray[np.int64],
        list[list[float]],
    ]:
        """Return a rollout in CartPole, whose state moves on; `Rollout` names the parts.

        Args:
            rows: `(b, stride)`.
            physics: `(b, 5)` gravity, masses of cart and pole, length, force.
            state: of the simulator.
            resets: streams of first states.
            actions: streams of actions.
            steps: of each instance.
            limit: steps of an episode, 0 for no limit.
            episodes: after which the rollout stops, of one agent; 0: after all steps.
            forced: `(b, steps, m)` actions that the environment takes in place of the agents' own;
                -1 for their own.
            layers: where those of the samples go.

        Returns:
            samples, reward, value, next value, finished, elapsed, returns.

        Raises:
            NotFiniteError: an observation is not finite.
        """
        assert not episodes or len(rows) == 1, "agents would stop at different steps"
        b, m, _ = state["state"].shape
        samples = self.samples(b, steps * m)
        reward = np.ones((b, steps, m), dtype=np.float32)
        value, next_value = np.zeros_like(reward), np.zeros_like(reward)
        finished = np.empty((b, steps, m), dtype=np.bool_)
        elapsed = np.empty((b, steps, m), dtype=np.int64)
        ended, count = np.empty((b, steps * m)), np.empty(b, dtype=np.int32)
        taken = np.empty(b, dtype=np.int32)
        self._call(
            "cartpole",
            byref(self._net),
            byref(self._policy),
            b,
            _at(rows),
            _at(physics, np.float64),
            _at(state["state"], np.float64),
            _at(state["elapsed"], np.int64),
            _at(state["episode_return"], np.float64),
            _at(np.ascontiguousarray(resets.keys, dtype=np.uint64), np.uint64),
            m,
            steps,
            episodes,
            limit,
            _at(np.ascontiguousarray(actions.keys, dtype=np.uint64), np.uint64),
            actions.skip(steps * m),
            None if forced is None else _at(forced, np.int64),
            *map(_at, (samples, value, next_value)),
            _at(finished, np.bool_),
            _at(elapsed, np.int64),
            _at(ended, np.float64),
            _at(count, np.int32),
            _at(taken, np.int32),
            _at(layers),
        )
        returns = [row[:found].tolist() for row, found in zip(ended, count.tolist(), strict=True)]
        last = int(taken[0])
        if -1 in (steps_taken := taken.tolist()):
            raise NotFiniteError(steps_taken.index(-1))
        return (
            samples[:, : last * m],
            reward[:, :last],
            value[:, :last],
            next_value[:, :last],
            finished[:, :last],
            elapsed[:, :last],
            returns,
        )

    def episodes(
        self,
        rows: Vector,
        physics: NDArray[np.float64],
        state: NDArray[np.float64],
        limit: int,
    ) -> NDArray[np.float64]:
        """Return the returns `(b, m)` of greedy episodes in CartPole, nan where a state is none.

        Args:
            rows: `(b, stride)`.
            physics: `(b, 5)` gravity, masses of cart and pole, length, force.
            state: `(b, m, 4)` where episodes start; used up.
            limit: steps of an episode.
        """
        b, m, _ = state.shape
        returns = np.empty((b, m))
        arguments = (byref(self._net), byref(self._policy), b, _at(rows))
        places = [_at(array, np.float64) for array in (physics, state, returns)]
        self._call("episodes", *arguments, *places[:2], m, limit, places[2])
        return returns

    def step(
        self, rows: Vector, moments: Moments, rates: NDArray[np.float32], gradient: Vector
    ) -> None:
        """Clip gradients `(b, stride)`, and take one step, in place."""
        _step(self._library, self._rule, rows, moments, rates, gradient)

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._library, f"engine_{name}")(*arguments):
            raise MemoryError


class Layers:
    """The library for the layers of a network whose loss Python computes.

    Args:
        library: loaded.
        net: the network.
    """

    def __init__(self, library: ctypes.CDLL, net: Net) -> None:
        self._library = library
        self._net = structure(net)
        self._stride, self._inputs = net.stride, net.inputs
        self.outputs = sum(layers[-1][3] for layers in net.chains)
        self._kept: dict[tuple[int, int], Vector] = {}

    def forward(self, rows: Vector, x: Vector) -> Vector:
        """Return the outputs `(b, outputs, B)` of all chains for `x` `(b, inputs, B)`.

        What `backward` needs is kept until the next call with as many rows and samples.
        """
        b, _, size = x.shape
        assert rows.shape == (b, self._stride)
        if b > 1 and rows.strides[0] == 0:
            # One network for all: a sample's outputs do not depend on the others.
            together = x.transpose(1, 0, 2).reshape(1, x.shape[1], b * size)
            out = self.forward(rows[:1], together)
            return out.reshape(self.outputs, b, size).transpose(1, 0, 2)
        assert x.shape[1] == self._inputs
        kept, rows = self._kept.get((b, size)), np.ascontiguousarray(rows)
        if kept is None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            width = self._library.engine_kept(byref(self._net), size)
            kept = self._kept[b, size] = aligned_zeros((b, width), np.float32)
        out = np.empty((b, self.outputs, size), dtype=np.float32)
        x = np.ascontiguousarray(x, dtype=np.float32)
        arrays = (_at(out), _at(kept))
        if self._library.engine_forward(byref(self._net), b, _at(rows), _at(x), size, *arrays):
            raise MemoryError
        return out

    def backward(
        self, rows: Vector, slope: Vector, gradient: Vector | None, wanted: int = 0
    ) -> Vector:
        """Return the gradient by the last `wanted` inputs, `(b, wanted, B)`, of the last `forward`.

        Args:
            rows: `(b, stride)`.
            slope: `(b, outputs, B)`, that by the outputs.
            gradient: `(b, stride)`, where that by the parameters goes; None: nowhere.
            wanted: how many inputs.
        """
        b, _, size = slope.shape
        into = np.empty((b, wanted, size), dtype=np.float32)
        slope = np.ascontiguousarray(slope, dtype=np.float32)
        if self._library.engine_backward(
            byref(self._net),
            b,
            _at(rows),
            size,
            _at(slope),
            _at(self._kept[b, size]),
            _at(gradient),
            wanted,
            _at(into),
        ):
            raise MemoryError
        return into


class QLearning:
    """The library for Q-learning with one network; `DQN` has the equations.

    Args:
        library: loaded.
        net: Q, one chain.
        rule: the optimizer.
        target: of the TD errors.
    """

    def __init__(self, library: ctypes.CDLL, net: Net, rule: Rule, target: Target) -> None:
        assert len(net.chains) == 1
        self._library, self._stride = library, net.stride
        self._net, self._rule = structure(net), _optimizer(rule)
        self._td = _TD(target.double, target.is_masked, target.scale, target.gamma)
        self._features = 2 * net.inputs + 3

    def gradient(self, rows: Vector, ahead: Vector, sample: Vector, gradient: Vector) -> Vector:
        """Write the gradient of the mean Huber loss; return the TD errors `(b, B)`.

        Args:
            rows: `(b, stride)` parameters of Q.
            ahead: `(b, stride)` those of the target networks.
            sample: `(b, B, 2 o + 3)` transitions.
            gradient: `(b, stride)`; weights and biases are overwritten, the rest is left.
        """
        return self._call(rows, ahead, sample, (_at(gradient), *[None] * 5))

    def step(
        self,
        rows: Vector,
        ahead: Vector,
        sample: Vector,
        moments: Moments,
        rates: NDArray[np.float32],
    ) -> Vector:
        """Take one step, in place, on the clipped gradient; return the TD errors `(b, B)`."""
        held = map(_at, (moments.first, moments.second, moments.counts, rates))
        return self._call(rows, ahead, sample, (None, byref(self._rule), *held))

    def _call(self, rows: Vector, ahead: Vector, sample: Vector, what: Sequence[object]) -> Vector:
        b, size, features = sample.shape
        assert features == self._features
        assert rows.shape == ahead.shape == (b, self._stride)
        errors = np.empty((b, size), dtype=np.float32)
        first = (byref(self._net), byref(self._td), b, *map(_at, (rows, ahead, sample)))
        if self._library.engine_td(*first, size, _at(errors), *what):
            raise MemoryError
        return errors


def step(
    rule: Rule, rows: Vector, moments: Moments, rates: NDArray[np.float32], gradient: Vector
) -> None:
    """Take one step on columns of `(b, stride)` arrays, `(b, n)`, n a multiple of 16."""
    _step(library(), _optimizer(rule), rows, moments, rates, gradient)


def _step(
    library: ctypes.CDLL,
    rule: _Optimizer,
    rows: Vector,
    moments: Moments,
    rates: NDArray[np.float32],
    gradient: Vector,
) -> None:
    b, n = rows.shape
    distance = rows.strides[0]
    places = []
    for array in (rows, moments.first, moments.second, gradient):
        if array is not None:
            assert array.dtype == np.float32
            assert array.shape == (b, n)
            assert array.strides == (distance, 4) or b == 1
        places.append(None if array is None else array.ctypes.data)
    counts, rate = _at(moments.counts), _at(rates)
    first, second, third, last = places
    size = (b, n, distance // 4)
    library.engine_step(byref(rule), *size, first, second, third, counts, rate, last)


def _optimizer(rule: Rule) -> _Optimizer:
    b1, b2 = rule.betas
    return _Optimizer(KINDS[rule.kind], rule.eps, b1, b2, rule.max_norm, b1, b2)


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """Return what `networks.random_orthogonal` returns, without a BLAS, whose last bits differ."""
    long, short = max(rows, columns), min(rows, columns)
    vectors = np.zeros((short, -(-long // 16) * 16))
    vectors[:, :long] = rng.standard_normal((long, short)).T
    library().engine_orthogonal(*vectors.shape, _at(vectors, np.float64))
    Q = vectors[:, :long].T
    return Q if rows >= columns else Q.T


def order(library: ctypes.CDLL, stream: Streams, size: int) -> NDArray[np.int32]:
    """Return the next order `(size,)` that the engine draws from one stream."""
    found = np.empty(size, dtype=np.int32)
    keys = np.ascontiguousarray(stream.keys)
    drawn = stream.skip(size)
    if library.engine_order(_at(keys, np.uint64), drawn, size, _at(found, np.int32)):
        raise MemoryError
    return found


def function(library: ctypes.CDLL, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return exp, log or tanh of the numbers in x, a multiple of 16."""
    y = np.empty_like(x)
    kind = ("exp", "log", "tanh").index(name)
    library.engine_function(kind, x.size, _at(x), _at(y))
    return y


def structure(net: Net) -> _Net:
    """Return a network as the engine takes it."""
    made = _Net(net.stride, net.inputs, net.relu, net.has_critic, len(net.chains))
    for number, layers in enumerate(net.chains):
        assert 0 < len(layers) <= MAX_LAYERS
        made.chain[number].layers = len(layers)
        for depth, layer in enumerate(layers):
            made.chain[number].layer[depth] = _Layer(*layer)
    return made


_bytes_of: Any = c_char.from_buffer


def _at(array: NDArray[np.generic] | None, dtype: type[np.generic] = np.float32) -> int | None:
    """Return where an array lies."""
    if array is None:
        return None
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    try:
        return addressof(_bytes_of(array))  # five times faster than what is below
    except (TypeError, ValueError):  # nobody may write into it, or it is empty
        return array.ctypes.data


def library() -> ctypes.CDLL:
    """Return the engine, compiled if it is not in the cache.

    Raises:
        EngineError: there is none here.
    """
    engine = found()
    if isinstance(engine, str):
        raise EngineError(engine)
    return engine


@cache
def found() -> ctypes.CDLL | str:
    """Return the engine, or why there is none; a process looks for it once."""
    failed: list[str] = []
    try:
        for one in compiler.compilers():
            try:
                return _load(one)
            except (EngineError, OSError) as error:
                failed.append(str(error))
    except EngineError as error:
        return str(error)
    return "; ".join(failed)


def _load(one: Compiler) -> ctypes.CDLL:
    folder = compiler.cache()
    if folder is None:
        with compiler.private() as own:
            one.build(Path(own, one.name))
            return opened(Path(own, one.name))
    file = folder / one.name
    if compiler.is_whole(file):
        with suppress(EngineError, OSError):  # it fits another processor or machine
            return opened(file)
        file.unlink(missing_ok=True)
    with compiler.one_at_a_time(folder):
        if not compiler.is_whole(file):  # none, or a disk was full, or somebody wrote over it
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
    found.engine_learn.argtypes = [at] * 4 + [i] + [at] * 6 + [i, at, at, c_int64, i, i, i, at]
    found.engine_gradient.argtypes = [at] * 3 + [i] + [at] * 2 + [i, at, at]
    found.engine_step.argtypes = [at, i, i, i] + [at] * 6
    found.engine_layers.argtypes = [at, i]
    found.engine_layers.restype = c_int64
    found.engine_kept.argtypes = [at, i]
    found.engine_kept.restype = c_int64
    found.engine_forward.argtypes = [at, i, at, at, i, at, at]
    found.engine_backward.argtypes = [at, i, at, i, at, at, at, i, at]
    found.engine_step.restype = None
    found.engine_td.argtypes = [at, at, i, at, at, at, i] + [at] * 7
    f: type[ctypes._SimpleCData[Any]] = c_float
    found.engine_prepared.argtypes = [at]
    found.engine_prepared.restype = c_int64
    found.engine_prepare.argtypes = [at, i, at, at]
    found.engine_prepare.restype = None
    found.engine_act.argtypes = [at, at, i, at, at, i, at, at, at, i, i] + [at] * 5
    found.engine_values.argtypes = [at, at, i, at, i, at, i, at, at]
    found.engine_advantages.argtypes = [i] * 3 + [at] * 4 + [f] * 3 + [i, at]
    found.engine_advantages.restype = None
    found.engine_explained.argtypes = [i, i, at, at, i, at]
    found.engine_cartpole.argtypes = (
        [at, at, i] + [at] * 6 + [i, i, i, c_int64, at, c_int64] + [at] * 10
    )
    found.engine_episodes.argtypes = [at, at, i, at, at, at, i, c_int64, at]
    found.engine_orthogonal.argtypes = [i, i, at]
    found.engine_orthogonal.restype = None
    found.engine_arena.argtypes = [at, ctypes.c_size_t]
    found.engine_arena.restype = at
    found.engine_places.argtypes = [i, at, at, i, at]
    found.engine_add_moves.argtypes = [i, at, at, i, at]
    found.engine_squares.argtypes = [i, at, i, at, i, i] + [at] * 4
    found.engine_compare.argtypes = [at, i, i, at, at, i] + [at] * 3
    found.engine_order.argtypes = [at, c_int64, i, at]
    found.engine_function.argtypes = [i, i, at, at]
    found.engine_function.restype = None
    digest = check(found)
    if digest != _CHECK:
        raise EngineError(f"{file.name} computes other numbers than it should ({digest})")
    return found


def check(library: ctypes.CDLL) -> str:
    """Return a digest of a few steps of a small network, and of a rollout.

    Sums of another order, or a product and a sum that were made one operation, would change it.
    """
    o, h, k, size = 4, 19, 3, 37
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
    physics = np.tile([9.8, 1.0, 0.1, 0.5, 10.0], (2, 1))
    state = {
        "state": _pattern(2 * 3 * o).reshape(2, 3, o) * 0.1,
        "elapsed": np.zeros((2, 3), dtype=np.int64),
        "episode_return": np.zeros((2, 3)),
    }
    state["state"] = state["state"].astype(np.float64)
    resets, actions = (Streams(np.arange(i, i + 4, dtype=np.uint64).reshape(2, 2)) for i in (1, 5))
    found, reward, value, ahead, finished, _, _ = engine.cartpole(
        rows, physics, state, resets, actions, 20, 17
    )
    engine.advantages(reward, value, ahead, finished, 0.05, 0.99, 0.95, found)
    arrays = (rows, second, loss, found, state["state"])
    return blake2b(b"".join(array.tobytes() for array in arrays), digest_size=8).hexdigest()


def _pattern(count: int) -> NDArray[np.float32]:
    """Return numbers in (-1, 1) that are the same everywhere."""
    bits = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(2**20)
    return (bits.astype(np.float32) - np.float32(2**19)) / np.float32(2**19)
