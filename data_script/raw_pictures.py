"""Reads pictures of any origin as RGB arrays; a broken one is one sentence with its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # none of them runs a program
MAX_PIXELS = 64_000_000
SIZE = 512  # pixels: what Stable Diffusion draws; more would only fill disk and memory


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture with its header read; anything wrong with it, then or later, is a ValueError."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"picture {path} cannot be used ({error}): replace it with a whole "
            f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]} file of at most {MAX_PIXELS:,} pixels"
        ) from None


def load_picture(path: Path, size: int = SIZE, pad: bool = False) -> np.ndarray:
    """(H, W, 3) uint8 RGB: upright, over white where transparent, shorter side at most `size`.

    pad: a white square around the whole picture instead, its side at most `size`.
    """
    with opened(path) as picture:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):  # the library would clip 16-bit grey, not scale it
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
        picture = picture.convert("RGB")
        if pad:
            picture.thumbnail((size, size), Image.Resampling.LANCZOS)
            picture = ImageOps.pad(picture, (max(picture.size),) * 2, color="white")
        elif min(picture.size) > size:
            picture = ImageOps.cover(picture, (size, size), Image.Resampling.LANCZOS)
        return np.asarray(picture)


def load_strip(path: Path) -> np.ndarray:
    """(n * W, W, 3) uint8 RGB: the n square frames of a shot, one on top of the other."""
    with opened(path) as picture:
        rgb = np.asarray(picture.convert("RGB"))
    height, width = rgb.shape[:2]
    if height % width:
        raise ValueError(
            f"picture {path} is {width}x{height}, not a column of square frames: get it again"
        )
    return rgb
