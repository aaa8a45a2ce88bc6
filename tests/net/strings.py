"""Strings for properties, of characters that break what is not made for them.

By default hypothesis draws from all characters, and first looks at each of the million whether
UTF-8 has it: seconds, in every process that has no cache of it.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

CHARACTERS = (
    "\0\t\n\r\x1b\x7f\x85 !\"#$'()*,-./019:;=?@AZ[\\]_`az{|}~"
    "\xa0\xad\xe9\xdf\u0130\u017f\u0301\u05d0\u200d\u2028\u20ac\u4e2d\ufeff\uffff\U0001f600\U0010ffff"
)
"""Controls, ends of lines, what formats give a meaning, and UTF-8 of one to four bytes."""


def strings(max_size: int | None = None) -> SearchStrategy[str]:
    """Return a strategy for strings."""
    return st.text(CHARACTERS, max_size=max_size)
