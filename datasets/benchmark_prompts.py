"""Stories to draw from a local copy of ViStoryBench, as prompts."""

from __future__ import annotations

import os

from common.vistorybench import CAPTION, read_benchmark
from datasets.story_prompts import StoryPrompt

__all__ = ["read_benchmark_prompts"]


def read_benchmark_prompts(
    root: str | os.PathLike, split: str = "full", language: str = "en", caption: str = CAPTION
) -> list[StoryPrompt]:
    """Stories NN with a caption a shot.

    Raises:
        ValueError: from `read_benchmark`.
    """
    stories = read_benchmark(root, split, language, caption)
    return [StoryPrompt(one.story_id, [shot.caption for shot in one.shots]) for one in stories]
