"""Output where standard output or error has an encoding that lacks some characters."""

from __future__ import annotations

from unicodedata import normalize

_WRITTEN = {
    "λ": "lambda",
    "σ": "sigma",
    "θ": "theta",
    "₁": "_1",
    "₂": "_2",
    "·": "-",
    "–": "-",
    "—": "-",
    "−": "-",
    "±": "+-",
    "×": "x",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "→": "->",
    "√": "sqrt",
    "∞": "inf",
    "…": "...",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "ß": "ss",
    "ø": "o",
    "ł": "l",
}


def in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return an approximation in ASCII of characters that cannot be encoded.

    It is a handler of encoding errors.

    >>> in_ascii(UnicodeEncodeError("ascii", "λ₂ of Nedić", 0, 11, "ordinal not in range"))
    ('lambda_2 of Nedic', 11)
    """
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_character, error.object[error.start : error.end])), error.end


def _character(character: str) -> str:
    known = _WRITTEN.get(character)
    if known is not None:
        return known
    plain = normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"
