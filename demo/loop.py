"""Trains on the embedded world, draws held-out stories in three ways, measures and shows them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from common.files import replacing
from common.terminal import as_quoted_word
from configuration import load_config
from demo.judge import make_judge
from evaluation.metrics.table import GROUPS
from evaluation.options import Options
from evaluation.pictures.gallery import story_notes
from evaluation.pictures.page import write_storyboard_html
from evaluation.pictures.storyboard import draw_storyboard
from evaluation.run import measure
from evaluation.samples import remove_stories
from sample import draw_stories
from train import train

__all__ = ["train_draw_and_judge"]

WAYS = {
    "history": [],
    "continuation": ["task=continuation"],
    "no_history": ["use_history=false"],
}


def train_draw_and_judge(out: Path, stories: int, config: DictConfig, words: Sequence[str]) -> None:
    """Train as `config` says, and draw with `words` as well; half of the `stories` but in the
    first way."""
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def timed(name: str, work, *arguments):
        begin = time.perf_counter()
        result = work(*arguments)
        seconds[name] = round(time.perf_counter() - begin, 1)
        return result

    for way in WAYS:
        remove_stories(out / way)  # drawn by an earlier run's checkpoint
    checkpoint = timed("train", train, config)
    judge_file = out / "judge.safetensors"
    judge = timed("judge", lambda: make_judge(judge_file, world=config.cartoon.world))
    results, folders, notes, frame_notes = {}, {}, {}, {}
    for way, overrides in WAYS.items():
        folder = out / way
        few = way != "history" and stories > 1
        to_draw = load_config([
            *words, *overrides, "mode=sample", as_quoted_word("test_model_file", checkpoint),
            "batch_size=20", f"num_stories={stories // 2 if few else stories}",
            as_quoted_word("sample_output_dir", folder),
        ])  # fmt: skip
        timed(f"sample {way}", draw_stories, to_draw)
        options = Options(str(folder), judge=str(judge_file), cache=str(out / "features.sqlite"))
        results[way], *found = timed(f"evaluate {way}", measure, options)
        name = way.replace("_", " ")
        folders[name] = folder
        notes[name], frame_notes[name] = story_notes(*found)
    shown = {name: folder for name, folder in folders.items() if name != "continuation"}
    draw_storyboard(shown, out / "storyboard.png", 6, notes=notes)
    page = out / "storyboard.html"
    write_storyboard_html(folders, page, 40, notes=notes, frame_notes=frame_notes)
    seconds["all"] = round(time.perf_counter() - start, 1)
    with replacing(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps({**results, "seconds": seconds}, indent=1) + "\n")
    print_table(results)
    print(f"judge's own error: {judge.known_error}\nseconds: {seconds}")


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
