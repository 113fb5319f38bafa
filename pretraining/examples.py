"""What the base learns from: frames of the training stories with more than one caption each."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datasets.cartoon.build import tell_stories
from datasets.cartoon.renderer import render
from datasets.cartoon.world import Scene, all_scenes

__all__ = ["Example", "draw", "draw_caption", "held_out_scenes", "training_examples"]


@dataclass(frozen=True)
class Example:
    """One frame of a training story."""

    scene: Scene
    story_caption: str


def training_examples(sizes: dict[str, int], seed: int) -> list[Example]:
    """All frames of the training split; none shows a held-out combination."""
    stories = tell_stories(sizes, seed)["train"]
    examples = [
        Example(scene, caption)
        for story in stories
        for scene, caption in zip(story.scenes, story.captions, strict=True)
    ]
    if any(example.scene.held_out for example in examples):
        raise RuntimeError("the training split shows a held-out combination: mend the grammar")
    return examples


def held_out_scenes(count: int, seed: int = 0) -> list[Scene]:
    """Scenes no training story can show, for measuring."""
    scenes = [scene for scene in all_scenes() if scene.held_out]
    return random.Random(seed).sample(scenes, count)


def draw(scenes: list[Scene]) -> Tensor:
    """Frames (N, 3, 128, 128) uint8 of scenes."""
    return torch.from_numpy(np.stack([render(s) for s in scenes])).permute(0, 3, 1, 2).contiguous()


def draw_caption(example: Example, story_share: float, rng: random.Random) -> str:
    """The frame's caption in its story, or one that says all, or all but the clothes."""
    if rng.random() < story_share:
        return example.story_caption
    return example.scene.explicit_caption(name_clothes=rng.random() < 0.9)
