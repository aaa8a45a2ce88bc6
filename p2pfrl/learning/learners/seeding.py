"""The global random generators that programs of users draw from, seeded for a while."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pfrl.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and Python's `random` in the block, and put their states back at its end.

    Nothing of this package draws from them; what users and other libraries wrote does.

    Args:
        seed: 32 bits.
    """
    before = Generators()
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        before.put()


class Generators:
    """Where the global random generators are."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._legacy = np.random.get_state()  # noqa: NPY002
        self._torch = torch.random.get_rng_state()

    def put(self) -> None:
        """Put them back there."""
        random.setstate(self._python)
        np.random.set_state(self._legacy)  # noqa: NPY002
        torch.random.set_rng_state(self._torch)


def drawn() -> tuple[Any, ...]:
    """Return where the generators are; it is another value after somebody has drawn from one."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    numbers = torch.random.get_rng_state().tolist()
    return numbers, legacy[1].tolist(), legacy[2], random.getstate()
