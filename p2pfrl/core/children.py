"""Child processes: they end with their parent, and their parent alone interrupts them."""

from __future__ import annotations

import atexit
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext

from p2pfrl.core.garbage import is_all_ours
from p2pfrl.core.interrupts import INTERRUPTED, SIGNALS, ignore, repeat

PATIENCE = 60.0
"""Seconds that an interrupted process has to save its run, before it is killed."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def imported(*rooms: str) -> tuple[str, ...]:
    """Return the modules of these rooms of the package that this process has imported."""
    return tuple(
        name for name in sys.modules if name.startswith(tuple(f"p2pfrl.{r}" for r in rooms))
    )


def preloaded(modules: Sequence[str]) -> ForkServerContext:
    """Return what starts processes that have imported `modules` already, as far as they can be.

    A server imports them, once, when the first process starts, and forks itself for every process:
    it has one thread. Later calls with other modules change nothing.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([*modules])
    return context


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes started inside use one thread for linear algebra, unless the user set another.

    The libraries read the setting from the environment when they are loaded, so the new process
    itself cannot change it.
    """
    added = {name for name in _THREADS if name not in os.environ}
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def withheld() -> Iterator[None]:
    """Block the signals in the block, and in processes that it starts, until these `follow`.

    A process that is started in it is known to somebody who ends it before an interrupt is raised.
    """
    resource_tracker.ensure_running()  # when it starts, it unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow(environment: Mapping[str, str] | None = None) -> None:
    """Let this child process end with its parent.

    A terminal sends its signals to parent and children alike, so that a child ignores them: SIGTERM
    alone interrupts it. If the parent dies, the child interrupts itself.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    repeat()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = parent_process()
    assert parent is not None
    end_with(lambda: wait([parent.sentinel]))


def finish() -> None:
    """Do in a forked process what Python does at the end of a program, and leaves out there.

    Functions of `atexit` are called, finalizers among them; what other code has left as garbage is
    collected, and the files that it has left open are written.
    """
    ignore()
    atexit._run_exitfuncs()
    if is_all_ours():
        return
    gc.collect()
    for found in gc.get_objects():
        if issubclass(type(found), io.IOBase):
            with suppress(OSError, ValueError):  # a full disk, or a file that is closed
                found.flush()


def end_with(ended: Callable[[], object]) -> None:
    """Interrupt this process when `ended` returns in another thread; kill it if it does not end."""

    def watch() -> None:
        ended()
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(PATIENCE)
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True, name="parent").start()
