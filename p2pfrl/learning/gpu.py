"""Whether there is a GPU that torch can use, found out without torch where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from p2pfrl.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvmap", "/dev/kfd", "/dev/dxg")
"""Files of which Linux has one where a driver of a GPU is loaded: NVIDIA, AMD, Windows' own."""


def lacking(nodes: Sequence[str] = _NODES) -> str:
    """Return why torch cannot compute on a GPU here, in words; "" if it can.

    Args:
        nodes: files, one of which is there where a GPU is. Looked at on Linux alone.
    """
    if sys.platform == "darwin":
        return "torch has no CUDA on this system"
    if sys.platform == "linux" and not any(map(os.path.exists, nodes)):
        return "this machine has no GPU"
    return "" if torch.cuda.is_available() else "torch sees no GPU here"
