"""Pictures as the bytes of a story file, whole or one frame of a strip.

Colour trap: the originals hand RGB arrays to a library that expects BGR, so red and blue are
swapped inside the PNG bytes. Encoding and decoding here are the only places that know; every array
outside this file is RGB.

A strip is a column of square frames of one shot, of which a story shows one. PNG filters and
compression lean on what came before, so a reader has to go through all frames above the one it
wants. Strips written here need not: every frame starts anew inside the one compressed stream (a
deflate full flush, no filter that looks at the row above), has an IDAT chunk of its own, and a
private chunk says where they are. To any other reader it is an ordinary PNG of the whole strip.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

__all__ = ["decode_frame", "decode_picture", "encode_picture", "is_png", "picture_size"]

_START = b"\x89PNG\r\n\x1a\n"
_HEADER = len(_START) + 25  # bytes up to the end of the header chunk
_INDEX = b"stRP"  # ancillary, private, not to be copied by editors: positions of the frames' chunks


def encode_picture(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (bytes,) uint8, a PNG with red and blue swapped.

    Pictures twice, three times, ... as high as wide are taken for strips.
    """
    shape, dtype = getattr(rgb, "shape", ()), getattr(rgb, "dtype", type(rgb).__name__)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(f"give a uint8 array (height, width, 3), not {dtype} {shape}")
    height, width = shape[:2]
    if height > width and height % width == 0:
        return np.frombuffer(_encode_strip(rgb[..., ::-1]), np.uint8)
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
    height, width = picture_size(data)
    top = n * width
    if not is_png(data) or data[28] or height == width:  # 28: interlaced
        return decode_picture(data)[top : top + width]
    differences = _row_differences(data, n, width)
    if differences is not None:
        return _summed_up(differences)
    # A lower picture in the header makes the decoder stop at the frame's last row.
    header = struct.pack(">II", width, top + width) + data[24:29].tobytes()
    start = _START + _chunk(b"IHDR", header)
    with _opened(start + data[_HEADER:].tobytes()) as picture:
        return _array(picture.crop((0, top, width, top + width)))


def picture_size(data: np.ndarray) -> tuple[int, int]:
    """Height and width, from the header."""
    if is_png(data) and len(data) >= _HEADER:
        width, height = struct.unpack(">II", data[16:24].tobytes())
        return height, width
    with _opened(data) as picture:
        return picture.height, picture.width


def is_png(data: np.ndarray) -> bool:
    """Whether these are the bytes (n,) uint8 of a PNG, by its first ones."""
    array = isinstance(data, np.ndarray) and data.ndim == 1 and data.dtype == np.uint8
    return array and data[: len(_START)].tobytes() == _START


@contextmanager
def _opened(data: np.ndarray | bytes) -> Iterator[Image.Image]:
    """A picture with its header read; anything wrong with it, then or later, is a ValueError."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture cannot be decoded ({error})") from None


def _array(picture: Image.Image) -> np.ndarray:
    rgb = bytearray(picture.convert("RGB").tobytes("raw", "BGR"))
    return np.frombuffer(rgb, np.uint8).reshape(picture.height, picture.width, 3)


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk: length, kind, content, checksum."""
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


_ZLIB_START = _chunk(b"IDAT", b"\x78\x01")
_COLOUR = bytes([8, 2, 0, 0, 0])  # 8 bits, red, green and blue, not interlaced


def _encode_strip(pixels: np.ndarray) -> bytes:
    """(n * W, W, 3) uint8, channels in the order of the file -> a PNG with an index of frames."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(-1, width, 3 * width)  # (n, W, 3 W)
    filtered = np.empty((len(rows), width, 1 + 3 * width), np.uint8)
    filtered[..., 0] = 1  # every row as differences to the pixel on the left
    filtered[..., 1:4] = rows[..., :3]
    np.subtract(rows[..., 3:], rows[..., :-3], out=filtered[..., 4:])
    deflate = zlib.compressobj(1, wbits=-15, memLevel=9, strategy=zlib.Z_RLE)
    frames = [
        _chunk(b"IDAT", deflate.compress(frame) + deflate.flush(zlib.Z_FULL_FLUSH))
        for frame in filtered
    ]
    end = deflate.flush() + struct.pack(">I", zlib.adler32(filtered))
    header = _chunk(b"IHDR", struct.pack(">II", width, height) + _COLOUR)
    start = _HEADER + 12 + 4 * len(frames) + len(_ZLIB_START)
    positions = start + np.cumsum([0, *map(len, frames[:-1])])
    index = _chunk(_INDEX, positions.astype(">u4").tobytes())
    return b"".join(
        (_START, header, index, _ZLIB_START, *frames, _chunk(b"IDAT", end), _chunk(b"IEND", b""))
    )


def _row_differences(data: np.ndarray, n: int, width: int) -> np.ndarray | None:
    """Frame n as differences to the pixel on the left, (W, W, 3) in the file's colour order.

    None unless the PNG stores its rows so, as the originals' library and this module do; then the
    rows above need not be worked out. Broken ones are None as well, for a decoder to complain.
    """
    if data[24:29].tobytes() != _COLOUR:
        return None
    row = 1 + 3 * width
    size = width * row
    chunk = _frame_chunk(data, n)
    try:
        if chunk is not None:
            found = zlib.decompressobj(-15).decompress(chunk, size)
        else:
            found = _inflate(memoryview(data), n * size, size, row)
    except zlib.error:
        return None
    if len(found) != size:
        return None
    rows = np.frombuffer(found, np.uint8).reshape(width, row)
    return rows[:, 1:].reshape(width, width, 3) if (rows[:, 0] == 1).all() else None


def _summed_up(differences: np.ndarray) -> np.ndarray:
    """(W, W, 3) uint8 differences to the left, in the file's colour order -> RGB, contiguous."""
    sums = differences.copy()
    step = 1
    while step < len(sums):  # all sums of 2, then of 4, ...: twice as fast as one after another
        sums[:, step:] += sums[:, :-step]
        step *= 2
    rgb = np.empty_like(sums)
    for channel in range(3):  # three times as fast as [..., ::-1]
        rgb[..., channel] = sums[..., 2 - channel]
    return rgb


def _inflate(png: memoryview, start: int, size: int, row: int) -> bytes:
    """Bytes start to start + size of a PNG's compressed rows; nothing if a row is filtered
    otherwise than by differences to the left, as far as the first block of them shows."""
    # Without the zlib header (2 bytes) nothing is summed up for a checksum that is never reached.
    stream, header, parts, length, at = zlib.decompressobj(-15), 2, [], 0, _HEADER
    while length < start + size and at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            part = stream.decompress(png[at + 8 + header : end], start + size - length)
            if not length and np.any(np.frombuffer(part, np.uint8)[::row] != 1):
                return b""
            header = 0
            length += len(part)
            if length > start:
                parts.append(part)
        at = end + 4
    return b"".join(parts)[start - length :]


def _frame_chunk(data: np.ndarray, n: int) -> memoryview | None:
    """What deflates to frame n; None if there is no index, or one that is broken."""
    view = memoryview(data)
    index, length = view[_HEADER + 4 :], int.from_bytes(view[_HEADER : _HEADER + 4])
    checksum = int.from_bytes(index[4 + length : 8 + length])
    if index[:4] != _INDEX or 4 * n >= length or zlib.crc32(index[: 4 + length]) != checksum:
        return None
    position = int.from_bytes(index[4 + 4 * n : 8 + 4 * n])
    length = int.from_bytes(view[position : position + 4])
    known = view[position + 4 : position + 8] == b"IDAT"
    return view[position + 8 : position + 8 + length] if known else None
