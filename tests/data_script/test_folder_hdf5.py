"""A folder of pictures and captions becomes a story file, or one clear sentence."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_script import folder_hdf5
from data_script.folder_hdf5 import build_folder_file, load_picture
from datasets.story_hdf5 import SPLITS, StoryFile, validate_story_file

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(2)


def draw(path: Path, height: int = 6, width: int = 9) -> np.ndarray:
    rgb = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(path)
    return rgb


def story(name: object, images=("a.png", "b.png"), **more) -> dict:
    frames = [{"image": image, "caption": f"{name} sees {image}."} for image in images]
    return {"story": name, "frames": frames, **more}


def folder(path: Path, stories: list, name: str = "captions.jsonl") -> Path:
    path.mkdir(exist_ok=True)
    draw(path / "a.png"), draw(path / "b.png", 4, 5), draw(path / "c.png")
    lines = [line if isinstance(line, str) else json.dumps(line) for line in stories]
    (path / name).write_text("\n".join(lines), "utf-8")
    return path


def names(path: Path, split: str) -> list[str]:
    file = StoryFile(path, split)
    return [file.story_id(i) for i in range(len(file))]


def test_json_lines_round_trip(tmp_path):
    data = folder(tmp_path / "d", [])
    (data / "deep").mkdir()
    pictures = [draw(data / "deep" / f"{i}.png", 5 + i, 12 - i) for i in range(3)]
    frames = [{"image": f"deep/{i}.png", "caption": f" Größe\n{i} "} for i in range(3)]
    (data / "captions.jsonl").write_text(json.dumps({"story": 7, "frames": frames}) + "\n\n")
    build_folder_file(data, tmp_path / "new" / "s.h5")
    assert validate_story_file(tmp_path / "new" / "s.h5", ("train",)) == {"train": 1}
    file = StoryFile(tmp_path / "new" / "s.h5", "train")
    assert file.pictures_per_story == 3 and file.story_id(0) == "7" and file.labels(0) is None
    assert file.captions(0) == ["Größe 0", "Größe 1", "Größe 2"]
    for k, rgb in enumerate(pictures):
        np.testing.assert_array_equal(file.picture(0, k), rgb)


def test_csv_with_interleaved_stories_and_splits(tmp_path):
    data = folder(tmp_path / "d", [])
    (data / "captions.jsonl").unlink()
    rows = ['x,a.png,"One, two.",val', "y,a.png,Y one.,train", "x,b.png,X two.,val"]
    text = "\r\n".join(["story,image,caption,split", *rows, "y,b.png,Y two.,train", ""])
    (data / "captions.csv").write_text(text, "utf-8-sig")
    assert build_folder_file(data, tmp_path / "s.h5") == {"train": 1, "val": 1, "test": 0}
    file = StoryFile(tmp_path / "s.h5", "val")
    assert file.captions(0) == ["One, two.", "X two."] and file.story_id(0) == "x"
    assert names(tmp_path / "s.h5", "train") == ["y"]


def test_splits_by_hash_are_stable_and_about_right(tmp_path):
    data = folder(tmp_path / "d", [story(f"s{i}") for i in range(300)])
    counts = build_folder_file(data, tmp_path / "s.h5", size=8)
    assert sum(counts.values()) == 300
    assert 210 <= counts["train"] <= 265 and counts["val"] >= 12 and counts["test"] >= 12
    before = {split: set(names(tmp_path / "s.h5", split)) for split in SPLITS}
    more = [story(f"s{i}") for i in reversed(range(320))]
    build_folder_file(folder(tmp_path / "d", more), tmp_path / "t.h5", size=8)
    for split in SPLITS:  # more stories in another order move none of the old ones
        assert before[split] <= set(names(tmp_path / "t.h5", split))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_split_has_a_story_if_there_are_three(tmp_path, count):
    for salt in "abcd":
        data = folder(tmp_path / salt, [story(f"{salt}{i}") for i in range(count)])
        counts = build_folder_file(data, tmp_path / "s.h5")
        assert sum(counts.values()) == count
        assert counts["train"] >= 1 and (count < 3 or min(counts.values()) >= 1)


def test_size_shrinks_the_shorter_side_and_never_enlarges(tmp_path):
    draw(tmp_path / "tall.png", 100, 40), draw(tmp_path / "small.png", 6, 9)
    assert load_picture(tmp_path / "tall.png", 20).shape == (50, 20, 3)
    assert load_picture(tmp_path / "small.png", 20).shape == (6, 9, 3)
    assert load_picture(tmp_path / "tall.png").shape == (100, 40, 3)
    draw(tmp_path / "photo.png", 600, 800)
    assert load_picture(tmp_path / "photo.png").shape == (512, 683, 3)


def test_pad_keeps_the_whole_picture_on_a_white_square(tmp_path):
    rgb = draw(tmp_path / "wide.png", 4, 10)
    padded = load_picture(tmp_path / "wide.png", pad=True)
    assert padded.shape == (10, 10, 3)
    np.testing.assert_array_equal(padded[3:7], rgb)
    assert padded[:3].min() == padded[7:].min() == 255
    assert load_picture(tmp_path / "wide.png", 5, pad=True).shape == (5, 5, 3)
    draw(tmp_path / "line.png", 1, 2000)  # would be of no height when shrunk in proportion
    assert load_picture(tmp_path / "line.png", pad=True).shape == (512, 512, 3)


def test_oblong_pictures_are_pointed_out_unless_padded(tmp_path, capsys):
    data = folder(tmp_path / "d", [story("x"), story("y", ("a.png", "c.png"))])
    draw(data / "c.png", 50, 52)
    build_folder_file(data, tmp_path / "s.h5")  # a.png is 9x6, twice, and b.png 5x4
    assert "3 of 4 pictures are not square" in capsys.readouterr().out
    build_folder_file(data, tmp_path / "s.h5", pad=True)
    assert "not square" not in capsys.readouterr().out
    file = StoryFile(tmp_path / "s.h5", "train")
    assert file.picture(0, 0).shape == (9, 9, 3)


def test_every_kind_of_picture_becomes_upright_rgb(tmp_path):
    def saved(picture: Image.Image, name: str, **how) -> list:
        picture.save(tmp_path / name, **how)
        rgb = load_picture(tmp_path / name)
        assert rgb.dtype == np.uint8 and rgb.ndim == 3
        return rgb[0, 0].tolist()

    assert saved(Image.new("L", (2, 2), 77), "grey.png") == [77] * 3
    assert saved(Image.new("LA", (2, 2), (77, 0)), "clear grey.png") == [255] * 3
    assert saved(Image.new("1", (2, 2), 1), "bit.png") == [255] * 3
    assert saved(Image.new("RGBA", (2, 2), (255, 0, 0, 0)), "clear.png") == [255] * 3
    assert saved(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), "half.png") == [255, 127, 127]
    palette = Image.new("RGB", (2, 2), (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert saved(palette, "palette.png") == [9, 8, 7]
    assert saved(palette, "hole.gif", transparency=palette.getpixel((0, 0))) == [255] * 3
    deep = Image.fromarray(np.full((2, 2), 40_000, np.uint16))
    assert saved(deep, "deep.png") == [156] * 3
    cmyk = saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "print.jpg")
    assert cmyk[0] < 30 and min(cmyk[1:]) > 180

    lying = Image.new("RGB", (4, 2), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    saved(lying, "turned.jpg", exif=exif)
    assert load_picture(tmp_path / "turned.jpg").shape == (4, 2, 3)


def test_which_captions_file(tmp_path):
    data = folder(tmp_path / "d", [story("x")])
    (data / "other.csv").write_text("story,image,caption\ny,a.png,A.\ny,b.png,B.\n")
    build_folder_file(data, tmp_path / "s.h5", captions="other.csv")
    assert names(tmp_path / "s.h5", "train") + names(tmp_path / "s.h5", "test") == ["y"]


def test_split_hash_may_overrule_the_file(tmp_path):
    data = folder(tmp_path / "d", [story(f"s{i}", split="test") for i in range(4)])
    assert build_folder_file(data, tmp_path / "s.h5")["test"] == 4
    assert build_folder_file(data, tmp_path / "s.h5", split="hash")["test"] < 4


def bad_picture(content: bytes):
    def make(path: Path) -> Path:
        data = folder(path, [story("x"), story("y", ("a.png", "bad.png"))])
        (data / "bad.png").write_bytes(content)
        return data

    return make


def png_bytes(width: int, height: int) -> bytes:
    """A PNG that claims a size; its pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def postscript() -> bytes:
    """A good picture of a kind that is opened by running another program: must not be tried."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "EPS")
    return stream.getvalue()


def lines(*stories, **how):
    return lambda path: folder(path, list(stories), **how)


def raw(content: bytes, name: str = "captions.jsonl"):
    def make(path: Path) -> Path:
        data = folder(path, [])
        (data / "captions.jsonl").unlink()
        (data / name).write_bytes(content)
        return data

    return make


def two_files(path: Path) -> Path:
    (folder(path, [story("x")]) / "captions.csv").write_text("story,image,caption\n")
    return path


HEAD = b"story,image,caption\n"
BAD = {
    "no folder": (lambda p: p, FileNotFoundError, "d is not a folder: correct the path"),
    "no captions": (
        lambda p: folder(p, [], "notes.txt"),
        FileNotFoundError,
        "d holds no captions.jsonl or captions.csv: name one file with --captions",
    ),
    "two files": (two_files, FileNotFoundError, "d holds both captions.jsonl and captions.csv"),
    "nothing told": (lines("", ""), ValueError, "captions.jsonl tells no story: write some"),
    "not json": (lines(story("x"), "{story"), ValueError, "line 2 is not .*: correct it, see --h"),
    "a list": (lines("[1]"), ValueError, "line 1 is not .*TypeError"),
    "no frames": (lines('{"story": "x"}'), ValueError, "line 1 is not .*KeyError: 'frames'"),
    "frames a number": (lines('{"story": "x", "frames": 3}'), ValueError, "line 1 is not"),
    "frames of text": (lines('{"story": "x", "frames": ["a.png"]}'), ValueError, "line 1 is not"),
    "zero frames": (lines(story("x", ())), ValueError, "line 1: 'image' is missing or empty: fill"),
    "deep json": (lines("[" * 100_000), ValueError, "line 1 is not .*nested too deeply"),
    "no name": (lines(story(None)), ValueError, "line 1: 'story' is missing or empty: fill it in"),
    "path name": (lines(story("../x")), ValueError, "line 1: story '../x': use 1-100 letters"),
    "one frame": (lines(story("x", ["a.png"])), ValueError, "'x' has 1 frames .* 2 to 5"),
    "uneven": (
        lines(story("x"), story("y", ["a.png", "b.png", "c.png"])),
        ValueError,
        "captions.jsonl: story 'y' has 3 frames and 'x' 2: give every story the same number",
    ),
    "twice": (
        lines(story("x"), story("y"), story("x")),
        ValueError,
        "line 3 says again what .*, line 1 says",
    ),
    "no picture": (
        lines(story("x", ["a.png", "gone.png"])),
        FileNotFoundError,
        "line 1: picture .*gone.png does not exist: correct the name",
    ),
    "folder as picture": (lines(story("x", ["a.png", "."])), FileNotFoundError, "does not exist"),
    "no caption": (
        lines({"story": "x", "frames": [{"image": "a.png", "caption": " \n"}]}),
        ValueError,
        "line 1: 'caption' is missing or empty: fill it in",
    ),
    "separator": (
        lines({"story": "x", "frames": [{"image": "a.png", "caption": "a|b"}]}),
        ValueError,
        "line 1: remove '|' from the caption 'a|b'",
    ),
    "nul": (
        lines({"story": "x", "frames": [{"image": "a.png", "caption": "a\0b"}] * 2}),
        ValueError,
        "line 1: remove '.x00' from the caption",
    ),
    "split": (lines(story("x", split="dev")), ValueError, "split 'dev' is unknown: use train, val"),
    "half split": (
        lines(story("x", split="train"), story("y")),
        ValueError,
        "story 'y' names no split: add it or say --split hash",
    ),
    "latin-1": (raw("Größe".encode("latin-1")), ValueError, "captions.jsonl is not UTF-8 .*save"),
    "csv head": (
        raw(b"name,picture\nx,a.png\n", "captions.csv"),
        ValueError,
        "captions.csv must begin with the line 'story,image,caption' .commas.*: add it",
    ),
    "csv empty": (raw(b"", "captions.csv"), ValueError, "captions.csv must begin with the line"),
    "csv short": (
        raw(HEAD + b"x,a.png,A.\nx,b.png\n", "captions.csv"),
        ValueError,
        "captions.csv, line 3: 'caption' is missing or empty",
    ),
    "csv huge": (
        raw(HEAD + b'x,a.png,"' + b"A" * 200_000, "captions.csv"),
        ValueError,
        "captions.csv, line .*field larger",
    ),
    "csv two splits": (
        raw(
            HEAD.replace(b"n\n", b"n,split\n") + b"x,a.png,A,val\nx,b.png,B,test\n", "captions.csv"
        ),
        ValueError,
        "line 3: story 'x' is in two splits: choose one",
    ),
    "zero bytes": (bad_picture(b""), ValueError, "picture .*bad.png cannot be used .*: replace it"),
    "html": (bad_picture(b"<html>gone"), ValueError, "picture .*bad.png cannot be used"),
    "cut short": (bad_picture(png_bytes(64, 64)), ValueError, "bad.png cannot be used .*truncated"),
    "bomb": (bad_picture(png_bytes(9_000, 9_000)), ValueError, "9000x9000 pixels are too many"),
    "huge bomb": (bad_picture(png_bytes(90_000, 90_000)), ValueError, "bad.png .*bomb.*replace"),
    "postscript": (
        bad_picture(postscript()),
        ValueError,
        "bad.png cannot be used .cannot identify",
    ),
}


@pytest.mark.parametrize("make, error, message", BAD.values(), ids=BAD)
def test_bad_folders(tmp_path, make, error, message):
    data = make(tmp_path / "d")
    with pytest.raises(error, match=message) as caught:
        build_folder_file(data, tmp_path / "s.h5")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path != data] == []


def test_split_file_needs_splits(tmp_path):
    data = folder(tmp_path / "d", [story("x"), story("y")])
    with pytest.raises(ValueError, match="story 'x' names no split"):
        build_folder_file(data, tmp_path / "s.h5", split="file")


def script(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "data_script/folder_hdf5.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_script_builds_replaces_and_explains(tmp_path):
    data = folder(tmp_path / "d", [story(f"s{i}") for i in range(3)])
    target = tmp_path / "s.h5"
    done = script("--data_dir", data, "--save_path", target)
    assert done.returncode == 0, done.stderr
    assert "1 train, 1 val, 1 test stories" in done.stdout and "writes it" in done.stdout
    before = target.read_bytes()
    (data / "b.png").write_bytes(b"")
    failed = script("--data_dir", data, "--save_path", target)
    assert failed.returncode == 1 and "replaces it" in failed.stdout
    assert "error: picture" in failed.stderr and "Traceback" not in failed.stderr
    assert target.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_the_example_of_the_help_runs(tmp_path):
    text = folder_hdf5.__doc__
    for name, marker in (("captions.jsonl", '{"story"'), ("captions.csv", "story,image")):
        data = folder(tmp_path / name, [])
        (data / "captions.jsonl").unlink()
        block = next(part for part in text.split("\n\n") if part.lstrip().startswith(marker))
        content = "\n".join(line.strip() for line in block.splitlines())
        if name.endswith("jsonl"):
            content = content.replace("\n", " ")  # wrapped in the help, one line in a file
        (data / name).write_text(content)
        build_folder_file(data, tmp_path / "s.h5")
        stories = [names(tmp_path / "s.h5", split) for split in SPLITS]
        assert sum(stories, []) == ["pond"]
    assert "python data_script/folder_hdf5.py --data_dir" in script("--help").stdout


def test_the_examples_of_the_readme_tell_the_same_stories(tmp_path):
    text = (ROOT / "data_script" / "README.md").read_text("utf-8")
    told = []
    for kind, name in (("csv", "captions.csv"), ("json", "captions.jsonl")):
        data = tmp_path / kind
        (data / "pond").mkdir(parents=True)
        for picture in ("frog.png", "heron.jpg", "moon.png"):
            draw(data / "pond" / picture)
        (data / name).write_text(text.split(f"```{kind}\n")[1].split("```")[0], "utf-8")
        stories = folder_hdf5.read_stories(data)
        told.append([(s.name, s.captions, [path.name for path in s.images]) for s in stories])
    assert told[0] == told[1] and [name for name, *_ in told[0]] == ["pond-1", "pond-2"]
