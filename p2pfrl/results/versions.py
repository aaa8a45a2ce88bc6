"""The version of this package, and the versions that a record names."""

from __future__ import annotations

import platform

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Return what a digest depends on besides the scenario: package versions and the processor type."""
    from importlib.metadata import version

    return {
        "p2pfrl": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "torch", "gymnasium", "msgpack")},
        "machine": platform.machine(),
    }
