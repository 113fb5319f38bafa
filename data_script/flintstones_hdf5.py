"""Turns the raw FlintstonesSV download into a story file.

The folder holds what the set's authors published:

    train-val-test_split.json             {"train": [id, ...], "val": ..., "test": ...}
    following_cache4.pkl                  id -> the ids that follow it; stories have exactly four
    flintstones_annotations_v1-0.json     [{"globalID": id, "description": caption}, ...]
    video_frames_sampled/ID.npy           (frames, 128, 128, 3) uint8 RGB, one shot
    labels.pkl                            id -> seven zeros and ones, who is there; may be missing
    labels_bg.pkl                         {"label": id -> 323 zeros and ones}, backgrounds; likewise

The .pkl and .npy files are read as plain data: nothing in them can run.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our modules

import common  # noqa: F401  Ctrl-C while libraries load is one line

# isort: split
import numpy as np

from data_script.picture_labels import REMEDY, Marks, add_labels, read_marks
from data_script.safe_pickle import load_npy, load_pickle, text
from data_script.story_builder import (
    FRAMES,
    RawStory,
    Report,
    argument_parser,
    build_stories,
    caption,
    load_json,
    preset_command,
    run,
)  # fmt: skip
from datasets.story_hdf5 import SPLITS, is_story_id

CHARACTERS = ("wilma", "fred", "betty", "barney", "dino", "pebbles", "mr slate")
BACKGROUNDS = tuple(f"background_{number:03d}" for number in range(323))  # they have no names


def load_shot(path: Path) -> np.ndarray:
    """(F, W, W, 3) uint8 on disk -> (F * W, W, 3): the frames one on top of the other."""
    frames = load_npy(path)
    if frames.dtype != np.uint8 or frames.ndim != 4 or not frames.size or frames.shape[3] != 3:
        raise ValueError(
            f"{path} holds {frames.dtype} {frames.shape}, not uint8 (frames, side, side, 3): "
            "get it again"
        )
    if frames.shape[1] != frames.shape[2]:
        raise ValueError(f"{path} holds frames {frames.shape}, which are not square: get it again")
    return frames.reshape(-1, *frames.shape[2:])


def read_stories(data_dir: Path) -> tuple[list[RawStory], Counter[tuple[str, str]]]:
    """The stories with exactly four followers, and how many there were without."""
    followings = _followings(data_dir / "following_cache4.pkl")
    captions = _captions(data_dir / "flintstones_annotations_v1-0.json")
    source = data_dir / "train-val-test_split.json"
    splits = load_json(source)
    if not isinstance(splits, dict) or not all(isinstance(splits.get(s), list) for s in SPLITS):
        raise ValueError(f"{source} is not a dict of lists train, val and test: get it again")
    stories: list[RawStory] = []
    left_out: Counter[tuple[str, str]] = Counter()
    for split in SPLITS:
        for first in splits[split]:
            shots = [first, *followings.get(first, ())] if isinstance(first, str) else [first]
            wrong = next((s for s in shots if not isinstance(s, str) or not is_story_id(s)), None)
            if wrong is not None:
                raise ValueError(f"{source} holds {wrong!r}, which is no shot's id: get it again")
            if len(shots) != FRAMES:
                left_out[split, "not exactly four shots follow"] += 1
                continue
            pictures = [data_dir / "video_frames_sampled" / f"{shot}.npy" for shot in shots]
            texts = [captions.get(shot, "") for shot in shots]
            stories.append(RawStory(first, split, source, pictures, {"text": texts}))
    return stories, left_out


def _followings(path: Path) -> dict[str, list[str]]:
    followings = load_pickle(path)
    try:
        return {text(k): [text(shot) for shot in v] for k, v in followings.items()}
    except (AttributeError, TypeError):
        raise ValueError(f"{path} is not a dict of lists of ids: get it again") from None


def _captions(path: Path) -> dict[str, str]:
    annotations = load_json(path)
    try:
        return {shot["globalID"]: caption(shot["description"]) for shot in annotations}
    except (KeyError, TypeError):
        raise ValueError(
            f"{path} is not a list of globalID and description, both text: get it again"
        ) from None


def _labels(data_dir: Path) -> tuple[Marks | None, Marks | None]:
    """Who is there, and where, as far as the folder has labels."""
    cast, place = data_dir / "labels.pkl", data_dir / "labels_bg.pkl"
    who = where = None
    if cast.is_file():
        who = read_marks(cast, CHARACTERS, load_pickle(cast))
    if place.is_file():
        content = load_pickle(place)
        if not isinstance(content, dict) or "label" not in content:
            raise ValueError(f"{place} is not a dict with labels under 'label': {REMEDY}")
        where = read_marks(place, BACKGROUNDS, content["label"])
    return who, where


def build_flintstones_file(
    data_dir: str | os.PathLike,
    save_path: str | os.PathLike,
    skip_broken: bool = False,
    num_process: int | None = None,
) -> Report:
    """Build the story file from the raw folder."""
    stories, left_out = read_stories(Path(data_dir))
    cast, place = _labels(Path(data_dir))
    notes, vocabulary = [], None
    if cast or place:
        stories, notes = add_labels(stories, lambda path: path.stem, cast, place)
        vocabulary = {"characters": CHARACTERS}  # evaluation asks for them in any case
        if place:
            vocabulary["places"] = BACKGROUNDS
    description = f"FlintstonesSV, built by flintstones_hdf5.py from {Path(data_dir).name}"
    report = build_stories(
        save_path, stories, load_shot, description, left_out, skip_broken, num_process, vocabulary
    )
    report.notes += notes
    return report


def main() -> None:
    example = "--data_dir data/flintstones --save_path data/flintstones.h5"
    example = f"python data_script/flintstones_hdf5.py {example}"
    args = argument_parser(__doc__, example, raw_folder=True).parse_args()
    preset, key = "arldm-flintstones-continuation", "flintstones.hdf5_file"
    run(build_flintstones_file, args, preset_command(preset, key, args.save_path))


if __name__ == "__main__":
    main()
