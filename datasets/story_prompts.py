"""Stories to draw: what a drawing starts from, and what it may be compared with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from common.vistorybench import CAPTION, read_benchmark
from datasets.story_frames import StoryFrames

__all__ = ["StoryPrompt", "in_parts", "read_benchmark_prompts", "read_prompts"]


@dataclass(frozen=True)
class StoryPrompt:
    """A story to draw, as `models.story_batch.StoryPrompt` asks for it.

    first_frame: (H, W, 3) uint8 of its own size, for continuation. reference_frames: the data
    set's own K frames, likewise; none of an own story. labels: K label dicts, if there are some.
    """

    story_id: str
    captions: list[str]  # K
    first_frame: np.ndarray | None = None
    reference_frames: Sequence[np.ndarray] = ()
    labels: list[dict] | None = None

    def asked(self) -> dict:
        """What makes it another story though its id is the same, as manifests say it."""
        asked: dict = {"captions": self.captions}
        if (first := self.first_frame) is not None:
            shape = repr(first.shape).encode()
            asked["first_frame"] = sha256(shape + first.tobytes()).hexdigest()
        return asked


def read_prompts(frames: StoryFrames, indices: Iterable[int]) -> Iterator[StoryPrompt]:
    """The stories of these numbers; pictures are read one story at a time."""
    stories = frames.stories
    for index in indices:
        _, shown = frames(index)
        yield StoryPrompt(
            stories.story_id(index), stories.captions(index), shown[0], shown, stories.labels(index)
        )


def read_benchmark_prompts(
    root: str | os.PathLike, split: str = "full", language: str = "en", caption: str = CAPTION
) -> list[StoryPrompt]:
    """Stories NN of ViStoryBench, a caption a shot; ValueError as `read_benchmark`."""
    stories = read_benchmark(root, split, language, caption)
    return [StoryPrompt(one.story_id, [shot.caption for shot in one.shots]) for one in stories]


def in_parts(stories: Iterable[StoryPrompt], longest: int | None) -> Iterator[StoryPrompt]:
    """Stories of more than `longest` frames as ID-part1, ID-part2, …; all whole if None.

    Only the first part has a given frame.
    """
    for story in stories:
        count = len(story.captions)
        if longest is None or count <= longest:
            yield story
            continue
        for number, start in enumerate(range(0, count, longest), 1):
            first = story.first_frame if start == 0 else None
            captions = story.captions[start : start + longest]
            yield StoryPrompt(f"{story.story_id}-part{number}", captions, first)
