"""Memory that a run frees and needs again."""

from __future__ import annotations

import os
from ctypes import CDLL
from functools import cache

_TRIM, _MMAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""
_MOST_KEPT, _LARGEST = 2**26, 2**25
"""Bytes: what may be free at the end of the heap; the largest array that comes from there."""


@cache
def keep_freed() -> None:
    """Let the C library keep memory that is freed, up to 64 MB, if it is glibc.

    Every round of a run needs arrays like those of the last one. If they went back in between, the
    system would have to clear each page again, which takes a tenth of a short round. Whoever sets
    malloc by the environment is left alone.
    """
    is_set = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    mallopt = None if is_set else getattr(CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP, _LARGEST)
        mallopt(_TRIM, _MOST_KEPT)
