"""Tensors in safetensors files, with the names and shapes of what they hold."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Name and shape of each tensor within a row of parameters, in order."""


def encode_tensors(arrays: Mapping[str, NDArray[Any]], layout: Shapes | None = None) -> bytes:
    """Return arrays as safetensors, with the names and shapes of `layout` as metadata.

    Equal arrays give equal bytes.
    """
    from safetensors.numpy import save

    metadata = (
        None
        if layout is None
        else {"layout": json.dumps([[name, list(shape)] for name, shape in layout])}
    )
    return save({name: np.ascontiguousarray(value) for name, value in arrays.items()}, metadata)


def decode_tensors(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file by name.

    Raises:
        ValueError: the content is not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as tensors

    try:
        return dict(sorted(tensors(content).items()))
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def decode_layout(content: bytes) -> Shapes | None:
    """Return the layout in the metadata of a safetensors file; None if it has none."""
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    if "layout" not in metadata:
        return None
    found = json.loads(metadata["layout"])
    return tuple((str(name), tuple(int(s) for s in shape)) for name, shape in found)


def decode_parameters(content: bytes) -> tuple[NDArray[np.floating], Shapes]:
    """Return the tensor named `parameters` and the layout in the metadata.

    Raises:
        ValueError: it has no layout.
    """
    parameters, layout = decode_tensors(content)["parameters"], decode_layout(content)
    if layout is None:
        raise ValueError("its metadata has no layout")
    return parameters, layout


def split(parameters: NDArray[Any], layout: Shapes) -> dict[str, NDArray[Any]]:
    """Return the tensors of rows of parameters: `(n, d)` -> by name `(n, *shape)`.

    Raises:
        ValueError: the rows are not those of the layout.
    """
    sizes = [int(np.prod(shape)) for _, shape in layout]
    if parameters.ndim != 2 or parameters.shape[1] != sum(sizes):
        raise ValueError(f"rows of {sum(sizes)} numbers expected, got shape {parameters.shape}")
    pieces = np.split(parameters, np.cumsum(sizes)[:-1], axis=1)
    return {
        name: piece.reshape(len(parameters), *shape)
        for (name, shape), piece in zip(layout, pieces, strict=True)
    }
