"""Turns the raw PororoSV download into a story file.

The folder holds what the set's authors published:

    descriptions.npy            picture -> captions, of which the first is taken
    img_cache4.npy              the first picture of every story
    following_cache4.npy        the four pictures that follow it
    train_seen_unseen_ids.npy   which stories are for training, validation, testing
    .../N.png                   pictures, each a column of the frames of one shot
    labels.npy                  picture -> nine zeros and ones, who is there; it may be missing

The .npy files are read as plain data: nothing in them can run.

Nobody has published who the nine columns of labels.npy are. The captions tell: a column takes the
name it agrees with beyond doubt, the others are called character_0 to character_8. See
pororo_labels.py, and give all nine with --characters to name them yourself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from shlex import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our modules

import common  # noqa: F401  Ctrl-C while libraries load is one line

# isort: split
import numpy as np

from data_script.column_names import agreement, name_columns
from data_script.picture_labels import Marks, add_labels, read_marks
from data_script.raw_pictures import load_strip
from data_script.safe_pickle import load_npy, text
from data_script.story_builder import (
    FRAMES,
    RawStory,
    Report,
    argument_parser,
    build_stories,
    caption,
    preset_command,
    run,
)  # fmt: skip
from datasets.story_hdf5 import SPLITS

CHARACTERS = ("pororo", "loopy", "eddy", "harry", "poby", "tongtong", "crong", "rody", "petty")


def read_stories(data_dir: Path) -> list[RawStory]:
    """The stories of the three splits, in the order of their ids."""
    firsts = load_npy(data_dir / "img_cache4.npy")
    followings = load_npy(data_dir / "following_cache4.npy")
    if firsts.ndim != 1 or followings.shape != (len(firsts), FRAMES - 1):
        raise ValueError(
            f"{data_dir / 'following_cache4.npy'} has shape {followings.shape} and img_cache4.npy "
            f"{firsts.shape}, not (N, {FRAMES - 1}) and (N,): get both again from one source"
        )
    captions = _captions(data_dir / "descriptions.npy")
    source, stories = data_dir / "train_seen_unseen_ids.npy", []
    told = [
        [first, *rest] for first, rest in zip(firsts.tolist(), followings.tolist(), strict=True)
    ]
    for split, ids in zip(SPLITS, _ids(source, len(told)), strict=True):
        for i in ids:
            names = [_picture_name(value, data_dir) for value in told[i]]
            texts = [captions.get(name.removesuffix(".png"), "") for name in names]
            pictures = [data_dir / name for name in names]
            stories.append(RawStory(f"{i:05d}", split, source, pictures, {"text": texts}))
    return stories


def _captions(path: Path) -> dict[str, str]:
    """Picture without `.png` -> its first caption, or nothing if it has none."""
    descriptions = load_npy(path)
    descriptions = descriptions.item() if descriptions.size == 1 else descriptions
    try:
        return {text(k): caption(text(v[0])) if len(v) else "" for k, v in descriptions.items()}
    except (AttributeError, TypeError, KeyError):
        raise ValueError(f"{path} is not a dict of lists of captions: get it again") from None


def _ids(path: Path, count: int) -> list[list[int]]:
    """Three sorted lists of whole numbers below `count`."""
    splits = load_npy(path)
    if splits.ndim == 0 or len(splits) != len(SPLITS):
        raise ValueError(f"{path} has shape {splits.shape}, not three lists of ids: get it again")
    checked = []
    for split in splits:
        try:
            ids = np.atleast_1d(np.asarray(split)).astype(float)
        except (TypeError, ValueError):
            raise ValueError(f"{path} holds ids that are no numbers: get it again") from None
        wrong = ids[~((ids >= 0) & (ids < count) & (ids == np.floor(ids)))]  # NaN is wrong as well
        if ids.ndim != 1 or wrong.size:
            raise ValueError(
                f"{path} holds {wrong[0] if wrong.size else 'a table'}, not an id from 0 to "
                f"{count - 1}, the stories of img_cache4.npy: get both again from one source"
            )
        checked.append(np.sort(ids.astype(int)).tolist())
    return checked


def compare_labels(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Who is shown, (N, 9) bool, in the N pictures that have both a caption and labels; how far the
    nine columns agree with the mention of CHARACTERS, (9, 9)."""
    shown = _labels(data_dir / "labels.npy").pictures
    captions = _captions(data_dir / "descriptions.npy")
    both = [picture for picture in shown if captions.get(picture)]
    columns = np.array([shown[picture] for picture in both]).reshape(-1, len(CHARACTERS))
    return columns, agreement(columns, [captions[picture] for picture in both], CHARACTERS)


def _labels(path: Path) -> Marks:
    content = load_npy(path)
    content = content.item() if content.size == 1 else content
    return read_marks(path, CHARACTERS, content)


def _marks(data_dir: Path, characters: Sequence[str] | None) -> tuple[Marks | None, list[str]]:
    """The labels with names for their columns, if there are any, and how they were named."""
    path = data_dir / "labels.npy"
    if characters is not None and len({*characters} - {""}) != len(CHARACTERS):
        raise ValueError(
            f"--characters is {' '.join(characters)}: give {len(CHARACTERS)} different names"
        )
    if not path.is_file():
        if characters is not None:
            raise FileNotFoundError(f"{path}, which --characters names, does not exist: add it")
        return None, []
    if characters is not None:
        return replace(_labels(path), names=characters), []
    names = name_columns(compare_labels(data_dir)[1], CHARACTERS)
    note = (
        f"columns of labels.npy: {' '.join(names)}, as captions tell; "
        f"python data_script/pororo_labels.py --data_dir {quote(str(data_dir))} shows why"
    )
    return replace(_labels(path), names=names), [note]


def _picture_name(value: object, data_dir: Path) -> str:
    try:
        name = text(value)
    except TypeError:
        name = ""
    if name.startswith("b'"):  # bytes that were once printed
        name = name[2:-1]
    if not name or "\0" in name or name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise ValueError(
            f"{data_dir}: img_cache4.npy and following_cache4.npy hold {value!r}, not a picture's "
            "name inside the folder: get them again"
        )
    return name


def build_pororo_file(
    data_dir: str | os.PathLike,
    save_path: str | os.PathLike,
    skip_broken: bool = False,
    num_process: int | None = None,
    characters: Sequence[str] | None = None,
) -> Report:
    """Build the story file from the raw folder; `characters` names the columns of its labels."""
    folder = Path(data_dir)
    cast, notes = _marks(folder, characters)
    stories, vocabulary = read_stories(folder), None
    if cast is not None:
        stories, missing = add_labels(stories, partial(_picture_id, folder), cast)
        notes, vocabulary = notes + missing, {"characters": list(cast.names)}
    description = f"PororoSV, built by pororo_hdf5.py from {folder.name}"
    report = build_stories(
        save_path, stories, load_strip, description, None, skip_broken, num_process, vocabulary
    )
    report.notes += notes
    return report


def _picture_id(folder: Path, picture: Path) -> str:
    return picture.relative_to(folder).as_posix().removesuffix(".png")


def main() -> None:
    parser = argument_parser(
        __doc__,
        "python data_script/pororo_hdf5.py --data_dir data/pororo_png --save_path data/pororo.h5",
        raw_folder=True,
    )
    how = {"nargs": len(CHARACTERS), "metavar": "NAME"}
    parser.add_argument("--characters", **how, help="columns of labels.npy, in order")
    args = parser.parse_args()
    preset, key = "arldm-pororo-visualization", "pororo.hdf5_file"
    run(build_pororo_file, args, preset_command(preset, key, args.save_path))


if __name__ == "__main__":
    main()
