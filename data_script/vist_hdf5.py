"""Turns the VIST annotations and pictures into one story file with both kinds of captions.

    SIS/{train,val,test}.story-in-sequence.json            captions that tell a story (`sis`)
    DII/{train,val,test}.description-in-isolation.json     captions of a picture alone (`dii`)
    images/ID.jpg                                          fetch with vist_img_download.py

Kept are the stories of five pictures that are all there and whole, each with a caption in
isolation; of several such captions, in whichever of the three files, the longest is taken. Links to
pictures rot, so stories that lack something are left out and counted, never an error. Pictures are
shrunk to a shorter side of 512 if they are larger.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our modules

from data_script.raw_pictures import load_picture
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


def read_stories(
    sis_json_dir: Path, dii_json_dir: Path, img_dir: Path
) -> tuple[list[RawStory], Counter[tuple[str, str]]]:
    """The stories of five captioned pictures, and how many others there were."""
    if not img_dir.is_dir():
        raise FileNotFoundError(f"{img_dir} is not a folder: correct --img_dir")
    stories: list[RawStory] = []
    left_out: Counter[tuple[str, str]] = Counter()
    isolated: dict[str, str] = {}  # of all splits: a picture's captions may be in another's file
    for split in SPLITS:
        for _, picture, text, _ in _annotations(
            dii_json_dir / f"{split}.description-in-isolation.json"
        ):
            isolated[picture] = max(isolated.get(picture, ""), text, key=len)
    for split in SPLITS:
        source = sis_json_dir / f"{split}.story-in-sequence.json"
        told: dict[str, list[tuple[int, str, str]]] = {}
        for story, picture, text, place in _annotations(source):
            told.setdefault(story, []).append((place, picture, text))
        for name, frames in told.items():
            frames.sort(key=lambda frame: frame[0])
            ids = [picture for _, picture, _ in frames]
            if len(ids) != FRAMES:
                left_out[split, "not five pictures"] += 1
            elif not all(isolated.get(picture) for picture in ids):
                left_out[split, "a picture has no caption in isolation"] += 1
            else:
                texts = {"sis": [text for *_, text in frames], "dii": [isolated[i] for i in ids]}
                paths = [img_dir / f"{picture}.jpg" for picture in ids]
                stories.append(RawStory(name, split, source, paths, texts))
    return stories, left_out


def _annotations(path: Path) -> list[tuple[str, str, str, int]]:
    """(story or nothing, picture, caption, place in the story) of every annotation; one that does
    not say its place has that in the file."""
    content, rows = load_json(path), []
    try:
        for (entry,) in content["annotations"]:
            story, picture = str(entry.get("story_id", "")), str(entry["photo_flickr_id"])
            if not is_story_id(picture):
                raise ValueError(f"picture {picture!r} cannot name a file")
            place = int(entry.get("worker_arranged_photo_order", len(rows)))
            rows.append((story, picture, caption(entry["original_text"]), place))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}, annotation {len(rows)}, is not a list of one dict with photo_flickr_id and "
            f"original_text ({type(error).__name__}: {error}): get the file again"
        ) from None
    return rows


def build_vist_file(
    sis_json_dir: str | os.PathLike,
    dii_json_dir: str | os.PathLike,
    img_dir: str | os.PathLike,
    save_path: str | os.PathLike,
    num_process: int | None = None,
) -> Report:
    """Build the story file from both kinds of annotations and the pictures."""
    stories, left_out = read_stories(Path(sis_json_dir), Path(dii_json_dir), Path(img_dir))
    description = f"VIST, built by vist_hdf5.py from {Path(img_dir).name}"
    return build_stories(save_path, stories, load_picture, description, left_out, True, num_process)


def main() -> None:
    parser = argument_parser(
        __doc__,
        "python data_script/vist_hdf5.py --sis_json_dir data/vist/sis --dii_json_dir data/vist/dii "
        "--img_dir data/vist/images --save_path data/vist.h5",
    )
    parser.add_argument("--sis_json_dir", required=True, help="folder of story-in-sequence.json")
    parser.add_argument(
        "--dii_json_dir", required=True, help="folder of description-in-isolation.json"
    )
    parser.add_argument("--img_dir", required=True, help="folder of the pictures, ID.jpg")
    args = parser.parse_args()
    step = preset_command("arldm-vistsis-continuation", "vistsis.hdf5_file", args.save_path)
    other = "or, by the other captions, arldm-vistdii-continuation.yaml with vistdii.hdf5_file"
    run(build_vist_file, args, f"{step}\n({other})")


if __name__ == "__main__":
    main()
