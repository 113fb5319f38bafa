"""Stories to draw from a local copy of ViStoryBench, as prompts."""

from __future__ import annotations

import os

from common.vistorybench import CAPTION, read_benchmark
from datasets.story_prompts import StoryPrompt

__all__ = ["read_benchmark_prompts"]


def read_benchmark_prompts(
    root: str | os.PathLike,
    split: str = "full",
    language: str = "en",
    caption: str = CAPTION,
    shots_per_part: int | None = None,
) -> list[StoryPrompt]:
    """Stories NN with a caption a shot; one of more than `shots_per_part` as NN-part1, NN-part2, …

    Raises:
        ValueError: from `read_benchmark`.
    """
    prompts = []
    for story in read_benchmark(root, split, language, caption):
        captions = [shot.caption for shot in story.shots]
        starts = range(0, len(captions), shots_per_part or len(captions))
        for number, start in enumerate(starts, 1):
            name = story.story_id + f"-part{number}" * (len(starts) > 1)
            prompts.append(StoryPrompt(name, captions[start:][: starts.step]))
    return prompts
