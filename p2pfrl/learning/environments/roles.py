"""What the members of a world see and do where their spaces differ, of one size for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.wording import show
from p2pfrl.learning.environments.base import Spec
from p2pfrl.learning.environments.copies import View


class UnlikeError(Exception):
    """Members whose actions have no common form, in words."""

    @override
    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Roles:
    """The views of the members of a world, as vectors and actions of one size.

    Shorter observations are followed by zeros. Where the numbers of discrete actions differ, every
    member chooses among the most of them, and a mask at the end of its observation says which are
    its own. Where boxes of actions differ in size, every member gives as many numbers as the
    largest has, and the first ones are its own. Terry, Grammel, Son, Black, Agrawal, "Revisiting
    parameter sharing in multi-agent deep reinforcement learning", 2020, arXiv 2005.13625, pad so.

    Attributes:
        views: of the members, in order.

    Raises:
        UnlikeError: the actions of some members have no common form.
    """

    views: tuple[View, ...]

    def __post_init__(self) -> None:
        first, widest = self.views[0].actions, self._widest.actions
        for at, view in enumerate(self.views):
            own = view.actions
            is_alike = (own.actions, own.heads) == (first.actions, first.heads) and (
                bool(own.low) == bool(first.low)
            )
            is_part = all(
                ends == most[: len(ends)]
                for ends, most in ((own.low, widest.low), (own.high, widest.high))
            )
            if not (is_alike and is_part) and not (own.actions and first.actions):
                raise UnlikeError(
                    f"the actions of member {at} are {show(own.space)}, and those of member 0 "
                    f"{show(first.space)}: expected discrete ones of all members, or bounded boxes "
                    "of all; wrap the environment so that all members act in one of these ways, "
                    "such as by a list of values in place of a box"
                )

    @cached_property
    def spec(self) -> Spec:
        """Sizes and bounds for all members."""
        first, widest = self.views[0].spec, self._widest.actions
        images = {view.observations.image for view in self.views}
        return Spec(
            observation=self._size + sum(self._choices) * self.is_masked,
            state=0,
            actions=max(view.actions.actions for view in self.views),
            heads=first.heads,
            action_low=widest.low,
            action_high=widest.high,
            is_masked=self.is_masked,
            image=first.image if len(images) == 1 else (),
            members=len(self.views),
        )

    @cached_property
    def is_masked(self) -> bool:
        """Whether observations end with a mask of actions."""
        return self.views[0].is_masked or len({view.choices for view in self.views}) > 1

    @cached_property
    def idle(self) -> NDArray[np.float32]:
        """What members see that do not act any more, `(k, o)`: zeros, and a mask."""
        nothing = [np.zeros(view.observations.size, dtype=np.float32) for view in self.views]
        masks = [np.ones(sum(view.choices), dtype=np.float32) for view in self.views]
        return np.stack([self._padded(*pair) for pair in zip(nothing, masks, strict=True)])

    def vector(
        self, member: int, seen: object, info: Mapping[Any, Any], *, ended: bool
    ) -> NDArray[np.float32]:
        """Return an observation of a member.

        Raises:
            MismatchError: it is not of its space.
        """
        view = self.views[member]
        found, size = view.vector(seen, info, ended=ended), view.observations.size
        own = found[size:] if view.is_masked else np.ones(sum(view.choices), dtype=np.float32)
        return self._padded(found[:size], own)

    def take(self, member: int, action: NDArray[Any]) -> Any:
        """Return the action of a member for the environment."""
        actions = self.views[member].actions
        return actions.take(action[: len(actions.low)] if actions.low else action)

    def remarks(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return what is padded, in words."""
        sizes = [view.observations.size for view in self.views]
        counts = [view.actions.actions or len(view.actions.low) for view in self.views]
        others = "a mask leaves out" if self.spec.actions else "nobody uses"
        found = []
        for what, numbers in (("observations", sizes), ("actions", counts)):
            if len(set(numbers)) > 1:
                own = ", ".join(f"{n} of {name!r}" for n, name in zip(numbers, names, strict=True))
                how = "zeros follow" if what == "observations" else f"{others} the others"
                found.append(f"{what} have {max(numbers)} numbers for all members ({own}): {how}")
        return tuple(found)

    @cached_property
    def _widest(self) -> View:
        """The view of a member with the most numbers in an action."""
        return max(self.views, key=lambda view: len(view.actions.low))

    @cached_property
    def _size(self) -> int:
        return max(view.observations.size for view in self.views)

    @cached_property
    def _choices(self) -> tuple[int, ...]:
        return max((view.choices for view in self.views), key=sum)

    def _padded(self, seen: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.zeros(self.spec.observation, dtype=np.float32)
        out[: len(seen)] = seen
        if self.is_masked:
            out[self._size : self._size + len(mask)] = mask
        return out
