"""Thresholds of the garbage collector. This module imports nothing that takes time."""

from __future__ import annotations

import gc
import sys

USUAL = gc.get_threshold()
"""Thresholds of `gc` as the process began."""

SELDOM = (50_000, 50, 100)
"""Thresholds of `gc` where nearly all that is made stays, or is freed when it is last used."""

_OURS = frozenset(
    [
        "PIL",
        "annotated_types",
        "attr",
        "attrs",
        "cffi",
        "cryptography",
        "cycler",
        "cyclopts",
        "cython_runtime",
        "dateutil",
        "docstring_parser",
        "fontTools",
        "jinja2",
        "kiwisolver",
        "markupsafe",
        "matplotlib",
        "mpl_toolkits",
        "msgpack",
        "networkx",
        "numpy",
        "p2pfrl",
        "packaging",
        "pydantic",
        "pydantic_core",
        "pyparsing",
        "rich",
        "safetensors",
        "scipy",
        "six",
        "threadpoolctl",
        "torch",
        "torchgen",
        "tree_sitter",
        "tree_sitter_toml",
        "typing_extensions",
        "typing_inspection",
        "uvloop",
    ]
)
"""Packages whose objects need not be found by a collection before the process ends."""
_INTERNAL = ("__editable__", "_cython_", "_distutils_hack", "_sysconfigdata_", "__m")
"""How names of modules begin that Python and its installers make: `__main__`, `__mp_main__`."""


def is_all_ours() -> bool:
    """Whether no other module was imported than Python's own, this package's and what it needs.

    Objects of other modules may hold open files, or things that end when they are collected.
    Environments of gymnasium are among them.
    """
    names = {name.partition(".")[0] for name in sys.modules}
    return all(name.startswith(_INTERNAL) for name in names - sys.stdlib_module_names - _OURS)
