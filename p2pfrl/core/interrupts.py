"""Interrupts: SIGINT (Ctrl-C), SIGTERM and SIGHUP end a program in the same way.

A signal raises `KeyboardInterrupt` where a run can be saved. Elsewhere, such as in imports, the
command line ends at once: an exception would be raised within whatever is being imported, and not
every module survives this. This module itself imports as little as possible.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
"""The exit code of a program that was interrupted."""
_SOON = 0.05
"""Seconds after which an interrupt that was lost is raised again."""


class AtOnce:
    """A handler of signals that ends the process with code 130, after a message.

    Args:
        say: prints a message and flushes it.
        message: what it prints.
    """

    def __init__(self, say: Callable[[str], None], message: str = "interrupted") -> None:
        self.say = say
        self.message = message

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """End the process."""
        try:
            self.say(self.message)
        finally:
            os._exit(INTERRUPTED)


def end_at_once(say: Callable[[str], None]) -> None:
    """Let interrupts end this process at once. A signal that is ignored, as by nohup, stays so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, AtOnce(say))


def ignore() -> None:
    """Let interrupts have no effect from now on."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def explained(message: str) -> Iterator[None]:
    """Print `message` on an interrupt in the block.

    Raises:
        KeyboardInterrupt: with the message, where interrupts do not end the process at once.
    """
    with _handled(lambda handler: AtOnce(handler.say, message)):
        try:
            yield
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(message) from error


@contextmanager
def raised() -> Iterator[None]:
    """Let interrupts raise `KeyboardInterrupt` in the block, if they would end the process.

    One that Python ignores, such as in a finalizer, is raised again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = sys.unraisablehook
    with _handled(lambda _: signal.default_int_handler):
        repeat()
        try:
            yield
        finally:
            sys.unraisablehook = before


def repeat() -> None:
    """Raise an interrupt again from now on, if it was raised where Python ignores exceptions."""
    before = sys.unraisablehook

    def hook(found: sys.UnraisableHookArgs) -> None:
        is_free = signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, _again)
        if issubclass(found.exc_type, KeyboardInterrupt) and is_free:
            signal.signal(signal.SIGALRM, _again)
            signal.setitimer(signal.ITIMER_REAL, _SOON)
        else:
            before(found)

    sys.unraisablehook = hook


def _again(number: int, frame: FrameType | None) -> None:
    """Do what an interrupt does now."""
    for handler in map(signal.getsignal, SIGNALS):
        if callable(handler):
            handler(number, frame)
            return


@contextmanager
def postponed() -> Iterator[None]:
    """Let an interrupt of the block take effect at its end, so that it can finish its files."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    own = {number: handler for number, handler in before.items() if callable(handler)}
    for number in own:
        signal.signal(number, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


@contextmanager
def restored() -> Iterator[None]:
    """Put the handlers of signals back at the end of the block; an event loop leaves its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _handled(
    change: Callable[[AtOnce], Callable[[int, FrameType | None], object]],
) -> Iterator[None]:
    """Replace the handlers that end this process at once in the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in SIGNALS}
    own = {number: handler for number, handler in found.items() if isinstance(handler, AtOnce)}
    for number, handler in own.items():
        signal.signal(number, change(handler))
    try:
        yield
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)
