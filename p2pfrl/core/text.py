"""Text files of users: UTF-8, with or without a byte order mark.

Editors of Windows write a byte order mark, and some shells write UTF-16. The mark is skipped, and
UTF-16 is refused by its name.
"""

from __future__ import annotations

import codecs

MARK = codecs.BOM_UTF8
_OTHERS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class EncodingError(ValueError):
    """A file is no UTF-8 text.

    Attributes:
        line, column: where, counted from 1.
    """

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.line, self.column = line, column


def decode(content: bytes) -> str:
    r"""Return UTF-8 text without its byte order mark.

    >>> decode(b"\xef\xbb\xbfagents = 4")
    'agents = 4'

    Raises:
        EncodingError: it is another encoding, which is named where it can be recognized.
    """
    for mark, name in _OTHERS.items():
        if content.startswith(mark):
            raise EncodingError(f"expected UTF-8 text, got {name}; save the file as UTF-8")
    if b"\0" in content[:2] and content.count(b"\0") * 3 > len(content) > 2:
        raise EncodingError("expected UTF-8 text, got UTF-16 or UTF-32; save the file as UTF-8")
    content = content.removeprefix(MARK)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        start = content.rfind(b"\n", 0, error.start)
        raise EncodingError(
            f"not UTF-8 text: byte 0x{content[error.start]:02x}; save the file as UTF-8",
            content.count(b"\n", 0, error.start) + 1,
            error.start - start,
        ) from error
