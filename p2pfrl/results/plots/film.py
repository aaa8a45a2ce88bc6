"""Films: moments of an episode as an animated GIF."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from p2pfrl.core.errors import RecordError
from p2pfrl.core.scene import Box, Rod, Scene
from p2pfrl.results.files import write_bytes

Frame = Scene | NDArray[np.uint8]
"""A scene, or pixels `(height, width, 3)`."""
_LARGEST = 320  # pixels
_FINER = 2  # drawn so many times as large, which makes edges smooth


def film(frames: Sequence[Frame], path: Path, *, per_second: int) -> None:
    """Write frames as a GIF that repeats."""
    images = [
        _drawn(frame) if isinstance(frame, Scene) else Image.fromarray(frame) for frame in frames
    ]
    duration = 1000 // per_second
    write_film(images, path, duration)


def write_film(images: Sequence[Image.Image], path: Path, duration: int) -> None:
    """Write pictures, each for some milliseconds, as a GIF that repeats.

    Raises:
        RecordError: it cannot be written.
    """
    held = BytesIO()
    images[0].save(held, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{path.parent}: cannot be made: {error.strerror}") from error
    write_bytes(path, held.getvalue())


def _drawn(scene: Scene) -> Image.Image:
    """Return the scene as pixels."""
    scale = _FINER * _LARGEST / max(scene.width, scene.height)
    size = round(scene.width * scale), round(scene.height * scale)
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12 * _FINER)
    for shape in scene.shapes:
        if isinstance(shape, Rod):
            points = [(x * scale, size[1] - y * scale) for x, y in shape.ends]
            draw.line(points, fill=shape.color, width=max(1, round(shape.width * scale)))
            continue
        x, y = shape.x * scale, size[1] - shape.y * scale
        if isinstance(shape, Box):
            right, up = shape.width * scale / 2, shape.height * scale / 2
            draw.rectangle((x - right, y - up, x + right, y + up), fill=shape.color)
        else:
            radius = shape.radius * scale
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shape.color)
            draw.text((x, y), shape.text, fill="white", font=font, anchor="mm")
    draw.text((4 * _FINER, size[1] - 4 * _FINER), scene.text, fill="black", font=font, anchor="ls")
    return image.reduce(_FINER)
