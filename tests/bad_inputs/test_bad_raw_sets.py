"""Whatever is wrong with a raw set: one sentence with file and remedy, and no file."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from good_inputs import build_flintstones, build_pororo, build_vist
from PIL import Image
from spoils import Spoil, content, gone, rows

from tests.data_script.raw_sets import objects, save_python2


class Command:
    """A pickle that leaves a mark in the working directory when it is trusted."""

    def __reduce__(self):
        return os.system, ("touch EXECUTED",)


def numpy(name: str, value: object) -> Spoil:
    return lambda raw: np.save(raw / name, value, allow_pickle=True)


def python2(name: str, value: object) -> Spoil:
    return lambda raw: save_python2(raw / name, value)


def edit_json(name: str, change: Callable) -> Spoil:
    def spoil(raw: Path) -> None:
        value = json.loads((raw / name).read_text())
        changed = change(value)
        (raw / name).write_text(json.dumps(value if changed is None else changed))

    return spoil


# PororoSV ----------------------------------------------------------------------------------------
IDS, TOLD = "train_seen_unseen_ids.npy", "descriptions.npy"


def ids(*splits: list) -> Spoil:
    return python2(IDS, objects([np.array(split) for split in splits]))


def pororo_picture(spoil: Callable) -> Spoil:
    """Spoils the third picture of a test story."""

    def change(raw: Path) -> None:
        split = np.load(raw / IDS, allow_pickle=True, encoding="latin1")[2]
        spoil(raw / np.load(raw / "following_cache4.npy")[min(split), 1].decode())

    return change


def described(change: Callable) -> Spoil:
    """Changes the captions of all pictures of story 3: those of its first picture, or `{}`."""

    def spoil(raw: Path) -> None:
        told = np.load(raw / TOLD, allow_pickle=True, encoding="latin1").item()
        key = np.load(raw / "img_cache4.npy")[3].decode().removesuffix(".png")
        told[key] = change(told[key])
        told = {k: v for k, v in told.items() if v is not None}
        save_python2(raw / TOLD, {k.encode(): [t.encode() for t in v] for k, v in told.items()})

    return spoil


def outside(raw: Path) -> None:
    names = np.load(raw / "img_cache4.npy").astype("S40")
    names[2] = b"../../etc/passwd.png"
    np.save(raw / "img_cache4.npy", names)


BROKEN = r"picture .*\.png cannot be used .*: replace it with a whole"
WHOLE = "is not a whole NumPy array of plain data .*: get it again"
MEND = "mend it, or leave such stories out with --skip_broken"
PORORO = {
    "no names": (gone("img_cache4.npy"), "img_cache4.npy does not exist: complete"),
    "html": (content(TOLD, b"<html>404</html>"), f"{TOLD} {WHOLE}"),
    "a command": (numpy(TOLD, np.array(Command(), object)),
                  f"{TOLD} is not .*asks for posix.system.*: get it again"),
    "not a dict": (python2(TOLD, [b"a", b"b"]), f"{TOLD} is not a dict of lists of"),
    "names are numbers": (numpy("img_cache4.npy", np.arange(7)),
        "img_cache4.npy and following_cache4.npy hold [0-6], not a picture's name inside the"),
    "name outside": (outside, "hold b'../../etc/passwd.png', not a picture's name inside"),
    "ids missing from followings": (numpy("following_cache4.npy", np.array([[b"a"] * 4] * 5)),
        r"following_cache4.npy has shape \(5, 4\) and img_cache4.npy \(7,\)"),
    "two splits": (ids([0, 1], [2]), rf"{IDS} has shape \(2,\), not three lists"),
    "NaN": (ids([0.0, 1.0], [2], [np.nan, 3.0]), f"{IDS} holds nan, not an id from 0"),
    "id twice": (ids([0, 4, 0], [1], [2]), f"{IDS}: story '00000' is there twice: {MEND}"),
    "empty split": (ids([0, 1], [], [2]),
        "s.h5 was not written: split 'val' has no story .the raw files name none.: complete"),
    "no picture": (pororo_picture(Path.unlink),
        r"picture .*\.png of story '0000.' does not exist: complete the download, or leave"),
    "cut picture": (pororo_picture(lambda p: p.write_bytes(p.read_bytes()[:-40])), BROKEN),
    "not a column": (pororo_picture(lambda p: Image.new("RGB", (8, 20)).save(p)),
                     r"picture .*\.png is 8x20, not a column of square frames: get it again"),
    "no caption": (described(lambda _: None), f"story '00003' lacks a caption: {MEND}"),
    "separator": (described(lambda _: ["left|right"]),
        f"'00003' has '|', which separates captions, in 'left|right': {MEND}".replace("|", r"\|")),
}  # fmt: skip

# FlintstonesSV -----------------------------------------------------------------------------------
SPLIT, NOTES = "train-val-test_split.json", "flintstones_annotations_v1-0.json"
NEXT = "following_cache4.pkl"
SHOT = "video_frames_sampled/s_01_e_01_shot_val_2.npy"
COLUMN = np.zeros((3, 8, 8, 3), np.uint8)


def note(description: object) -> Spoil:
    return edit_json(NOTES, lambda rows: rows[0].update(description=description))


FLINTSTONES = {
    "latin-1": (content(SPLIT, '{"train": ["Größe"]}'.encode("latin1")),
                f"{SPLIT} is not whole JSON in UTF-8 .*: get it again"),
    "no val": (edit_json(SPLIT, lambda s: s.pop("val") and s),
               f"{SPLIT} is not a dict of lists train, val and test: get it again"),
    "id twice": (edit_json(SPLIT, lambda s: s["test"].append(s["train"][0])),
                 f"{SPLIT}: story 's_01_e_00_shot_train_0' is there twice: {MEND}"),
    "a command": (content(NEXT, pickle.dumps({"a": [Command()]})),
                  f"{NEXT} is not a whole pickle .*asks for posix.system"),
    "nobody is followed": (
        content(NEXT, pickle.dumps({})),
        "split 'train' has no story .5: not exactly four shots follow.: complete the raw data",
    ),
    "no key": (edit_json(NOTES, lambda rows: rows[3].pop("globalID") and None),
               f"{NOTES} is not a list of globalID and description, both text: get it again"),
    "separator": (note("a|b"), r"has '\|', which separates captions, in 'a\|b': mend"),
    "half a letter": (note("a \ud83d"), "has half a letter in 'a .ud83d': mend it"),
    "no shot": (gone(SHOT), f"picture .*{SHOT} of story .* does not exist"),
    "command for a shot": (numpy(SHOT, np.array([Command()], object)),
                           f"{SHOT} is not .*asks for posix.system"),
    "float shot": (numpy(SHOT, COLUMN / 255),
                   rf"{SHOT} holds float64 \(3, 8, 8, 3\), not uint8 .*: get it again"),
    "oblong": (numpy(SHOT, COLUMN[:, :, :6]),
               r"holds frames \(3, 8, 6, 3\), which are not square: get it again"),
}  # fmt: skip

# VIST --------------------------------------------------------------------------------------------
SIS, DII = "sis/val.story-in-sequence.json", "dii/val.description-in-isolation.json"
ROWS = "is not a list of one dict with photo_flickr_id and original_text .*: get the file again"


def row(change: Callable, name: str = SIS) -> Spoil:
    return edit_json(name, lambda value: change(value["annotations"]))


def two_splits(raw: Path) -> None:
    for kind in (SIS, DII):
        shutil.copy(raw / kind, raw / kind.replace("val.", "test."))


VIST = {
    "no pictures": (lambda raw: shutil.rmtree(raw / "images"),
                    "images is not a folder: correct --img_dir"),
    "no sis": (gone(SIS), f"{SIS} does not exist: complete the download"),
    "row a dict": (row(lambda a: a.insert(1, a[1][0])), f"{SIS}, annotation 1, {ROWS}"),
    "no text": (row(lambda a: a[3][0].pop("original_text") and None, DII),
                f"{DII}, annotation 3, {ROWS}"),
    "separator": (row(lambda a: [one.update(original_text="a|b") for (one,) in a] and None),
                  r"split 'val' has no story .*: '\|' in a caption.*: complete the raw data"),
    "story in two splits": (two_splits, "'test' has no story .*: there twice.*: compl"),
    "picture a path": (row(lambda a: a[0][0].update(photo_flickr_id="../x")),
                       f"{SIS}, annotation 0, .*picture '../x' cannot name a file"),
    "all pictures gone": (
        lambda raw: [path.unlink() for path in (raw / "images").iterdir()],
        "split 'train' has no story .*4: a picture is missing.*: complete the raw data",
    ),
    "all pictures broken": (
        lambda raw: [path.write_text("<html>") for path in (raw / "images").iterdir()],
        "split 'train' has no story .*3: a picture is broken",
    ),
    "nothing in isolation": (content(DII, b'{"annotations": []}'),
                             "split 'val' has no story .*: a picture has no caption in isolation"),
}  # fmt: skip

TABLES = {build_pororo: PORORO, build_flintstones: FLINTSTONES, build_vist: VIST}


@pytest.mark.parametrize("program, spoil, says", rows(TABLES))
def test_a_bad_raw_set_ends_in_one_sentence(program, spoil, says, ends_in_one_sentence):
    ends_in_one_sentence(program, spoil, says)
