"""How often the garbage collector looks at many small objects that live on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Collect garbage once, then leave alone what is there and look more rarely, until the block ends.

    What a program froze before stays frozen: it knows its own objects, so none of them is looked at
    here.
    """
    is_ours = gc.get_freeze_count() == 0
    thresholds = gc.get_threshold()
    gc.collect()
    if is_ours:
        gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if is_ours:
            gc.unfreeze()
