"""Child processes: they end with their parent, and their parent alone interrupts them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait

from p2pfrl.core.interrupts import INTERRUPTED, SIGNALS

PATIENCE = 60.0
"""Seconds that an interrupted process has to save its run, before it is killed."""


@contextmanager
def withheld() -> Iterator[None]:
    """Block the signals in the block, and in processes that it starts, until these `follow`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow() -> None:
    """Let this child process end with its parent.

    A terminal sends its signals to parent and children alike, so that a child ignores them: SIGTERM
    alone interrupts it. If the parent dies, the child interrupts itself.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = parent_process()
    assert parent is not None
    end_with(lambda: wait([parent.sentinel]))


def end_with(ended: Callable[[], object]) -> None:
    """Interrupt this process when `ended` returns in another thread; kill it if it does not end."""

    def watch() -> None:
        ended()
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(PATIENCE)
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True, name="parent").start()
