"""Memory of Python's objects in large pages.

A round of 16,384 agents touches a hundred megabytes of small objects. In pages of 4 KB, the
processor seldom knows where they lie, and looking it up takes a fifth of the round. Linux has pages
of 2 MB for arenas that lie side by side, if it is asked for them. Where it has none, or where there
is no engine, nothing changes.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import Structure, byref, c_void_p, cast

from p2pfrl.learning.native.choice import missing
from p2pfrl.learning.native.library import library


class _Allocator(Structure):
    """PyObjectArenaAllocator of the C API."""

    _fields_ = (("context", c_void_p), ("take", c_void_p), ("free", c_void_p))


def use_large_pages() -> bool:
    """Let arenas that this process takes from now on lie in large pages; return whether they may.

    Python gives each of them back as before, and those that it has stay where they are.
    """
    if sys.implementation.name != "cpython" or missing() is not None:
        return False
    arenas = _Allocator()
    ctypes.pythonapi.PyObject_GetArenaAllocator(byref(arenas))
    arenas.take = cast(library().engine_arena, c_void_p).value
    ctypes.pythonapi.PyObject_SetArenaAllocator(byref(arenas))
    return True
