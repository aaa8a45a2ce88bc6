"""Errors of a user's own code: what was raised, and in which line, in one line of text."""

from __future__ import annotations

import os
import sys
import traceback
from functools import cache
from pathlib import Path

FOREIGN = (Exception, SystemExit)
"""What a run may raise beside an interrupt: our errors, our bugs, and a call that ends Python."""
_OURS = (str(Path(__file__).parents[1]) + os.sep,)
_LONGEST = 300


class PassingError(BaseException):
    """What we raise ourselves through code of users, to end it: never an error of theirs."""


def foreign() -> tuple[type[BaseException], ...]:
    """Return what code of users may raise, for the `except` clause around a call of it.

    That is anything but an interrupt. A user's class that derives from `BaseException` alone can be
    in no list, so this looks at what is being raised when Python evaluates the clause.
    """
    error = sys.exc_info()[1]
    if error is None or isinstance(error, KeyboardInterrupt | PassingError):
        return ()
    return (type(error),)


def cause(error: BaseException, *libraries: str) -> str:
    """Return the type, the message and the line of an error, as one line of text.

    The line is the innermost one outside this package and `libraries`. One that is in no installed
    package comes first: it is most likely the user's own.

    Args:
        error: a caught error.
        libraries: folders of packages that call the user's code.
    """
    try:
        text = " ".join(str(error).split())
    except foreign() as second:  # the error's own code fails
        text = f"its text cannot be read: {type(second).__name__}"
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    name = type(error).__name__
    place = _line(error, tuple(folder + os.sep for folder in libraries))
    return f"{name}: {text}{place}" if text else f"{name}{place}"


def is_of_user(error: BaseException) -> bool:
    """Whether code that is neither ours nor of an installed package took part in an error."""
    return bool(_frames(error, ())[1])


@cache
def _libraries() -> tuple[str, ...]:
    """Return the folders of installed packages. Asking takes longer than most commands."""
    import sysconfig

    return tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib"))


def _frames(
    error: BaseException, libraries: tuple[str, ...]
) -> tuple[list[traceback.FrameSummary], list[traceback.FrameSummary]]:
    """Return the frames outside this package and `libraries`, and those in no package."""
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not frame.filename.startswith((*_OURS, *libraries))]
    own = [frame for frame in others if not frame.filename.startswith((*_libraries(), "<"))]
    return others, own


def _line(error: BaseException, libraries: tuple[str, ...]) -> str:
    others, own = _frames(error, libraries)
    found = own or others
    return f" ({_near(found[-1].filename)}:{found[-1].lineno})" if found else ""


def _near(name: str) -> str:
    """Return a path below the working directory as a relative one."""
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name
