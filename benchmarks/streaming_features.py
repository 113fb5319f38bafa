"""Does judging ten thousand frames need more memory than a thousand? Do processes agree?

    python -m benchmarks.streaming_features [--frames 10000] [--processes 3]

Writes plain small PNGs as samples folders, runs `python -m evaluation` on them as a user would, and
prints time, peak memory of the largest process, and how far the values of the runs lie apart. The
network is a judge with random weights: small, so that reading and caching make up most of the work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from datasets.cartoon.world import LABEL_VOCABULARY
from evaluation.judge import Judge, JudgeNetwork

SIDE, LENGTH = 64, 5  # pixels; frames a story
FEW = 1000
METRICS = "judge_frechet,cartoon"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.manual_seed(0)
        Judge(JudgeNetwork(LABEL_VOCABULARY), LABEL_VOCABULARY).save(folder / "judge.safetensors")
        for frames in (FEW, args.frames):
            write_samples(folder / str(frames), frames)
        print(f"{'':34}{'seconds':>9}{'peak MiB':>10}")
        report(f"{FEW} frames", folder, FEW, "few")
        one = report(f"{args.frames} frames", folder, args.frames, "one")
        several = report(
            f"{args.frames} frames, {args.processes} processes",
            folder, args.frames, "several", args.processes,
        )  # fmt: skip
        again = report(f"{args.frames} frames again, cached", folder, args.frames, "one")
    print(f"{args.processes} processes against one: {apart(one, several):.1g} apart at most")
    print(f"cached against computed: {apart(one, again):.1g} apart at most")


def report(title: str, folder: Path, frames: int, cache: str, processes: int = 1) -> dict:
    """Run the evaluation, print a line about it, and return {metric: value, bounds …}."""
    samples = folder / str(frames)
    command = [sys.executable, "-m", "evaluation", f"samples={samples}", f"metrics={METRICS}"]
    command += [f"judge={folder / 'judge.safetensors'}", f"cache={folder / cache}.sqlite"]
    command += ["pictures=false", "draws=100", "frechet_draws=2", f"processes={processes}"]
    begin = time.perf_counter()
    with open(folder / "log", "w+") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)  # the child and the processes that it waited for
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{log.read()[-2000:]}")
    seconds = time.perf_counter() - begin
    print(f"{title:34}{seconds:9.1f}{usage.ru_maxrss / 1024:10.0f}", flush=True)
    return json.loads((samples / "metrics.json").read_text())["metrics"]


def apart(one: dict, two: dict) -> float:
    """The greatest relative difference of values, floors and ceilings."""
    pairs = [
        (entry[key], two[name][key])
        for name, entry in one.items()
        for key in ("value", "floor", "ceiling")
        if entry[key] is not None
    ]
    return max(abs(a - b) / max(abs(a), abs(b), 1e-30) for a, b in pairs)


def write_samples(folder: Path, frames: int) -> None:
    """Stories of blotches, each with real frames of other blotches and labels drawn by lot."""
    random = np.random.default_rng(0)
    lines = []
    for number in tqdm(range(frames // LENGTH), "pictures"):
        name = f"{number:05d}"
        (folder / name).mkdir(parents=True)
        story = {"story_id": name, "captions": ["A caption."] * LENGTH}
        for key, prefix, spread in (("frames", "", 128), ("reference_frames", "reference_", 256)):
            story[key] = [f"{name}/{prefix}{k:04d}.png" for k in range(LENGTH)]
            for path in story[key]:
                blotches = Image.fromarray(random.integers(0, spread, (8, 8, 3), np.uint8))
                blotches.resize((SIDE, SIDE), Image.Resampling.NEAREST).save(folder / path)
        story["labels"] = [_label(random) for _ in range(LENGTH)]
        lines.append(json.dumps(story))
    (folder / "label_vocabulary.json").write_text(json.dumps(LABEL_VOCABULARY))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")


def _label(random: np.random.Generator) -> dict:
    place, name, shirt, action = (
        str(random.choice(LABEL_VOCABULARY[key]))
        for key in ("places", "characters", "clothes", "actions")
    )
    return {"place": place, "cast": [name], "clothes": {name: shirt}, "action": action}


if __name__ == "__main__":
    main()
