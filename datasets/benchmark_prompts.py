"""Stories to draw from a local copy of ViStoryBench, as prompts."""

from __future__ import annotations

import os
from collections.abc import Iterator

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
    stories = read_benchmark(root, split, language, caption)
    return [
        StoryPrompt(name, captions)
        for story in stories
        for name, captions in _parts(
            story.story_id, [shot.caption for shot in story.shots], shots_per_part
        )
    ]


def _parts(name: str, captions: list[str], longest: int | None) -> Iterator[tuple[str, list[str]]]:
    if longest is None or len(captions) <= longest:
        yield name, captions
        return
    for number, start in enumerate(range(0, len(captions), longest), 1):
        yield f"{name}-part{number}", captions[start : start + longest]
