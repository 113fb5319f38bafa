"""Turns a folder of your own pictures and captions into a story file to train on.

The folder holds the pictures (sub-folders are fine) and one captions file. JSON lines,
`captions.jsonl`, one story a line (wrapped here to fit):

    {"story": "pond", "frames": [{"image": "a.png", "caption": "A frog wakes."},
                                 {"image": "b.png", "caption": "It jumps."}]}

or CSV, `captions.csv`, one frame a row, frames in the order they are told:

    story,image,caption
    pond,a.png,A frog wakes.
    pond,b.png,It jumps.

A story may name its split (key or column `split`: train, val or test). If none does, a hash of the
story's id decides: 80 % train, 10 % val, 10 % test, of fewer than 100 stories exactly. All stories
have the same number of frames, two or more.

Pictures may have any size and shape, but training sees squares: of a longer picture a random part,
in validation and sampling its middle. `--pad` keeps pictures whole instead, in the middle of a
white square: right for cut-outs and drawings on white, where photographs would get white bars.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our datasets

import common  # noqa: F401  Ctrl-C while libraries load is one line

# isort: split
import numpy as np

from common.picture_files import opened, refuse_animation
from common.processes import in_order
from common.terminal import script_parser, setting, tqdm
from data_script.captions_file import CAPTIONS, KEYS, caption_rows, find_picture, row_text
from data_script.raw_pictures import SIZE, is_oblong, load_picture
from data_script.story_builder import check_save_path, only_build_of
from datasets.pictures import encode_picture
from datasets.story_hdf5 import SPLITS, is_story_id
from datasets.story_writer import StoryWriter

FEW = 100  # stories: of so many or more, later ones move none to another split
STEPS, BATCH = 1000, 5  # what the tiny backbone wants at least, of config.yaml's batch_size


@dataclass
class FolderStory:
    """One story as the captions file tells it; an empty split is still to be assigned."""

    name: str
    split: str
    images: list[Path] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    oblong: int = 0  # how many pictures are clearly not square


def read_stories(data_dir: Path, captions: str | None = None) -> list[FolderStory]:
    """The stories of a captions file, checked; one sentence names file, line and remedy."""
    if not data_dir.is_dir():
        raise FileNotFoundError(f"--data_dir {data_dir} is not a folder: correct the path")
    names = [captions] if captions else CAPTIONS
    found = [data_dir / name for name in names if (data_dir / name).is_file()]
    if len(found) != 1:
        state = f"both {' and '.join(names)}" if found else f"no {' or '.join(names)}"
        raise FileNotFoundError(f"{data_dir} holds {state}: name one file with --captions")
    stories: dict[str, FolderStory] = {}
    told: dict[tuple[str, ...], str] = {}
    lines: dict[str, str] = {}  # of JSON, which hold a story each
    for where, row in caption_rows(found[0]):
        values = {key: row_text(row.get(key), key, where) for key in (*KEYS, "split")}
        empty = next((key for key in KEYS if not values[key]), None)
        if empty:
            raise ValueError(f"{where}: {empty!r} is missing or empty: fill it in")
        name, split, caption = values["story"], values["split"], values["caption"]
        if not is_story_id(name):
            raise ValueError(
                f"{where}: story {name!r}: use 1-100 letters (200 bytes), digits, '-' or '_'"
            )
        line = lines.setdefault(name, where)
        if line != where and found[0].suffix.lower() != ".csv":
            raise ValueError(
                f"{where}: story {name!r} is told by {line}: give it another id, or put all its "
                "frames on one line"
            )
        if split and split not in SPLITS:
            raise ValueError(f"{where}: split {split!r} is unknown: use {', '.join(SPLITS)}")
        strange = next((c for c in "|\0" if c in caption), None)
        if strange:
            raise ValueError(f"{where}: remove {strange!r} from the caption {caption!r}")
        image = find_picture(data_dir, row["image"], where)
        with opened(image) as picture:  # now, not after an hour of building
            refuse_animation(picture)
            oblong = is_oblong(*picture.size)
        story = stories.setdefault(name, FolderStory(name, split))
        if story.split != split:
            raise ValueError(f"{where}: story {name!r} is in two splits: choose one")
        if before := told.get((name, str(image), caption)):
            raise ValueError(f"{where} says again what {before} says: remove one of them")
        told[name, str(image), caption] = where
        story.images.append(image)
        story.captions.append(caption)
        story.oblong += oblong
    if not stories:
        raise ValueError(f"{found[0]} tells no story: write some, see --help")
    first = next(iter(stories.values()))
    for story in stories.values():
        if len(story.images) != len(first.images) or len(story.images) < 2:
            raise ValueError(
                f"{found[0]}: story {story.name!r} has {len(story.images)} frames and "
                f"{first.name!r} {len(first.images)}: give every story the same number, 2 or "
                f"more"
            )
    return list(stories.values())


def assign_splits(stories: Sequence[FolderStory], how: str | None = None) -> None:
    """Fill in `split`: as the file says, or by hash; every split gets a story if there are 3."""
    unnamed = [story for story in stories if not story.split]
    if how is None:
        how = "hash" if len(unnamed) == len(stories) else "file"
    if how == "file" and unnamed:
        raise ValueError(f"story {unnamed[0].name!r} names no split: add it or say --split hash")
    if how == "file":
        return
    groups: dict[str, list[tuple[float, FolderStory]]] = {split: [] for split in SPLITS}
    shares = [
        int(hashlib.sha256(story.name.encode()).hexdigest()[:12], 16) / 16**12 for story in stories
    ]
    if len(stories) < FEW:  # by chance alone, ten stories could become five to train on
        order = sorted(shares)
        shares = [(order.index(share) + 0.5) / len(stories) for share in shares]
    for story, share in zip(stories, shares, strict=True):
        split = "train" if share < 0.8 else "val" if share < 0.9 else "test"
        groups[split].append((share, story))
    for split, group in groups.items():  # training first: a single story is for it
        if not group and (split == "train" or len(stories) >= len(SPLITS)):
            largest = max(groups.values(), key=len)
            group.append(max(largest, key=lambda pair: pair[0]))
            largest.remove(group[0])
    for split, group in groups.items():
        for _, story in group:
            story.split = split


def build_folder_file(
    data_dir: str | os.PathLike,
    save_path: str | os.PathLike,
    captions: str | None = None,
    split: str | None = None,
    size: int = SIZE,
    pad: bool = False,
) -> dict[str, int]:
    """Build the story file -> stories a split. Nothing is left behind if anything fails."""
    stories = read_stories(Path(data_dir), captions)
    assign_splits(stories, split)
    if all(story.split == "val" for story in stories):
        raise ValueError(
            f"{data_dir}: every story names the split val, which is neither trained on nor drawn; "
            f"give some train or test"
        )

    def encoded(story: FolderStory) -> list[np.ndarray]:
        return [encode_picture(load_picture(path, size, pad)) for path in story.images]

    description = f"Built by folder_hdf5.py from {Path(data_dir).name}"
    frames = len(stories[0].images)
    oblong = sum(story.oblong for story in stories)
    if oblong and not pad:
        print(
            f"{oblong} of {frames * len(stories)} pictures are not square: training sees a square "
            "part of each; --pad keeps them whole, on white"
        )
    with StoryWriter(save_path, frames, attributes={"description": description}) as writer:
        threads = os.cpu_count() or 1  # decoding and encoding release Python's lock
        with ThreadPoolExecutor(threads) as pool:
            done = in_order(pool, encoded, stories, 2 * threads)
            for story, pictures in zip(tqdm(stories, unit="story"), done, strict=True):
                writer.add(story.split, pictures, {"text": story.captions}, story.name)
    return writer.counts


def main() -> None:
    example = "python data_script/folder_hdf5.py --data_dir photos --save_path photos.h5"
    parser = script_parser(__doc__, example)
    parser.add_argument("--data_dir", required=True, help="folder of pictures and captions file")
    parser.add_argument("--save_path", required=True, help="story file to write, such as photos.h5")
    parser.add_argument("--captions", help="its name, if not captions.jsonl or captions.csv")
    parser.add_argument("--split", choices=("hash", "file"), help="who decides the splits")
    parser.add_argument(
        "--size", type=int, default=SIZE, help=f"pixels to shrink larger pictures to ({SIZE})"
    )
    parser.add_argument("--pad", action="store_true", help="keep pictures whole, on white squares")
    args = parser.parse_args()
    if args.size < 8:
        parser.error(f"--size {args.size} is too small: give 8 pixels or more")
    check_save_path(Path(args.save_path))
    state = "replaces" if os.path.exists(args.save_path) else "writes"
    print(f"{args.data_dir} -> {args.save_path} ({state} it when whole)")
    with only_build_of(Path(args.save_path)):
        counts = build_folder_file(**vars(args))
    megabytes = os.path.getsize(args.save_path) / 1e6
    print(", ".join(f"{n} {s}" for s, n in counts.items()), f"stories, {megabytes:.1f} MB")
    print(f"next: {next_command(args.save_path, args.size, counts['train'])}")


def next_command(save_path: str, size: int, stories: int) -> str:
    """How to train on the file: the tiny backbone for pictures as small as it draws, or SD 1.5.

    stories: to train on; without any, how to draw its own with another file's model.
    """
    file = setting("folder.hdf5_file", save_path)
    if not stories:
        return f"python main.py mode=sample dataset=folder {file} test_model_file=CHECKPOINT"
    if size > 128:
        layers = "config=presets/arldm.yaml config=presets/fits-24gb.yaml"
        return f"python main.py {layers} dataset=folder {file}"
    epochs = max(1, -(-STEPS * BATCH // stories))
    return f"python main.py dataset=folder {file} run_name=mine max_epochs={epochs}"


if __name__ == "__main__":
    main()
