"""The check of a story file: what it counts, what it finds, what it draws."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from datasets import check
from datasets.check import check_story_file, summary, token_counter
from datasets.contact_sheet import CELL, GAP, draw_contact_sheet
from datasets.damage import leave_out
from datasets.story_hdf5 import SPLITS, StoryFile
from datasets.story_writer import StoryWriter

ROOT = Path(__file__).resolve().parents[2]
COLOURS = [(250, 30, 0), (0, 200, 90)]


def words(text: str) -> int:
    return len(text.split()) + 2


def story_file(path: Path, strip: bool = False, keys=("text",), counts=(3, 2, 1)) -> Path:
    """Two pictures a story; `train` has one empty caption a key, and one of 12 tokens."""
    with StoryWriter(path, 2, keys, {"description": "a small file"}) as writer:
        for split, count in zip(SPLITS, counts, strict=True):
            for i in range(count):
                pictures = [np.full((8, 8, 3), colour, np.uint8) for colour in COLOURS]
                if strip:  # only the middle frame has the colour
                    frames = [np.concatenate([p * 0, p, p * 0]) for p in pictures]
                    pictures = [frames[0], frames[1][:16]]
                texts = ["A dog.", "A cat sits."]
                if split == "train" and i == 1:
                    texts = [" ", "one two three four five six seven eight nine ten"]
                writer.add(split, pictures, dict.fromkeys(keys, texts), f"{split}{i}")
    return path


def test_counts(tmp_path):
    found = check_story_file(story_file(tmp_path / "s.h5", keys=("sis", "dii")), words)
    assert found.problems == [] and found.keys == ["dii", "sis"] and found.frames == 2
    assert found.sizes == {(8, 8): 12}
    train = found.captions["train", "dii"]
    assert (train.stories, train.empty) == (3, 1)
    assert sorted(train.lengths) == [2, 4, 4, 5, 5, 12]
    assert [train.longer_than(n) for n in (1, 4, 5, 11, 12)] == [6, 3, 1, 1, 0]
    assert found.captions["test", "sis"].lengths == [4, 5]
    table = summary(found, "words", 5).splitlines()
    assert table[0] == "a small file" and table[3].split()[-3:] == ["over", "5", "(words)"]
    assert table[4].split() == ["train", "dii", "3", "0", "6", "1", "5.3", "12", "1"]
    assert "12 pictures decode, 1 sizes, most often 8x8 (12)" in table[-1]


def test_columns_of_frames_are_recognised_and_a_listing_has_an_end(tmp_path):
    path = story_file(tmp_path / "s.h5", strip=True, counts=(60, 1, 1))
    with h5py.File(path, "a") as file:
        for i in range(50):
            file["train/text"][i] = "one"
    found = check_story_file(path, words)
    assert found.sizes == {(24, 8): 12, (16, 8): 12}
    shown = summary(found, "words", None)
    assert "columns of 2 to 3 square frames" in shown and "50 left out:" in shown
    assert shown.endswith("\n… and 30 more")


def edited(change) -> object:
    def make(path: Path) -> None:
        with h5py.File(story_file(path), "a") as file:
            change(file)

    return make


def cut_picture(file: h5py.File) -> None:
    file["train/image1"][2] = file["train/image1"][2][:60]


def shorter(key: str, n: int):
    def change(file: h5py.File) -> None:
        values, dtype = file[key][:n], file[key].dtype
        del file[key]
        column = file.create_dataset(key, (n,), dtype)
        for i, value in enumerate(values):
            column[i] = value

    return edited(change)


def empty(path: Path, key: str) -> None:
    with h5py.File(path, "a") as file:
        for split in SPLITS:
            file[split][key].resize((0,))


PROBLEMS = {
    "two problems": (
        edited(lambda f: (cut_picture(f), f["val/image0"].__setitem__(1, f["val/image0"][1][:9]))),
        ["story 2 of 'train' is broken (image1", "story 1 of 'val' is broken (image0"],
    ),
    "one picture": (edited(lambda f: f.pop("val/image1")), ["'val' has 1 pictures a story, other"]),
    "fewer pictures": (shorter("train/image1", 2), ["story 2 of 'train' is broken (image1: "]),
    "a key without captions": (
        lambda path: [story_file(path, keys=("dii", "sis")), empty(path, "dii")],
        [f"lengths in '{split}' differ" for split in SPLITS],
    ),
    "no story": (edited(lambda f: [f[s][k].resize((0,)) for s in SPLITS for k in f[s]]),
                 ["holds no story; build it with some"]),
}  # fmt: skip


@pytest.mark.parametrize("make, messages", PROBLEMS.values(), ids=PROBLEMS)
def test_problems_are_all_listed(tmp_path, make, messages):
    make(tmp_path / "bad.h5")
    found = check_story_file(tmp_path / "bad.h5", words)
    assert len(found.problems) == len(messages), found.problems
    for problem, message in zip(found.problems, messages, strict=True):
        assert message in problem and "bad.h5" in problem
    assert f"{len(messages)} problem" in summary(found, "words", None)


def test_stories_that_are_left_out_are_counted_and_no_problem(tmp_path):
    path = story_file(tmp_path / "s.h5", keys=("dii", "sis"))
    with h5py.File(path, "a") as file:
        file["train/dii"][1] = "only one"
        file["train/image1"][1] = file["train/image1"][1][:60]  # a story that `sis` has whole
    found = check_story_file(path, words)
    assert [found.captions["train", key].stories for key in ("dii", "sis")] == [2, 3]
    (problem,) = found.problems
    assert "story 1 of 'train' is broken (image1" in problem
    shown = summary(found, "words", None)
    assert "1 left out:\nstory 1 of 'train': 1 captions in 'dii' for 2 pictures" in shown
    assert shown.splitlines()[4].split()[:4] == ["train", "dii", "2", "1"]


def test_the_sheet_keeps_pictures_and_captions_of_one_story_together(tmp_path):
    path, sheets = story_file(tmp_path / "s.h5", keys=("dii", "sis"), counts=(3, 1, 1)), []
    for told in ("A dog.|A cat sits.", "only one"):  # which leaves the first story out
        with h5py.File(path, "a") as file:
            file["train/sis"][0] = told
        draw_contact_sheet(path, tmp_path / "x.png", ("dii", "sis"))
        sheets.append(np.asarray(Image.open(tmp_path / "x.png")))
    # Every row but the first stays as it was, captions under both keys included.
    np.testing.assert_array_equal(sheets[0][-len(sheets[1]) :], sheets[1])
    assert 0 < len(sheets[1]) < len(sheets[0])


def test_what_cannot_be_read_is_left_out_from_then_on(tmp_path, monkeypatch, capsys):
    path = story_file(tmp_path / "s.h5", counts=(3, 2, 2))
    with h5py.File(path, "a") as file:
        cut_picture(file)
        file["test/image0"][0] = np.frombuffer(b"<html>", np.uint8)
    assert run(monkeypatch, path) == 1
    assert run(monkeypatch, path, "--leave_out", "--quick") == 2
    (problem,) = check_story_file(path, words, quick=True).problems  # of first pictures only
    assert "story 0 of 'test': the picture cannot be decoded" in problem
    assert [len(StoryFile(path, split)) for split in SPLITS] == [3, 2, 2]
    assert run(monkeypatch, path, "--leave_out") == 0
    assert "left out from now on: 2 of the stories above" in capsys.readouterr().out
    assert [len(StoryFile(path, split)) for split in SPLITS] == [2, 2, 1]
    assert StoryFile(path, "test").story_id(0) == "test1"
    with h5py.File(path, "a") as file:
        file["train/image0"][0] = file["train/image0"][0][:60]
    assert run(monkeypatch, path, "--leave_out") == 0  # in addition to the first
    assert StoryFile(path, "train").rows == [1]
    assert run(monkeypatch, path) == 0
    assert "story 2 of 'train': found to be unreadable before" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_to_is_said(tmp_path):
    path = story_file(tmp_path / "s.h5")
    with h5py.File(path), pytest.raises(OSError, match="cannot write .*s.h5: make it writable"):
        leave_out(path, {"train": [0]})


@pytest.mark.parametrize("strip", [False, True])
def test_the_sheet_shows_the_pictures_in_their_colours(tmp_path, strip):
    path = story_file(tmp_path / "s.h5", strip, ("sis", "dii"))
    draw_contact_sheet(path, tmp_path / "new" / "x.png", ("sis", "dii"), stories=3)
    sheet = np.asarray(Image.open(tmp_path / "new" / "x.png"))
    assert sheet.shape[1] == 2 * (CELL + GAP) + GAP
    for k, colour in enumerate(COLOURS):
        column = sheet[:, GAP + k * (CELL + GAP) :][:, :CELL]
        shown = (column == colour).all((1, 2)).sum()
        assert shown == 3 * CELL
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.png"]
    draw_contact_sheet(path, tmp_path / "y.png", ("sis",), stories=100)  # more than there are
    assert Image.open(tmp_path / "y.png").height > 6 * CELL


def test_tokens_are_counted_by_clip_or_a_folder(tmp_path):
    count, unit = token_counter()
    assert unit == "CLIP tokens" and count("") == 2 and count("a photo of a cat.") == 8
    assert count("tongtong") > 3  # a name that CLIP does not know
    count, unit = token_counter(str(ROOT / "assets" / "cartoon-base" / "tokenizer"))
    assert "cartoon-base" in unit and count("") == 2 and count("Pip is in the meadow.") == 8
    with pytest.raises(ValueError, match="--tokenizer .* cannot be read: give a folder with a tok"):
        token_counter(str(tmp_path))


def run(monkeypatch, *arguments: object) -> int | str:
    monkeypatch.setattr(sys, "argv", ["check", *map(str, arguments)])
    monkeypatch.setattr(check, "token_counter", lambda folder: (words, "words"))
    with pytest.raises(SystemExit) as caught:
        check.main()
    return caught.value.code


def test_the_command(tmp_path, monkeypatch, capsys):
    path = story_file(tmp_path / "s.h5")
    assert run(monkeypatch, path, "--max_length", 5, "--sheet", tmp_path / "x.png") == 0
    out = capsys.readouterr().out
    assert "over 5" in out and f"stories drawn: {tmp_path / 'x.png'}" in out
    assert (tmp_path / "x.png").stat().st_size > 0
    with h5py.File(path, "a") as file:
        cut_picture(file)
    assert run(monkeypatch, path, "--sheet", tmp_path / "y.png") == 1
    assert "1 problem" in capsys.readouterr().out and not (tmp_path / "y.png").exists()
    assert run(monkeypatch, tmp_path / "gone.h5").startswith("error: story file")
    assert run(monkeypatch, path, "--sheet", "x.jpg") == 2
    before = (tmp_path / "x.png").read_bytes()
    assert run(monkeypatch, path, "--sheet", tmp_path / "x.png") == 2
    assert "x.png is there already: give another name or remove it" in capsys.readouterr().err
    assert (tmp_path / "x.png").read_bytes() == before
    with h5py.File(path, "a") as file:  # and no story is left
        for column in (file[f"{split}/image0"] for split in SPLITS):
            column[:] = [np.frombuffer(b"<html>", np.uint8)] * len(column)
    said = run(monkeypatch, path, "--leave_out", "--sheet", tmp_path / "y.png")
    assert "has no story that is whole under text" in said
    assert run(monkeypatch, path, "--max_length", "-4") == 2
