"""Cartoon stories whose drawn frames are their own pictures, damaged in a known way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from common.vistorybench import CAST
from datasets.cartoon.grammar import Story
from datasets.cartoon.renderer import render
from datasets.cartoon.world import HES, LABEL_VOCABULARY, PLACES, SHES, Scene
from evaluation.samples import SamplesFolder, read_samples

# Of growing strength: pixels (sigma), deviation out of 255, then shares of frames or of stories.
STRENGTHS = {
    "blur": (1, 3, 9),
    "noise": (20, 60, 180),
    "another style": (0.25, 0.5, 1.0),
    "characters swapped": (0.25, 0.5, 1.0),
    "one character missing": (0.25, 0.5, 1.0),
    "reference copied": (0.25, 0.5, 1.0),
    "wrong place": (0.25, 0.5, 1.0),
    "frames shuffled": (0.25, 0.5, 1.0),
}


def write_damaged(folder: Path, stories: list[Story], kind: str = "", strength: float = 0) -> None:
    """A samples folder whose references are the stories' own pictures; captions say all.

    `kind` is one of STRENGTHS, or empty for no damage. What a strength damages, a greater one does.
    """
    rng, noise = random.Random(2), np.random.default_rng(2)

    def drawn(scenes: Sequence[Scene]) -> Iterator[np.ndarray]:
        if kind == "frames shuffled" and rng.random() < strength:
            scenes = [*scenes[2:], *scenes[:2]]  # no frame in its own slot
        for scene in scenes:
            changed = kind in OTHER_SCENES and rng.random() < strength
            frame = render(OTHER_SCENES[kind](scene) if changed else scene)
            if kind == "blur":
                frame = blurred(frame, strength)
            elif kind == "noise":
                frame = noisy(frame, strength, noise)
            elif kind == "another style" and rng.random() < strength:
                frame = np.asarray(pencil(Image.fromarray(frame)))
            yield frame

    settings = {"seed": 0, "given": 0, "checkpoint": "", "sampler": {"damage": kind}}
    samples = SamplesFolder(folder, settings, LABEL_VOCABULARY)
    for number, story in enumerate(stories):
        frames = np.stack(list(drawn(story.scenes)))
        captions = [scene.explicit_caption() for scene in story.scenes]
        real = [render(scene) for scene in story.scenes]
        samples.add(f"{number:04d}", captions, frames, real, list(story.labels))


def write_told(root: Path, samples: str | Path) -> None:
    """The stories of a cartoon's samples folder as ViStoryBench tells them, each character with one
    picture."""
    for story in read_samples(samples).stories:
        folder = root / story.story_id
        shots = [
            {
                "index": index,
                CAST: {"en": label["cast"]},
                "Static Shot Description": {"en": caption},
            }
            for index, (caption, label) in enumerate(
                zip(story.captions, story.labels, strict=True), 1
            )
        ]
        there = dict.fromkeys(name for label in story.labels for name in label["cast"])
        for name in there:
            path = folder / "image" / name / "0.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(render(_portrait(name))).save(path, quality=95)
        told = {"Shots": shots, "Characters": {name: {"tag": "non_human"} for name in there}}
        (folder / "story.json").write_text(json.dumps(told))


def pencil(picture: Image.Image) -> Image.Image:
    """The same picture in another style."""
    return picture.filter(ImageFilter.CONTOUR)


def _portrait(name: str) -> Scene:
    """What a character's reference picture shows."""
    return Scene("meadow", ((name, "white"),), "stand")


def blurred(frame: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(frame: np.ndarray, deviation: float, noise: np.random.Generator) -> np.ndarray:
    speckled = frame + deviation * noise.standard_normal(frame.shape)
    return speckled.round().clip(0, 255).astype(np.uint8)


def _recast(scene: Scene) -> Scene:
    """Everybody replaced by the next of the same pronoun."""
    after = {name: names[n - 2] for names in (HES, SHES) for n, name in enumerate(names)}
    return replace(scene, cast=tuple((after[name], shirt) for name, shirt in scene.cast))


def _elsewhere(scene: Scene) -> Scene:
    places = list(PLACES)
    return replace(scene, place=places[(places.index(scene.place) + 1) % len(places)])


OTHER_SCENES: dict[str, Callable[[Scene], Scene]] = {
    "characters swapped": _recast,
    "one character missing": lambda scene: replace(scene, cast=scene.cast[1:]),
    "reference copied": lambda scene: _portrait(scene.cast[0][0]),
    "wrong place": _elsewhere,
}
