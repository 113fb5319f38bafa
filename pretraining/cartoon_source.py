"""The cartoon world as a source: its stories' frames, each with a caption that says all of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from datasets.cartoon.build import WORLD_SEED, tell_stories
from datasets.cartoon.canvas import SIZE
from datasets.cartoon.renderer import render
from datasets.cartoon.strangers import features, make_up, stranger
from datasets.cartoon.wide import COLUMNS, DEPTHS
from datasets.cartoon.world import (
    CHARACTERS,
    COLOURS,
    KINDS,
    SHIRTS,
    WEATHERS,
    Scene,
    all_scenes,
)
from pretraining.source import Example, Source

__all__ = ["cartoon_source", "draw", "held_out_scenes"]

# The demo's stories, of which train is used. Hardly a picture of the wide world comes twice: 12,000
# are 0.6 GB.
SIZES = {
    "small": {"train": 4000, "val": 100, "test": 200},
    "wide": {"train": 2400},
}
MAX_LENGTH = {"small": 32, "wide": 48}
# Short captions say no shirts and not where somebody stands, as stories: the U-Net has to choose.
SHORT_SHARE = {"small": 0.1, "wide": 0.4}
OBJECT_SHARE = 3  # how often such a frame comes: words for 20 things are bound last
ORDINALS = dict(zip(COLUMNS, ("first", "second", "third", "fourth", "fifth", "sixth"), strict=True))
DEPTH_OF_SIZE = {size: depth for depth, (size, _) in DEPTHS.items()}
# Words in ranks: those first that stories' captions leave out and pictures show.
TELLING = {
    "small": (SHIRTS, CHARACTERS),
    "wide": ((*SHIRTS, *COLOURS), (*KINDS, *WEATHERS), CHARACTERS),
}
ABOUT = """It knows single frames of the cartoon world, not stories: who somebody called "she" is,
what a character wore a frame ago, and where "the same place" is, AR-LDM learns from stories
afterwards. Made from frames of training stories only; the held-out combinations of character, place
and action were never shown.

Good for: the demo and the tests of this repository. It draws nothing but its six characters."""


def cartoon_source(
    sizes: Mapping[str, int] | None = None,
    seed: int = WORLD_SEED,
    image_size: int = SIZE,
    strangers: int = 0,
    world: str = "small",
) -> Source:
    """All frames of the training split; none shows a held-out combination.

    sizes: stories of each split (`SIZES` of the world).
    strangers: so many beside the cast, in every second story; their words start as their looks.
    """
    names = make_up(strangers)
    stories = tell_stories(sizes or SIZES[world], seed, strangers=strangers, world=world)
    told = [
        (scene, caption)
        for story in stories["train"]
        for scene, caption in zip(story.scenes, story.captions, strict=True)
    ]
    if any(scene.held_out for scene, _ in told):
        raise RuntimeError("the training split shows a held-out combination: mend the grammar")
    scenes = list(dict.fromkeys(scene for scene, _ in told))
    position = {scene: i for i, scene in enumerate(scenes)}
    unseen = held_out_scenes(96, world=world)
    return Source(
        name="the cartoon world" if world == "small" else f"the {world} cartoon world",
        about=ABOUT,
        frames=draw(scenes, image_size),
        examples=[
            _example(position[scene], scene, caption)
            for scene, caption in told
            for _ in range(OBJECT_SHARE if scene.carried else 1)
        ],
        held_out=draw(unseen, image_size),
        held_out_examples=[_example(i, s, _full(s)) for i, s in enumerate(unseen)],
        telling=(*TELLING[world][:-1], (*TELLING[world][-1], *names)),
        determined=world == "small",  # of the wide world too much is drawn otherwise than meant
        augment=False,
        max_length=MAX_LENGTH[world],
        short_share=SHORT_SHARE[world],
        meanings={name: features(stranger(name)) for name in names},
        licence="apache-2.0",
    )


def _example(frame: int, scene: Scene, caption: str) -> Example:
    return Example(frame, caption, _full(scene), scene.explicit_caption(name_clothes=False))


def _full(scene: Scene) -> str:
    """All that is drawn; in the wide world also where each stands and its side, so that a frame's
    history can tell them.

    A causal text encoder lets words see only those before them: a name, a shirt and an object know
    their spot if it comes first.
    """
    return scene.explicit_caption(
        where=[
            f"{ORDINALS[spot.x]} {DEPTH_OF_SIZE[spot.size]} {'right' if spot.side > 0 else 'left'}"
            for spot in scene.spots
        ]
    )


def held_out_scenes(count: int, seed: int = 0, world: str = "small") -> list[Scene]:
    """Scenes no training story can show, for measuring."""
    scenes = all_scenes()
    if world != "small":  # too many to name them all
        told = tell_stories({"test": 5 * count}, WORLD_SEED, world=world)["test"]
        scenes = (scene for story in told for scene in story.scenes)
    return random.Random(seed).sample([scene for scene in scenes if scene.held_out], count)


def draw(scenes: Sequence[Scene], image_size: int = SIZE) -> Tensor:
    """Frames (N, 3, image_size, image_size) uint8 of scenes."""
    frames = torch.from_numpy(np.stack([render(s) for s in scenes])).permute(0, 3, 1, 2)
    if image_size != SIZE:
        frames = F.resize(frames, [image_size, image_size], antialias=True)
    return frames.contiguous()
