"""The newest state of every section of a page, each with the number of its version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from p2pfrl.results.files import plain


class Board:
    """Keeps the newest text of every section; there is no queue, so a slow reader costs nothing.

    Attributes:
        version: number of changes so far.
    """

    def __init__(self) -> None:
        self.version = 0
        self._texts: dict[str, tuple[int, str]] = {}
        self._changed = asyncio.Event()

    def put(self, sections: Mapping[str, Any]) -> None:
        """Replace the sections that differ from what is there."""
        found = {
            name: json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
            for name, value in sections.items()
        }
        different = [
            name for name, text in found.items() if self._texts.get(name, (0, ""))[1] != text
        ]
        if not different:
            return
        self.version += 1
        for name in different:
            self._texts[name] = (self.version, found[name])
        self._changed.set()
        self._changed = asyncio.Event()

    def since(self, version: int, *, without: Sequence[str] = ()) -> str:
        """Return the sections that changed after a version, as the text of a JSON object."""
        parts = (
            f"{json.dumps(name)}:{text}"
            for name, (changed, text) in self._texts.items()
            if changed > version and name not in without
        )
        return "{" + ",".join(parts) + "}"

    async def change(self, version: int, patience: float) -> bool:
        """Wait at most `patience` seconds for a version after `version`; return whether it came."""
        if self.version > version:
            return True
        try:
            async with asyncio.timeout(patience):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True
