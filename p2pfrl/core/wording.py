"""Parts of messages: how they quote a value, and which name they suggest."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_NAMES = 32


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest of `names`, or the names if none is close.

    >>> did_you_mean("metropoli", ["laplacian", "metropolis"])
    "; did you mean 'metropolis'?"
    """
    known = sorted(names)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    shown = [*known[:_MOST_NAMES], *(["..."] if len(known) > _MOST_NAMES else [])]
    return f"; known: {', '.join(shown)}" if known else "; there is none yet"


def show(value: object) -> str:
    """Return how a value of the file is quoted in a message: short, whatever it is."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
