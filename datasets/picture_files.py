"""Pictures that people have, from any camera or program; a broken one is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

__all__ = ["opened", "upright"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # none of them runs a program
MAX_PIXELS = 64_000_000


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


def upright(picture: Image.Image) -> Image.Image:
    """In RGB, turned as the camera was, over white where transparent."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):  # the library would clip 16-bit grey, not scale it
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")
