"""The whole loop on the embedded world: train on stories, draw held-out ones, measure, show.

    python -m benchmarks.cartoon_demo [key=value …]

Writes OUT/storyboard.png, storyboard.html and metrics.json. Metrics are measured on test stories
only, in three ways: with history, as continuation of a given frame, and with history hidden.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from pathlib import Path

import numpy as np

from config import load_config
from datasets.cartoon.renderer import render
from datasets.cartoon.world import LABEL_VOCABULARY, all_scenes
from evaluation.cartoon_metrics import METRICS, chance, read_stories, score, story_note
from evaluation.judge import Judge, train_judge
from evaluation.samples import read_samples
from evaluation.storyboard import draw_storyboard
from evaluation.storyboard_html import write_storyboard_html
from main import draw_stories, train

WAYS = {
    "history": [],
    "continuation": ["task=continuation"],
    "no_history": ["use_history=false"],
}
STEPS = 560  # of five stories each
JUDGE_TRAINING, JUDGE_TEST = 3000, 1000  # rendered frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"))
    parser.add_argument("--stories", type=int, default=100, help="test stories drawn in each way")
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
    checkpoint = timed("train", train, load_config(common))
    judge = timed("judge", make_judge)
    judge.save(args.out / "judge.safetensors")
    results, folders, notes = {}, {}, {}
    for way, overrides in WAYS.items():
        folder = args.out / way
        shutil.rmtree(folder, ignore_errors=True)  # drawn by an earlier run's checkpoint
        config = load_config([
            *common, *overrides, "mode=sample", f"test_model_file={checkpoint}", "batch_size=20",
            f"num_stories={args.stories}", f"sample_output_dir={folder}",
        ])  # fmt: skip
        timed(f"sample {way}", draw_stories, config)
        samples = read_samples(folder)
        readings = timed(f"judge {way}", read_stories, samples, judge)
        results[way] = score(samples.stories, readings)
        folders[way.replace("_", " ")] = folder
        notes[way.replace("_", " ")] = {
            story.story_id: story_note(story, reading)
            for story, reading in zip(samples.stories, readings, strict=True)
        }
        if way == "history":
            results["chance"] = chance(samples.stories, samples.vocabulary)
    shown = {name: folder for name, folder in folders.items() if name != "continuation"}
    draw_storyboard(shown, args.out / "storyboard.png", 6, notes=notes)
    write_storyboard_html(folders, args.out / "storyboard.html", 40, notes=notes)
    seconds["all"] = round(time.perf_counter() - start, 1)
    metrics = {
        **results,
        "judge_error": judge.known_error,
        "stories": args.stories,
        "seconds": seconds,
    }
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print_table(metrics)


def make_judge() -> Judge:
    """Train the judge on rendered frames of the whole world and measure it on others."""
    scenes = list(all_scenes())
    random.Random(0).shuffle(scenes)
    scenes = scenes[: JUDGE_TRAINING + JUDGE_TEST]
    frames = np.stack([render(scene) for scene in scenes])
    labels = [scene.label() for scene in scenes]
    training, test = slice(JUDGE_TRAINING), slice(JUDGE_TRAINING, None)
    judge = train_judge(frames[training], labels[training], LABEL_VOCABULARY, seed=0)
    judge.known_error = judge.error(frames[test], labels[test])
    return judge


def print_table(metrics: dict) -> None:
    """The four ways side by side."""
    ways = [*WAYS, "chance"]
    print(f"{'':24}" + "".join(f"{way.replace('_', ' '):>14}" for way in ways))
    for name in METRICS:
        values = [metrics[way].get(name) for way in ways]
        cells = ("–" if value is None else f"{value:.3f}" for value in values)
        print(f"{name:24}" + "".join(f"{cell:>14}" for cell in cells))
    print(f"judge's own error: {metrics['judge_error']}")
    print(f"seconds: {metrics['seconds']}")


if __name__ == "__main__":
    main()
