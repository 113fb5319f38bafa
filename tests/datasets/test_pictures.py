"""Pictures as bytes: frames of strips read alone are those of the whole, whoever wrote them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from datasets.pictures import decode_frame, decode_picture, encode_picture, picture_size

RNG = np.random.default_rng(2)
SIDE, N = 24, 5
# Noise below, smooth above: the encoders choose all kinds of filters.
STRIP = (np.add.outer(np.arange(N * SIDE), np.arange(SIDE))[..., None] * [1, 2, 3]).astype(np.uint8)
STRIP[SIDE * 2 :] ^= RNG.integers(0, 64, STRIP[SIDE * 2 :].shape, dtype=np.uint8)


def saved(picture: Image.Image, kind: str = "PNG", **how) -> np.ndarray:
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return np.frombuffer(stream.getvalue(), np.uint8)


def swapped(rgb: np.ndarray = STRIP) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(rgb[..., ::-1]))


def chunks(data: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of every chunk of a PNG."""
    at, raw = 8, data.tobytes()
    while at < len(raw):
        (length,) = struct.unpack_from(">I", raw, at)
        yield raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        at += 12 + length


def in_small_chunks(data: np.ndarray, size: int = 100) -> np.ndarray:
    """The same PNG with its compressed stream cut up, as other libraries write it."""
    out = data[:8].tobytes()
    for kind, content in chunks(data):
        step = size if kind == b"IDAT" else max(1, len(content))
        for i in range(0, max(1, len(content)), step):
            part = content[i : i + step]
            out += struct.pack(">I", len(part)) + kind + part
            out += struct.pack(">I", zlib.crc32(kind + part))
    return np.frombuffer(out, np.uint8)


LAYOUTS = {
    "ours": lambda: encode_picture(STRIP),
    "usual": lambda: saved(swapped()),
    "run lengths": lambda: saved(swapped(), compress_level=1, compress_type=3),
    "stored": lambda: saved(swapped(), compress_level=0),
    "small chunks": lambda: in_small_chunks(saved(swapped())),
    "transparent": lambda: saved(swapped().convert("RGBA")),
}


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
def test_a_frame_read_alone_is_that_of_the_whole(make):
    data = make()
    assert picture_size(data) == (N * SIDE, SIDE)
    np.testing.assert_array_equal(decode_picture(data), STRIP)
    for n in range(N):
        frame = decode_frame(data, n)
        np.testing.assert_array_equal(frame, STRIP[n * SIDE : (n + 1) * SIDE])
        assert frame.flags.c_contiguous and frame.flags.writeable


@pytest.mark.parametrize(
    "kind, how", [("PNG", {"mode": "P"}), ("JPEG", {}), ("PNG", {"mode": "L"})]
)
def test_other_pictures_in_strips(kind, how):
    data = saved(swapped().convert(how.get("mode", "RGB")), kind)
    whole = decode_picture(data)
    for n in (0, N - 1):
        np.testing.assert_array_equal(decode_frame(data, n), whole[n * SIDE : (n + 1) * SIDE])


def test_our_strips_are_ordinary_pictures_to_other_readers():
    data = encode_picture(STRIP)
    with Image.open(io.BytesIO(data)) as picture:
        picture.verify()  # every checksum
    stream = b"".join(content for kind, content in chunks(data) if kind == b"IDAT")
    rows = np.frombuffer(zlib.decompress(stream), np.uint8).reshape(N * SIDE, 1 + 3 * SIDE)
    assert (rows[:, 0] == 1).all()  # differences to the left, so no row needs the one above
    pixels = rows[:, 1:].reshape(N * SIDE, SIDE, 3).cumsum(1, dtype=np.uint8)
    np.testing.assert_array_equal(pixels[..., ::-1], STRIP)


def test_a_frame_of_ours_needs_its_own_bytes_only():
    data = encode_picture(STRIP)
    at = [i for i in range(len(data)) if data[i : i + 4].tobytes() == b"IDAT"]
    assert len(at) == N + 2  # the stream's head and tail have chunks of their own
    for n in range(N):
        damaged = data.copy()
        damaged[at[1] + 4 : at[1 + n] - 4] = 0
        damaged[at[2 + n] :] = 0
        np.testing.assert_array_equal(decode_frame(damaged, n), STRIP[n * SIDE : (n + 1) * SIDE])


def test_of_a_usual_strip_what_lies_below_the_frame_is_not_read():
    data = saved(swapped())
    cut = data[: len(data) // 2]
    np.testing.assert_array_equal(decode_frame(cut, 0), STRIP[:SIDE])
    with pytest.raises(ValueError, match="the picture cannot be decoded"):
        decode_frame(cut, N - 1)


@pytest.mark.parametrize("cut", [0, 5, 20, 40, 60, 90])
def test_cut_pictures(cut):
    for data in (encode_picture(STRIP)[:cut], saved(swapped())[:cut]):
        with pytest.raises(ValueError, match="the picture cannot be decoded"):
            decode_frame(data, N - 1)


@pytest.mark.parametrize("position", [0, 37, 2**32 - 1])
def test_an_index_that_leads_nowhere_is_not_followed(position):
    raw = encode_picture(STRIP).tobytes()
    index = b"stRP" + struct.pack(">I", position) + raw[45 : 41 + 4 * N]
    raw = raw[:37] + index + struct.pack(">I", zlib.crc32(index)) + raw[45 + 4 * N :]
    data = np.frombuffer(raw, np.uint8)
    np.testing.assert_array_equal(decode_frame(data, 0), STRIP[:SIDE])


def test_an_index_that_leads_to_another_frame_is_not_followed():
    data = encode_picture(STRIP)
    data = data.copy()
    data[41:45], data[45:49] = data[45:49].copy(), data[41:45].copy()  # the checksum tells
    for n in range(N):
        np.testing.assert_array_equal(decode_frame(data, n), STRIP[n * SIDE : (n + 1) * SIDE])
