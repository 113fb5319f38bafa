"""Writes a split of a story file as a samples folder: its real frames, captions and labels.

    python data_script/export_frames.py --hdf5_file stories.h5 --split train --save_path DIR

`python -m evaluation.classifier train data=DIR …` learns from it. Of a tall strip of frames the
first is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our datasets

from datasets.story_hdf5 import SPLITS, StoryFile


def export(hdf5_file: Path, split: str, save_path: Path, text_key: str = "text") -> Path:
    """Write DIR/<story>/0000.png …, label_vocabulary.json and, last, manifest.jsonl."""
    stories = StoryFile(hdf5_file, split, text_key)
    save_path.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in tqdm(range(len(stories)), split):
        name, captions = stories.story_id(index), stories.captions(index)
        (save_path / name).mkdir(exist_ok=True)
        frames = [f"{name}/{k:04d}.png" for k in range(len(captions))]
        for k, frame in enumerate(frames):
            picture = stories.picture(index, k)
            side = picture.shape[1]
            strip = picture.shape[0] > side and picture.shape[0] % side == 0
            Image.fromarray(picture[:side] if strip else picture).save(save_path / frame)
        entry = {"story_id": name, "captions": captions, "frames": frames, "reference_frames": [],
                 "labels": stories.labels(index)}  # fmt: skip
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    if stories.label_vocabulary:
        text = json.dumps(stories.label_vocabulary)
        (save_path / "label_vocabulary.json").write_text(text, encoding="utf-8")
    temporary = save_path / ".manifest.jsonl"
    temporary.write_text("".join(lines), encoding="utf-8")
    os.replace(temporary, save_path / "manifest.jsonl")
    return save_path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hdf5_file", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--save_path", type=Path, required=True)
    parser.add_argument("--text_key", default="text", help="sis or dii for VIST")
    args = parser.parse_args()
    try:
        print(export(args.hdf5_file, args.split, args.save_path, args.text_key))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
