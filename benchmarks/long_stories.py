"""What becomes of a long story? Asked of a model of the cartoon world, trained on short ones.

    python -m benchmarks.long_stories CHECKPOINT JUDGE             the table of docs/handing_on.md
    python -m benchmarks.long_stories CHECKPOINT JUDGE --frames 50 --stories 1 --seeds 1

Cast, place and shirts by the frame's position in the story, for several numbers of frames in sight,
with and without the first; and what a frame of that position costs: seconds of this process, and
its peak memory by then.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.sampler_quality import Measurement
from configuration import ConfigError
from evaluation.metrics.bootstrap import ratio
from evaluation.metrics.cartoon import ROWS

SHOWN = {"cast (F1)": "character_f1", "place, where it is not named": "place_accuracy",
         "shirts": "clothes_accuracy"}  # fmt: skip
WAYS = [(4, False), (4, True), (5, False), (5, True)]


class Costs:
    """Notes seconds and memory (MiB) of every frame, by its position."""

    def __init__(self, frames: int) -> None:
        self.seconds, self.memory = [[] for _ in range(frames)], np.zeros(frames)
        self.last = time.process_time()

    def __call__(self, pipeline, k: int, frames: torch.Tensor) -> None:
        now = time.process_time()
        self.seconds[k].append((now - self.last) / len(frames))
        self.memory[k] = max(self.memory[k], psutil.Process().memory_info().rss / 2**20)
        self.last = now


def cell(runs: np.ndarray, groups: list[slice]) -> str:
    """(seeds, frames, 2) counts as mean and, in brackets, the smallest and largest, by group."""
    values = [ratio(runs[:, group].sum(1)) for group in groups]
    return " · ".join(f"{v.mean():.2f} [{v.min():.2f}, {v.max():.2f}]" for v in values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("judge", type=Path)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--stories", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    width = max(1, args.frames // 4)
    groups = [slice(start, start + width) for start in range(0, args.frames, width)]
    print(f"frames {', '.join(f'{g.start}–{min(g.stop, args.frames) - 1}' for g in groups)}")
    print(f"| history_frames | {' | '.join(SHOWN)} | seconds a frame | MiB |\n|" + "---|" * 6)
    try:
        few = f"cartoon.stories={{train: 1, val: 1, test: {args.stories}}}"
        words = [f"cartoon.story_length={args.frames}", few]
        measure = Measurement(args.checkpoint, args.judge, args.stories, words)
        for window, first in WAYS:
            how = [f"history_frames={window}", f"keep_first_frame={str(first).lower()}"]
            costs, runs = Costs(args.frames), []
            for seed in range(args.seeds):
                costs.last = time.process_time()
                counts, _ = measure.count(how, seed, costs)
                runs.append(counts.sum(0))
            runs = np.array(runs)  # (seeds, frames, rows, 2)
            cells = [cell(runs[:, :, ROWS.index(row)], groups) for row in SHOWN.values()]
            cells.append(" · ".join(f"{np.mean(sum(costs.seconds[g], [])):.3f}" for g in groups))
            cells.append(" · ".join(f"{costs.memory[g].max():.0f}" for g in groups))
            name = f"{window} with the first frame" if first else str(window)
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    except (ConfigError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
