"""Pictures that people have, from any camera or program; a broken one is one sentence.

The only place where a picture file is opened, so that builders, first frames and metrics see the
same pixels.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common.terminal import in_one_line

__all__ = [
    "MAX_PIXELS", "OTHER_SUFFIXES", "REPLACE", "SUFFIXES", "is_whole", "opened", "read_picture",
    "refuse_animation", "upright",
]  # fmt: skip

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # none of them runs a program
SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".mpo", ".webp", ".gif", ".bmp", ".tif", ".tiff",
            ".ppm", ".pgm"}  # fmt: skip
OTHER_SUFFIXES = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".eps", ".pdf", ".tga",
                  ".exr", ".dng", ".raw"}  # fmt: skip
MAX_PIXELS = 64_000_000
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
REPLACE = (
    f"replace it with a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file of at most "
    f"{MAX_PIXELS:,} pixels"
)

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # we refuse earlier


@contextmanager
def opened(path: Path | io.BytesIO, remedy: str = REPLACE) -> Iterator[Image.Image]:
    """A picture with its header read; anything wrong with it, then or later, is a ValueError that
    ends with `remedy`."""
    try:
        if not isinstance(path, io.BytesIO) and not Path(path).is_file():
            raise ValueError("it is no regular file")  # reading a pipe would wait for ever
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
            picture.filename = ""  # else the library maps it, and mixes up a TIFF that was turned
            yield picture
    except Exception as error:  # damaged files make the library raise nearly anything
        reason = in_one_line(error)
        raise ValueError(f"picture {path} cannot be used ({reason}): {remedy}") from None


def read_picture(path: Path, remedy: str = REPLACE) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a whole picture; ValueError, naming the file and what to do, if it is
    none."""
    with opened(path, remedy) as picture:
        refuse_animation(picture)
        return np.array(upright(picture))


def is_whole(path: Path) -> bool:
    """Whether a picture is there and not cut short.

    A PNG is taken to be whole by its first and last bytes, a hundredth of the work of decoding it.
    """
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(len(PNG_START))
        file.seek(-min(len(PNG_END), os.fstat(file.fileno()).st_size), os.SEEK_END)
        if (start, file.read()) == (PNG_START, PNG_END):
            return True
    try:
        read_picture(path)
    except ValueError:
        return False
    return True


def refuse_animation(picture: Image.Image) -> None:
    """ValueError if there is more than one picture in it, of which one would silently be taken."""
    if (frames := getattr(picture, "n_frames", 1)) > 1 and picture.format != "MPO":  # a camera's
        raise ValueError(f"it is an animation of {frames} frames; save some as pictures")


def upright(picture: Image.Image) -> Image.Image:
    """In RGB, turned as the camera was, over white where transparent.

    Grey of more than 8 bits is scaled, which the library would clip: 16 bits by their white; 32
    bits by the least of 8, 16 or 32 bits that holds them; floats from 0 to 1, or to 255.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        values, clear = np.asarray(picture), picture.info.get("transparency")
        picture = Image.fromarray(_eight_bits(values, picture.mode))
        if isinstance(clear, int):
            picture.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _eight_bits(grey: np.ndarray, mode: str) -> np.ndarray:
    """(H, W) of the library's `mode` I;16, I or F -> uint8."""
    if mode.startswith("I;16"):
        return (grey >> 8).astype(np.uint8)
    if mode == "I":
        grey = grey.astype(np.uint32)  # the library's are signed
        bits = next(bits for bits in (8, 16, 32) if int(grey.max()) < 2**bits)
        return (grey >> (bits - 8)).astype(np.uint8)
    low, high = float(grey.min()), float(grey.max())
    if not 0 <= low <= high <= 255:  # nor if one is NaN
        raise ValueError(f"its values go from {low:g} to {high:g}, not from 0 to 1 or 255")
    return np.rint(grey * (255 if high <= 1 else 1)).astype(np.uint8)
