"""Judge and show a samples folder: `python -m evaluation samples=DIR [judge=FILE] [stories=8]`.

Draws DIR/storyboard.png (the first `stories`) and DIR/storyboard.html (all); with a judge's file
also writes DIR/metrics.json and prints each metric with its 95 % interval and chance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from evaluation.cartoon_metrics import METRICS, chance, read_stories, score, story_note
from evaluation.judge import Judge
from evaluation.samples import read_samples, replacing
from evaluation.storyboard import draw_storyboard
from evaluation.storyboard_html import write_storyboard_html

KEYS = ("samples", "judge", "stories")


def main(arguments: list[str]) -> None:
    options = _options(arguments)
    folder, notes = Path(options["samples"]), None
    samples = read_samples(folder)
    if "judge" in options:
        judge = Judge.load(options["judge"])
        readings = read_stories(samples, judge)
        metrics = {**score(samples.stories, readings),
                   "chance": chance(samples.stories, judge.vocabulary),
                   "judge_error": judge.known_error}
        with replacing(folder / "metrics.json") as temporary:
            temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        print(table(metrics))
        notes = {"drawn": {story.story_id: story_note(story, reading)
                           for story, reading in zip(samples.stories, readings, strict=True)}}
    print(draw_storyboard(folder, folder / "storyboard.png", int(options["stories"]), notes=notes))
    print(write_storyboard_html(folder, folder / "storyboard.html", notes=notes))


def table(metrics: dict) -> str:
    """The metrics of `score` with "chance" and "judge_error" beside them, as lines of text."""
    lines = [f"{metrics['stories']} stories, {metrics['frames']} drawn frames",
             f"{'':26}{'value':>7}{'95 % interval':>18}{'chance':>9}"]
    for metric in METRICS:
        value, interval, guess = metrics[metric], metrics["interval"][metric], metrics["chance"]
        if value is not None:
            lines.append(f"{metric:26}{value:7.3f}{interval[0]:10.3f} -{interval[1]:6.3f}"
                         f"{guess[metric]:9.3f}")
    for name, error in (metrics["judge_error"] or {}).items():
        lines.append(f"{f'judge error, {name}':26}{error:7.4f}")
    return "\n".join(lines)


def _options(arguments: list[str]) -> dict[str, str]:
    options = {"stories": "8"}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in KEYS or not equals or not value:
            raise ValueError(f"{argument!r} is not understood: give "
                             "samples=DIR [judge=FILE] [stories=8]")
        options[key] = value
    if "samples" not in options:
        raise ValueError("samples=DIR is missing: give the folder that mode=sample wrote")
    if not options["stories"].isdigit() or options["stories"] == "0":
        raise ValueError(f"stories={options['stories']} is not a count: give 1 or more")
    return options


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
