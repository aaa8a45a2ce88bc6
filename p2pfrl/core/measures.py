"""Names of measures of environments and learners, beside columns with names of ours."""

from __future__ import annotations

from collections.abc import Callable

_MARK = "measure."


def apart(name: str, is_ours: Callable[[str], bool]) -> str:
    """Return the name of a measure, with a prefix if `is_ours` says that the name is taken.

    Different names stay different.

    >>> [apart(name, {"return"}.__contains__) for name in ("speed", "return", "measure.return")]
    ['speed', 'measure.return', 'measure.measure.return']
    """
    plain = name
    while plain.startswith(_MARK):
        plain = plain.removeprefix(_MARK)
    return _MARK + name if is_ours(plain) else name
