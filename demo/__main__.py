"""The whole loop on the embedded world: train on stories, draw held-out ones, measure, show.

    python -m demo [key=value …]

Writes OUT/storyboard.png, storyboard.html and metrics.json, what `evaluate` found in each of three
ways to draw test stories: with history, as continuation of a given frame, and with history hidden.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from common.files import replacing
from configuration import load_config
from demo.judge import make_judge
from evaluation.metrics.cartoon import story_note
from evaluation.metrics.fidelity import decibels
from evaluation.metrics.table import GROUPS
from evaluation.networks.judge import Judge
from evaluation.options import Options
from evaluation.pictures.page import write_storyboard_html
from evaluation.pictures.storyboard import draw_storyboard
from evaluation.run import evaluate
from evaluation.samples import read_picture, read_samples
from sample import draw_stories
from train import train

WAYS = {
    "history": [],
    "continuation": ["task=continuation"],
    "no_history": ["use_history=false"],
}
STEPS = 440  # of five stories each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"))
    parser.add_argument(
        "--stories",
        type=int,
        default=100,
        help="test stories drawn with history; half of them in each other way",
    )
    parser.add_argument("overrides", nargs="*", help="config keys, such as max_epochs=4")
    args = parser.parse_args()
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def timed(name: str, work, *arguments):
        begin = time.perf_counter()
        result = work(*arguments)
        seconds[name] = round(time.perf_counter() - begin, 1)
        return result

    common = ["run_name=demo", f"ckpt_dir={args.out / 'checkpoints'}", f"max_steps={STEPS}"]
    common += args.overrides
    checkpoint = timed("train", train, load_config([*common, "resume=never"]))
    judge_file = args.out / "judge.safetensors"
    world = load_config(common).cartoon.world
    judge = timed("judge", lambda: make_judge(judge_file, world=world))
    results, folders, notes, frame_notes = {}, {}, {}, {}
    for way, overrides in WAYS.items():
        folder = args.out / way
        shutil.rmtree(folder, ignore_errors=True)  # drawn by an earlier run's checkpoint
        few = way != "history" and args.stories > 1
        stories = args.stories // 2 if few else args.stories
        config = load_config([
            *common, *overrides, "mode=sample", f"test_model_file={checkpoint}", "batch_size=20",
            f"num_stories={stories}", f"sample_output_dir={folder}",
        ])  # fmt: skip
        timed(f"sample {way}", draw_stories, config)
        options = Options(
            str(folder), judge=str(judge_file), pictures=False,
            cache=str(args.out / "features.sqlite"),
        )  # fmt: skip
        results[way] = timed(f"evaluate {way}", evaluate, options)
        name = way.replace("_", " ")
        folders[name] = folder
        notes[name], frame_notes[name] = story_notes(folder, judge)
    shown = {name: folder for name, folder in folders.items() if name != "continuation"}
    draw_storyboard(shown, args.out / "storyboard.png", 6, notes=notes)
    page = args.out / "storyboard.html"
    write_storyboard_html(folders, page, 40, notes=notes, frame_notes=frame_notes)
    seconds["all"] = round(time.perf_counter() - start, 1)
    with replacing(args.out / "metrics.json") as temporary:
        temporary.write_text(json.dumps({**results, "seconds": seconds}, indent=1) + "\n")
    print_table(results)
    print(f"judge's own error: {judge.known_error}\nseconds: {seconds}")


def story_notes(folder: Path, judge: Judge) -> tuple[dict[str, str], dict[str, list[str]]]:
    """What the judge counts right, for the storyboards, and how cleanly each frame is drawn."""
    notes, frame_notes = {}, {}
    for story in read_samples(folder).stories:
        frames = np.stack([read_picture(path) for path in story.frames])
        readings = judge.read(frames)
        notes[story.story_id] = story_note(story, readings)
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)
        found = map(decibels, pictures, readings)
        said = ["" if one is None else f"{one:.1f} dB" for one in found]
        frame_notes[story.story_id] = [""] * story.given + said[story.given :]
    return notes, frame_notes


def print_table(results: dict[str, dict]) -> None:
    """The ways side by side, and what guessing would give in the first."""
    print(f"{'':24}" + "".join(f"{way.replace('_', ' '):>14}" for way in [*results, "chance"]))
    for name in GROUPS["cartoon"]:
        entries = [result["metrics"].get(name) for result in results.values()]
        if None in entries:  # of the other world
            continue
        values = [*(entry["value"] for entry in entries), entries[0]["chance"]]
        cells = ("–" if value is None else f"{value:.3f}" for value in values)
        print(f"{name.removeprefix('cartoon/'):24}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
