"""One reader of pictures for the whole program: each kind, and each room's way to it."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import yaml
from PIL import Image

from common.picture_files import read_picture
from data_script.raw_pictures import load_picture, load_strip
from datasets.written_stories import read_written_stories
from evaluation.samples import read_picture as read_frame

SIDE, GREY, WHITE, RED = 8, [130] * 3, [255] * 3, [255, 0, 0]


def array(value: float, kind: type) -> Image.Image:
    return Image.fromarray(np.full((SIDE, SIDE), value, kind))


def new(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), colour)


def palette() -> Image.Image:
    picture = new("P", 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    return picture


def turned() -> dict:
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


KINDS = {  # name -> picture, how it is saved, colour that its owner sees
    "rgb.png": (new("RGB", (1, 2, 3)), {}, [1, 2, 3]),
    "grey.png": (new("L", 130), {}, GREY),
    "bit.png": (new("1", 1), {}, WHITE),
    "16 bits.png": (array(130 * 256 + 99, np.uint16), {}, GREY),
    "16 bits.tif": (array(130 * 256, np.uint16), {}, GREY),
    "16 bits, clear.png": (array(130 * 256, np.uint16), {"transparency": 130 * 256}, WHITE),
    "32 bits.tif": (array(130 << 22, np.int32), {}, [130 >> 2] * 3),
    "32 bits of 16.tif": (array(130 * 256, np.int32), {}, GREY),
    "32 bits of 8.tif": (array(130, np.int32), {}, GREY),
    "float.tif": (array(130 / 255, np.float32), {}, GREY),
    "float to 255.tif": (array(130.2, np.float32), {}, GREY),
    "clear.png": (new("RGBA", (255, 0, 0, 0)), {}, WHITE),
    "half clear.png": (new("RGBA", (255, 0, 0, 128)), {}, [255, 127, 127]),
    "clear grey.png": (new("LA", (77, 0)), {}, WHITE),
    "clear colour.png": (new("RGB", (1, 2, 3)), {"transparency": (1, 2, 3)}, WHITE),
    "clear tone.png": (new("L", 7), {"transparency": 7}, WHITE),
    "palette.png": (palette(), {}, RED),
    "clear palette.png": (palette(), {"transparency": 0}, WHITE),
    "clear.gif": (palette(), {"transparency": 0}, WHITE),
    "clear.webp": (new("RGBA", (255, 0, 0, 0)), {"lossless": True, "exact": True}, WHITE),
    "print.jpg": (new("CMYK", (0, 0, 0, 125)), {"quality": 100}, GREY),
    "turned.png": (new("RGB", (9, 9, 9)), turned(), [9] * 3),
    "two views.mpo": (new("RGB", (130,) * 3), {"save_all": True, "quality": 100,
                      "append_images": [new("RGB", "red")]}, GREY),
    "plain.pgm": (new("L", 130), {}, GREY),
    "plain.bmp": (new("RGB", (130,) * 3), {}, GREY),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_all_rooms_see_what_the_owner_sees(tmp_path, name):
    picture, how, colour = KINDS[name]
    path = tmp_path / name
    picture.save(path, **how)
    pixels = read_picture(path)
    assert pixels.shape == (SIDE, SIDE, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - colour).max() <= 1
    story = tmp_path / "mine.yaml"
    story.write_text(yaml.safe_dump({"captions": ["A.", "B."], "first_frame": name}))
    first = read_written_stories(story, True)[0].first_frame
    for other in (first, load_picture(path), load_strip(path), read_frame(path)):
        np.testing.assert_array_equal(other, pixels)


def test_a_picture_is_turned_as_the_camera_was(tmp_path):
    wide = np.zeros((4, 6, 3), np.uint8)
    wide[:, :3] = RED
    Image.fromarray(wide).save(tmp_path / "t.png", **turned())
    for read in (read_picture, load_picture, read_frame):
        shown = read(tmp_path / "t.png")
        assert shown.shape == (6, 4, 3) and (shown[:3] == RED).all() and not shown[3:].any()


@pytest.mark.parametrize("chunk", [b"tEXt", b"iCCP", b"eXIf", b"zTXt", b"pHYs", b"PLTE", b"tRNS"])
def test_damaged_parts_are_a_sentence_or_passed_over(tmp_path, chunk):
    new("RGB", (1, 2, 3)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for body in (b"", b"\xff" * 5, b"Exif\0\0MM\0*\xff\xff\xff\xff"):
        part = chunk + body
        extra = struct.pack(">I", len(body)) + part + struct.pack(">I", zlib.crc32(part))
        (tmp_path / "b.png").write_bytes(data[:33] + extra + data[33:])
        try:
            assert read_picture(tmp_path / "b.png").shape == (SIDE, SIDE, 3)
        except ValueError as error:
            assert "b.png cannot be used" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_turned_tiffs_keep_their_pixels(tmp_path, mode):
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    values = grey.astype(np.uint16) * 257 if mode == "I;16" else grey
    picture = Image.fromarray(values)
    picture = picture if mode == "I;16" else picture.convert(mode)
    picture.save(tmp_path / "t.tif", **turned())
    expected = np.repeat(np.rot90(grey, -1)[..., None], 3, axis=2)
    assert np.abs(read_picture(tmp_path / "t.tif").astype(int) - expected).max() <= 1
