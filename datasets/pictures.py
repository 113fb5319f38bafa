"""Pictures as the bytes of a story file, whole or one frame of a strip.

Colour trap: the originals hand RGB arrays to a library that expects BGR, so red and blue are
swapped inside the PNG bytes. Encoding and decoding here are the only places that know; every array
outside this file is RGB.

A strip is a column of square frames of one shot, of which a story shows one. PNG builds on what
came before, so a reader has to decode all frames above the one it wants, but none below.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from common.picture_files import MAX_PIXELS
from common.terminal import in_one_line

__all__ = [
    "decode_frame", "decode_picture", "encode_picture", "frames_in_strip", "is_png",
    "picture_size",
]  # fmt: skip

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_picture(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (bytes,) uint8, a PNG with red and blue swapped."""
    shape, dtype = getattr(rgb, "shape", ()), getattr(rgb, "dtype", type(rgb).__name__)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(f"give a uint8 array (height, width, 3), not {dtype} {shape}")
    height, width = shape[:2]
    stream = io.BytesIO()
    swapped = Image.frombytes("RGB", (width, height), rgb.tobytes(), "raw", "BGR")
    swapped.save(stream, "PNG", compress_level=1, compress_type=3)  # 3: run lengths, fast and small
    return np.frombuffer(stream.getvalue(), np.uint8)


def decode_picture(data: np.ndarray) -> np.ndarray:
    """(bytes,) uint8 -> (H, W, 3) uint8 RGB, contiguous; ValueError if it is no whole picture."""
    with _opened(data) as picture:
        return _array(picture)


def decode_frame(data: np.ndarray, n: int) -> np.ndarray:
    """Frame n, (W, W, 3) uint8 RGB, of a strip (n * W, W); what lies below it is not decoded."""
    width = picture_size(data)[1]
    top = n * width
    if is_png(data) and not data[28]:  # not interlaced
        # A lower picture in the header chunk makes the decoder stop at the frame's last row.
        chunk = b"IHDR" + struct.pack(">II", width, top + width) + data[24:29].tobytes()
        checksum = struct.pack(">I", zlib.crc32(chunk))
        data = data[:12].tobytes() + chunk + checksum + data[33:].tobytes()
    with _opened(data) as picture:
        return _array(picture.crop((0, top, width, top + width)))


def picture_size(data: np.ndarray) -> tuple[int, int]:
    """Height and width; nothing is decoded for them."""
    with _opened(data) as picture:
        return picture.height, picture.width


def frames_in_strip(height: int, width: int) -> int:
    """How many square frames a picture is a column of; 0 if it is none."""
    return height // width if height % width == 0 else 0


def is_png(data: np.ndarray) -> bool:
    """Whether these are the bytes (n,) uint8 of a PNG, by its first ones."""
    array = isinstance(data, np.ndarray) and data.ndim == 1 and data.dtype == np.uint8
    return array and data[: len(_SIGNATURE)].tobytes() == _SIGNATURE


@contextmanager
def _opened(data: np.ndarray | bytes) -> Iterator[Image.Image]:
    """A picture with its header read; anything wrong with it, then or later, is a ValueError."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
            yield picture
    except Exception as error:  # damaged bytes make the library raise nearly anything
        reason = in_one_line(error)
        raise ValueError(f"the picture cannot be decoded ({reason})") from None


def _array(picture: Image.Image) -> np.ndarray:
    rgb = bytearray(picture.convert("RGB").tobytes("raw", "BGR"))
    return np.frombuffer(rgb, np.uint8).reshape(picture.height, picture.width, 3)
