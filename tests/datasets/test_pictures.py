"""Pictures as bytes: frames of strips read alone are those of the whole, whoever wrote them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from datasets.pictures import (
    decode_frame,
    decode_picture,
    encode_picture,
    frames_in_strip,
    picture_size,
)
from tests.noise import noise

SIDE, N = 24, 5
# Noise below, smooth above: the encoders choose all kinds of filters.
STRIP = (np.add.outer(np.arange(N * SIDE), np.arange(SIDE))[..., None] * [1, 2, 3]).astype(np.uint8)
STRIP[SIDE * 2 :] ^= noise(N * SIDE, SIDE)[SIDE * 2 :] % 64


def saved(picture: Image.Image, kind: str = "PNG", **how) -> np.ndarray:
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return np.frombuffer(stream.getvalue(), np.uint8)


def swapped(rgb: np.ndarray = STRIP) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(rgb[..., ::-1]))


LAYOUTS = {
    "ours": lambda: encode_picture(STRIP),
    "usual": lambda: saved(swapped()),
    "run lengths": lambda: saved(swapped(), compress_level=1, compress_type=3),
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


def test_cut_pictures():
    for cut in (0, 20, 60, 90):
        for data in (encode_picture(STRIP)[:cut], saved(swapped())[:cut]):
            with pytest.raises(ValueError, match="the picture cannot be decoded"):
                decode_frame(data, N - 1)


def test_which_pictures_are_columns_of_square_frames():
    sizes = {(8, 8): 1, (24, 8): 3, (20, 8): 0, (8, 16): 0}
    assert {size: frames_in_strip(*size) for size in sizes} == sizes
