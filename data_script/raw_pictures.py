"""Pictures of raw data sets as RGB arrays, not larger than needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common.picture_files import opened, read_picture, upright
from datasets.pictures import frames_in_strip

SIZE = 512  # pixels: what Stable Diffusion draws; more would only fill disk and memory


def load_picture(path: Path, size: int = SIZE, pad: bool = False) -> np.ndarray:
    """(H, W, 3) uint8 RGB: upright, over white where transparent, shorter side at most `size`.

    pad: a white square around the whole picture instead, its side at most `size`.
    """
    with opened(path) as picture:
        picture = upright(picture)
        if pad:
            picture.thumbnail((size, size), Image.Resampling.LANCZOS)
            picture = ImageOps.pad(picture, (max(picture.size),) * 2, color="white")
        elif min(picture.size) > size:
            picture = ImageOps.cover(picture, (size, size), Image.Resampling.LANCZOS)
        return np.asarray(picture)


def load_strip(path: Path) -> np.ndarray:
    """(n * W, W, 3) uint8 RGB: the n square frames of a shot, one on top of the other."""
    rgb = read_picture(path)
    height, width = rgb.shape[:2]
    if not frames_in_strip(height, width):
        raise ValueError(
            f"picture {path} is {width}x{height}, not a column of square frames: get it again"
        )
    return rgb


def is_oblong(width: int, height: int) -> bool:
    """Whether a square part of a picture clearly leaves something out."""
    return max(width, height) > 1.1 * min(width, height)
