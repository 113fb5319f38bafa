"""Draws a scene: a cached background with cached character pictures pasted into fixed slots."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from PIL import Image

from datasets.cartoon.canvas import SIZE
from datasets.cartoon.characters import draw_character
from datasets.cartoon.places import draw_place
from datasets.cartoon.world import Scene

# Where characters stand (pixels from the left): alone in the middle, or he left and she right.
SLOTS = {0: (), 1: (64,), 2: (34, 94)}


def render(scene: Scene) -> np.ndarray:
    """The frame of a scene, (128, 128, 3) uint8 RGB; the same scene always gives the same bytes."""
    frame = _background(scene.place).copy()
    for (name, shirt), x in zip(scene.cast, SLOTS[len(scene.cast)], strict=True):
        character = _character(name, shirt, scene.action)
        frame.paste(character, (x - SIZE // 2, 0), character)
    return np.array(frame)


@cache
def _background(place: str) -> Image.Image:
    return draw_place(place).reduced().convert("RGB")


@lru_cache(1024)  # of strangers there may be many
def _character(name: str, shirt: str, action: str) -> Image.Image:
    return draw_character(name, shirt, action).reduced()
