"""Spaces of Gymnasium, as policies see them: actions, vectors of observations, and masks.

An observation becomes one float32 vector: the numbers of its boxes, and discrete values one-hot, in
the order of `gymnasium.spaces.flatten`. Bytes are divided by 255. Texts are left out. What an
environment returns is checked against its space, down to the parts of a `Dict` or `Tuple`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.wording import show

if TYPE_CHECKING:
    import gymnasium
else:
    gymnasium = LazyModule("gymnasium")

_PIXEL = np.float32(1 / 255)
_ROUNDING = 1e-6
_ARE_EXACT = ContextVar("exact_boxes", default=False)
_CHANNELS = (1, 3, 4)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in a gray image, of ITU-R Recommendation BT.601."""


class MismatchError(ValueError):
    """A value that is not of its space; the text goes on "returned ..."."""


class Unsupported(ValueError):  # noqa: N818  # a property of a space, not of a call
    """A space that policies cannot use; the text says why."""


@dataclass(frozen=True)
class Actions:
    """Actions of a space, as policies give them.

    Policies give one or several integers from 0, or one number per coordinate: within [-1, 1]
    where the coordinate has two bounds, which are then -1 and 1, and otherwise the action itself.

    Attributes:
        space: of the environment.
        actions: number of discrete actions; 0 if they are something else.
        heads: number of actions of each of several discrete choices.
        low, high: bounds of each coordinate, as the policy sees them.
    """

    space: gymnasium.Space[Any]
    actions: int = 0
    heads: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def unbounded(self) -> int:
        """How many coordinates lack a bound."""
        return sum(not np.isfinite(ends).all() for ends in zip(self.low, self.high, strict=True))

    def take(self, action: NDArray[Any]) -> Any:
        """Return the action for the environment."""
        space, spaces = self.space, gymnasium.spaces
        if isinstance(space, spaces.Discrete):
            return np.int64(action) + space.start
        if isinstance(space, spaces.MultiDiscrete):
            return action.reshape(space.shape).astype(space.dtype) + space.start
        if isinstance(space, spaces.MultiBinary):
            return action.reshape(space.shape).astype(space.dtype)
        return self._within(action)

    @cached_property
    def _box(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Middle and half width of a box, where it has both bounds, and whether it has all."""
        space = self.space
        assert isinstance(space, gymnasium.spaces.Box)
        low, high = (ends.reshape(space.shape) for ends in _ends(space))
        is_whole = np.isfinite(low) & np.isfinite(high)
        first, last = np.where(is_whole, low, 0.0), np.where(is_whole, high, 0.0)
        return first / 2 + last / 2, last / 2 - first / 2, is_whole, np.asarray(is_whole.all())

    def _within(self, action: NDArray[Any]) -> NDArray[Any]:
        """Return the action of a box for numbers `(a,)`, as the class describes them."""
        space = self.space
        assert isinstance(space, gymnasium.spaces.Box)
        middle, half, is_whole, are_all = self._box
        given = action.reshape(space.shape).astype(np.float64)
        values = middle + half * given
        if not are_all:
            values = np.where(is_whole, values, given)
        if space.dtype.kind in "iu":
            values = np.rint(values)
        # Rounding to the box's type may leave the box by one unit in the last place.
        taken: NDArray[Any] = np.clip(values.astype(space.dtype), space.low, space.high)
        return taken


def actions_of(space: gymnasium.Space[Any]) -> Actions:
    """Return the actions of a space.

    Raises:
        Unsupported: policies have no such actions.
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Discrete):
        return Actions(space, actions=int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return Actions(space, heads=tuple(int(n) for n in space.nvec.ravel()))
    if isinstance(space, spaces.MultiBinary):
        return Actions(space, heads=(2,) * int(np.prod(space.shape)))
    if not isinstance(space, spaces.Box):
        raise Unsupported("expected discrete ones, several discrete ones, or a box")
    low, high = _ends(space)
    is_whole = np.isfinite(low) & np.isfinite(high)
    return Actions(
        space,
        low=tuple(np.where(is_whole, -1.0, low).tolist()),
        high=tuple(np.where(is_whole, 1.0, high).tolist()),
    )


def _ends(space: gymnasium.spaces.Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds `(a,)` of a box; those that its `bounded_*` denies are infinite."""
    low = np.where(space.bounded_below, space.low.astype(np.float64), -np.inf)
    high = np.where(space.bounded_above, space.high.astype(np.float64), np.inf)
    return low.ravel(), high.ravel()


@dataclass(frozen=True)
class _Leaf:
    """A part of an observation that is no container.

    Attributes:
        path: keys and positions, "" for a whole observation.
        space: its space.
        size: numbers of it in the vector.
        image: (height, width, channels) in the vector; empty if it is no image.
    """

    path: tuple[str | int, ...]
    space: gymnasium.Space[Any]
    size: int
    image: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The part in words, to follow "an observation"."""
        return " of which " + "".join(f"[{key!r}]" for key in self.path) if self.path else ""


class Observations:
    """Vectors of the observations of a space.

    Attributes:
        size: numbers of a vector.
        image: (height, width, channels) where the whole observation is one image, else empty.
        dropped: paths of texts, which are left out.
        has_mask: whether the observations are a `Dict` with a mask, which is left out here.

    Args:
        space: of the environment.
        resize: (height, width) of images; None: as they are.
        gray: whether images become gray.
        without_mask: whether the key "action_mask" of a `Dict` is left out.

    Raises:
        Unsupported: the space has no vectors of one size, or there is no image to change.
    """

    def __init__(
        self,
        space: gymnasium.Space[Any],
        *,
        resize: tuple[int, int] | None = None,
        gray: bool = False,
        without_mask: bool = False,
    ) -> None:
        self.space = space
        self._resize, self._gray = resize, gray
        inner = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {}
        self.has_mask = without_mask and MASK in inner
        self._left_out = (MASK,) if self.has_mask else ()
        found = [*self._leaves(space, ())]
        self.dropped = [
            leaf.name.removeprefix(" of which ") for leaf in found if _is_text(leaf.space)
        ]
        self._found = {leaf.path: leaf for leaf in found}
        leaves = [leaf for leaf in found if leaf.size]
        images = [leaf for leaf in leaves if leaf.image]
        if not leaves:
            has_boxes = any(not _is_text(leaf.space) for leaf in found)
            raise Unsupported(
                "their shape has a 0, so there is no number in them"
                if has_boxes
                else "there is nothing in them but texts"
            )
        if (resize is not None or gray) and not images:
            key = "resize" if resize is not None else "gray"
            raise Unsupported(f"{key} needs an image: a Box of bytes with 2 or 3 dimensions")
        self.size = sum(leaf.size for leaf in leaves)
        self.image = images[0].image if len(leaves) == len(images) == 1 else ()
        low, high = zip(*map(_far, leaves), strict=True)
        self._low, self._high = np.concatenate(low), np.concatenate(high)

    def vector(self, seen: object) -> NDArray[np.float32]:
        """Return an observation as a finite vector `(size,)`.

        Raises:
            MismatchError: it is not of the space, or not finite.
        """
        if (leaf := self._found.get(())) is not None:
            return self._numbers(leaf, seen)
        parts = [*self._parts(self.space, seen, ())]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def far(self, vector: NDArray[np.float32]) -> str | None:
        """Return in words which number of a vector is far outside of its box; None if none is.

        Far is more than the width of the box away from it.
        """
        is_far = (vector < self._low) | (vector > self._high)
        if 1 not in is_far.tobytes():
            return None
        at = int(np.argmax(is_far))
        third = (float(self._high[at]) - float(self._low[at])) / 3
        low, high = float(self._low[at]) + third, float(self._high[at]) - third
        return f"number {at} of an observation is {vector[at]:g}, and its box goes from {low:g} to {high:g}"

    def _leaves(self, space: gymnasium.Space[Any], path: tuple[str | int, ...]) -> Iterator[_Leaf]:
        spaces = gymnasium.spaces
        if not isinstance(space, gymnasium.Space):
            raise Unsupported("no space of Gymnasium")
        if isinstance(space, spaces.Dict | spaces.Tuple):
            for key, child in _children(space):
                if path or key not in self._left_out:
                    yield from self._leaves(child, (*path, key))
        elif _is_text(space):
            yield _Leaf(path, space, 0)
        elif isinstance(space, spaces.Box):
            image = self._image(space)
            size = int(np.prod(image or space.shape))
            yield _Leaf(path, space, size, image)
        elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            yield _Leaf(path, space, int(spaces.flatdim(space)))
        else:
            raise Unsupported("they cannot be flattened to a vector of one size")

    def _image(self, space: gymnasium.spaces.Box) -> tuple[int, ...]:
        """Return (height, width, channels) of an image in the vector; empty for another box."""
        if space.dtype != np.uint8 or len(space.shape) not in (2, 3):
            return ()
        height, width, channels = _order(space.shape)
        return (*(self._resize or (height, width)), 1 if self._gray else channels)

    def _parts(
        self, space: gymnasium.Space[Any], seen: object, path: tuple[str | int, ...]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the numbers of an observation, part by part."""
        spaces = gymnasium.spaces
        if not isinstance(space, spaces.Dict | spaces.Tuple):
            leaf = self._found[path]
            if leaf.size:
                yield self._numbers(leaf, seen)
            return
        is_dict = isinstance(space, spaces.Dict)
        kind = Mapping if is_dict else Sequence
        children = dict(_children(space))
        if not isinstance(seen, kind) or len(seen) < len(children):
            keys = ", ".join(map(repr, children))
            expected = f"a dict with {keys}" if is_dict else f"a tuple of {len(children)}"
            raise MismatchError(f"{_of(path)} {show(seen)}; expected {expected}")
        for key, child in children.items():
            if not path and key in self._left_out:
                continue
            if is_dict and key not in seen:
                raise MismatchError(f"{_of(path)} without {key!r}; expected one of {show(space)}")
            yield from self._parts(child, seen[key], (*path, key))  # type: ignore[index]

    def _numbers(self, leaf: _Leaf, seen: object) -> NDArray[np.float32]:
        """Return the numbers of one part."""
        space, spaces = leaf.space, gymnasium.spaces
        try:
            given = np.asarray(seen)
        except (TypeError, ValueError) as error:
            raise MismatchError(f"{_of(leaf.path)} {show(seen)}: {error}") from error
        kind = given.dtype.kind

        def refuse(what: str) -> MismatchError:
            return MismatchError(f"{_of(leaf.path)} {what}; expected one of {show(space)}")

        if kind not in "biuf":
            raise refuse(f"{show(seen)}, no numbers")
        if given.shape != space.shape:
            raise refuse(f"of shape {given.shape}")
        if kind == "f" and np.dtype(space.dtype).kind != "f":
            raise refuse(f"of type {given.dtype}")
        if isinstance(space, spaces.Discrete):
            at = int(given) - int(space.start)
            if not 0 <= at < leaf.size:
                raise refuse(show(given.tolist()))
            one_hot = np.zeros(leaf.size, dtype=np.float32)
            one_hot[at] = 1.0
            return one_hot
        if isinstance(space, spaces.MultiDiscrete):
            if not np.all((given >= space.start) & (given < space.start + space.nvec)):
                raise refuse(show(given.tolist()))
            return np.asarray(spaces.flatten(space, given), dtype=np.float32)
        with np.errstate(over="ignore"):
            values = given.astype(np.float32)
        if leaf.image:
            values = self._changed(values)
        values = values.ravel()
        if 0 in np.isfinite(values).tobytes():
            bad = int(np.argmin(np.isfinite(values)))
            what = f"whose number {bad} is {values[bad]}"
            raise MismatchError(f"{_of(leaf.path)} {what}; expected finite numbers")
        if space.dtype == np.uint8:
            return values * _PIXEL
        if _ARE_EXACT.get() and isinstance(space, spaces.Box):
            low, high = _ends(space)
            exact = given.astype(np.float64).ravel()
            is_outside = (exact < low - _slack(low)) | (exact > high + _slack(high))
            if is_outside.any():
                bad = int(np.argmax(is_outside))
                what = f"whose number {bad} is {exact[bad]:.9g}, outside of its box"
                fix = "clip it, or declare wider bounds"
                raise MismatchError(
                    f"{_of(leaf.path)} {what} from {low[bad]:g} to {high[bad]:g}; {fix}"
                )
        return values

    def _changed(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an image as (height, width, channels), gray or resized if that was asked for."""
        height, width, channels = _order(image.shape)
        if image.ndim == 3 and image.shape != (height, width, channels):
            image = image.transpose(1, 2, 0)
        image = np.ascontiguousarray(image).reshape(height, width, channels)
        if self._gray and channels > 1:
            image = image[..., :3] @ _LUMA[:, None]
        return image if self._resize is None else resized(image, *self._resize)


def number(value: object) -> float:
    """Return a value that an environment gave as a number; NaN if it is none that floats hold.

    >>> number(np.float32(0.5)), number("1"), number(10**400)
    (0.5, nan, nan)
    """
    if isinstance(value, str | bytes):
        return float("nan")  # a text of a number is no number
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")


MASK = "action_mask"
"""Key of a mask in `info` or in a `Dict` of observations."""


def mask_of(found: object, choices: Sequence[int]) -> NDArray[np.float32]:
    """Return the mask `(sum of choices,)` of what an environment gave as one.

    Args:
        found: an array of truth values, or of 0 and 1; for several choices also a list of them.
        choices: number of actions of each choice.

    Raises:
        MismatchError: it has another size or other values, or allows nothing.
    """
    try:
        parts = [np.ravel(np.asarray(part)) for part in found] if len(choices) > 1 else [found]  # type: ignore[attr-defined]
        flat = np.concatenate([np.ravel(np.asarray(part)) for part in parts])
    except (TypeError, ValueError) as error:
        raise MismatchError(f"{MASK} {show(found)}: {error}") from error
    expected = f"expected {sum(choices)} numbers, 1 where an action is allowed and 0 where not"
    if flat.dtype.kind not in "biuf" or flat.shape != (sum(choices),):
        raise MismatchError(f"{MASK} {show(found)}; {expected}")
    if not np.isin(flat, (0, 1)).all():
        raise MismatchError(f"{MASK} {show(flat.tolist())}; {expected}")
    for part in np.split(flat, np.cumsum(choices)[:-1]):
        if not part.any():
            raise MismatchError(f"{MASK} {show(flat.tolist())}, which allows no action")
    return flat.astype(np.float32)


def resized(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return an image `(h, w, c)` as `(height, width, c)`: means over the areas of new pixels.

    >>> resized(np.arange(8, dtype=np.float32).reshape(2, 4, 1), 1, 2)[0, :, 0].tolist()
    [2.5, 4.5]
    """
    h, w, c = image.shape
    rows = (_areas(h, height) @ image.reshape(h, w * c)).reshape(height, w, c)
    columns: NDArray[np.float32] = np.matmul(_areas(w, width), rows)
    return columns


def _areas(old: int, new: int) -> NDArray[np.float32]:
    """Return the share `(new, old)` of each old pixel in each new one, along one side."""
    edges = np.arange(new + 1) * (old / new)
    begins, ends = edges[:-1, None], edges[1:, None]
    overlap = np.minimum(ends, np.arange(1, old + 1)) - np.maximum(begins, np.arange(old))
    share: NDArray[np.float32] = (np.maximum(overlap, 0.0) * (new / old)).astype(np.float32)
    return share


def _order(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (height, width, channels) of an image `(h, w)`, `(h, w, c)` or `(c, h, w)`."""
    if len(shape) == 2:
        return shape[0], shape[1], 1
    if shape[0] in _CHANNELS and shape[2] not in _CHANNELS:
        return shape[1], shape[2], shape[0]
    return shape[0], shape[1], shape[2]


def _children(
    space: gymnasium.spaces.Dict | gymnasium.spaces.Tuple[Any],
) -> Iterator[tuple[str | int, gymnasium.Space[Any]]]:
    if isinstance(space, gymnasium.spaces.Dict):
        yield from space.spaces.items()
    else:
        yield from enumerate(space.spaces)


def _is_text(space: gymnasium.Space[Any]) -> bool:
    """Whether values are texts; MiniGrid has a space of its own for missions."""
    dtype = space.dtype
    return isinstance(space, gymnasium.spaces.Text) or (dtype is not None and dtype.kind == "U")


def _far(leaf: _Leaf) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the ends `(size,)` of what is not far outside of a part's box."""
    low, high = (np.full(leaf.size, end, dtype=np.float32) for end in (-np.inf, np.inf))
    if isinstance(leaf.space, gymnasium.spaces.Box) and leaf.space.dtype != np.uint8:
        first, last = _ends(leaf.space)
        wide = last - first
        has_both = np.isfinite(wide)
        with allow_overflow():
            low = np.where(has_both, first - wide, -np.inf).astype(np.float32)
            high = np.where(has_both, last + wide, np.inf).astype(np.float32)
    return low, high


def _slack(end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far numbers may be outside of their box by rounding to float32."""
    return np.where(np.isfinite(end), _ROUNDING * (1.0 + np.abs(end)), 0.0)


@contextmanager
def exact_boxes() -> Iterator[None]:
    """In the block, refuse observations outside of their boxes. Runs note what is far outside."""
    token = _ARE_EXACT.set(True)
    try:
        yield
    finally:
        _ARE_EXACT.reset(token)


def _of(path: tuple[str | int, ...]) -> str:
    keys = "".join(f"[{key!r}]" for key in path)
    return f"an observation with {keys}" if path else "an observation"
