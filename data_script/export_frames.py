"""Writes a split of a story file as a samples folder: its real frames, captions and labels.

`python -m evaluation.classifier train data=DIR …` learns from it. Of a tall strip of frames the
first is taken.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our packages

from common.terminal import error_in_one_line, script_parser, tqdm
from datasets.story_hdf5 import SPLITS, StoryFile
from evaluation.samples import MANIFEST, SamplesFolder


def export(hdf5_file: Path, split: str, save_path: Path, text_key: str = "text") -> Path:
    """Write the split as a samples folder, in place of what was exported there before."""
    stories = StoryFile(hdf5_file, split, text_key)
    (save_path / MANIFEST).unlink(missing_ok=True)
    settings = {"given": 0, "sampler": {"hdf5_file": hdf5_file.name, "split": split}}
    samples = SamplesFolder(save_path, settings, stories.label_vocabulary)
    for index in tqdm(range(len(stories)), split):
        captions = stories.captions(index)
        frames = [_first_frame(stories.picture(index, k)) for k in range(len(captions))]
        samples.add(stories.story_id(index), captions, frames, labels=stories.labels(index))
    return save_path


def _first_frame(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    return picture[:width] if height > width and height % width == 0 else picture


if __name__ == "__main__":
    example = "--hdf5_file stories.h5 --split train --save_path DIR"
    parser = script_parser(__doc__, f"python data_script/export_frames.py {example}")
    parser.add_argument("--hdf5_file", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--save_path", type=Path, required=True)
    parser.add_argument("--text_key", default="text", help="sis or dii for VIST")
    args = parser.parse_args()
    with error_in_one_line():
        print(export(args.hdf5_file, args.split, args.save_path, args.text_key))
