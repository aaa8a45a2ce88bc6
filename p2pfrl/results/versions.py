"""Versions: that of this package, and those that a record lists."""

from __future__ import annotations

import platform

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Return the versions that affect a digest: packages and the processor type."""
    from importlib.metadata import version

    return {
        "p2pfrl": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "torch", "gymnasium", "msgpack")},
        "machine": platform.machine(),
    }
