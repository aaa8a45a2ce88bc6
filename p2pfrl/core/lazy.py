"""Modules that are imported when they are first used, such as torch and gymnasium.

The commands `--help`, `list` and `validate` need neither, and answer at once.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class LazyModule(ModuleType):
    """A module imported at its first attribute access.

    Used as `if TYPE_CHECKING: import torch` / `else: torch = LazyModule("torch")`: type checkers
    see the real one.
    """

    def __getattr__(self, name: str) -> object:
        value: object = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)  # found without this method from now on
        return value
