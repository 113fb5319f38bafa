"""Writes a split of a story file as a samples folder: its real frames, captions and labels.

`python -m evaluation.classifier train data=DIR …` learns from it. Of PororoSV's and FlintstonesSV's
strips of frames the first is taken.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script: find our packages

from common.files import file_hash
from common.terminal import error_in_one_line, script_parser, tqdm
from datasets.specs import SPECS
from datasets.story_hdf5 import SPLITS, StoryFile
from evaluation.samples import SamplesFolder


def export(hdf5_file: Path, split: str, save_path: Path, dataset: str) -> Path:
    """Write the split as a samples folder; what is there of it already stays.

    Raises:
        ValueError: the folder holds something else, or what the file said before it was changed.
    """
    spec = SPECS[dataset]
    stories = StoryFile(hdf5_file, split, spec.text_key)
    source = {"hdf5_file": hdf5_file.name, "split": split, "file_hash": file_hash(hdf5_file)}
    samples = SamplesFolder(save_path, {"given": 0, "sampler": source}, stories.label_vocabulary)
    for index in tqdm(range(len(stories)), split):
        captions = stories.captions(index)
        frames = [stories.picture(index, k) for k in range(len(captions))]
        if spec.strip:
            frames = [frame[: frame.shape[1]] for frame in frames]
        samples.add(stories.story_id(index), captions, frames, labels=stories.labels(index))
    return save_path


if __name__ == "__main__":
    example = "--hdf5_file stories.h5 --dataset pororo --split train --save_path DIR"
    parser = script_parser(__doc__, f"python data_script/export_frames.py {example}")
    parser.add_argument("--hdf5_file", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--save_path", type=Path, required=True)
    parser.add_argument("--dataset", choices=SPECS, required=True, help="what it was built from")
    args = parser.parse_args()
    with error_in_one_line():
        print(export(args.hdf5_file, args.split, args.save_path, args.dataset))
