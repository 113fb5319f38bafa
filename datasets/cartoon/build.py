"""Builds the story file of the cartoon world: seconds of work, done once, the same everywhere.

Stories are cheap to make up and are told first; then every distinct scene is drawn once, over
several processes, and the stories are written in order, so the file depends on sizes and seed only.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from random import Random

import numpy as np

from common.processes import in_processes
from common.terminal import tqdm
from datasets.cartoon.grammar import FRAMES, Story, cast_of, make_story, recast
from datasets.cartoon.renderer import render
from datasets.cartoon.strangers import make_up, stranger
from datasets.cartoon.world import PRONOUNS, Scene
from datasets.cartoon.worlds import WORLDS
from datasets.pictures import encode_picture
from datasets.story_hdf5 import SPLITS
from datasets.story_writer import StoryWriter

WORLD_SEED = 0  # one world for all runs: what is drawn must not be what was trained on
_CHUNK = 64  # scenes handed to a process at a time


def ensure_cartoon_file(
    folder: str | os.PathLike,
    sizes: Mapping[str, int],
    seed: int,
    processes: int = 1,
    frames: int = FRAMES,
    strangers: int = 0,
    world: str = "small",
) -> Path:
    """The story file of `tell_stories`, built in `folder` if not there yet.

    Its name carries a hash of these and the sources that draw and write it.
    """
    here = Path(__file__).parent
    writers = [here.parent / name for name in ("pictures.py", "story_writer.py")]
    sources = [*sorted(here.glob("*.py")), *writers]
    told = [sorted(sizes.items()), seed, frames, *([strangers] if strangers else [])]
    told += [world] if world != "small" else []
    digest = hashlib.sha256(json.dumps(told).encode())
    for source in sources:
        digest.update(source.read_bytes().replace(b"\r\n", b"\n"))
    path = Path(folder) / f"cartoon-{digest.hexdigest()[:12]}.h5"
    if not path.is_file():
        build_cartoon_file(path, sizes, seed, processes, frames, strangers, world)
    return path


def build_cartoon_file(
    path: str | os.PathLike,
    sizes: Mapping[str, int],
    seed: int,
    processes: int = 1,
    frames: int = FRAMES,
    strangers: int = 0,
    world: str = "small",
) -> Path:
    """Write `sizes[split]` stories per split, drawn by `processes` processes; the path."""
    stories = tell_stories(sizes, seed, frames, strangers, world)
    scenes = dict.fromkeys(scene for told in stories.values() for s in told for scene in s.scenes)
    pictures = dict(zip(scenes, _draw(list(scenes), processes), strict=True))
    about = f"{'' if world == 'small' else f'{world} '}cartoon world, seed {seed}"
    attributes = {"description": about, "label_vocabulary": WORLDS[world].labels}
    with StoryWriter(path, pictures=frames, attributes=attributes) as writer:
        for split, told in stories.items():
            for story in tqdm(told, f"writing {split} stories", leave=False):
                shown = [pictures[scene] for scene in story.scenes]
                writer.add(split, shown, {"text": story.captions}, labels=story.labels)
    return Path(path)


def tell_stories(
    sizes: Mapping[str, int],
    seed: int,
    frames: int = FRAMES,
    strangers: int = 0,
    world: str = "small",
) -> dict[str, list[Story]]:
    """The stories of every split, `frames` long, each from a generator of its own.

    strangers: so many take the places of others in every second story of `train`.
    Held-out combinations occur in `test` only; no story of `val` or `test` is one of `train`.
    """
    stories: dict[str, list[Story]] = {}
    trained: set[tuple] = set()
    for split in SPLITS:
        stories[split] = []
        for index in range(sizes.get(split, 0)):
            for attempt in count():
                rng = Random(f"{seed}/{split}/{index}/{attempt}")
                story = make_story(rng, split == "test", frames, WORLDS[world].teller)
                if (story.captions, story.scenes) not in trained:
                    break
            stories[split].append(story)
        if split == "train" and strangers:
            names = make_up(strangers)
            stories[split][1::2] = [
                _among(names, story, Random(f"{seed}/strangers/{n}"))
                for n, story in enumerate(stories[split][1::2])
            ]
        if split == "train":
            trained = {(story.captions, story.scenes) for story in stories[split]}
    return stories


def _among(names: list[str], story: Story, random: Random) -> Story:
    """The story with strangers in the places of one or more of its characters."""
    cast = cast_of(story)
    leave = random.sample(cast, random.randint(1, len(cast)))
    new: dict[str, str] = {}
    for old in leave:
        like = [n for n in names if stranger(n).pronoun == PRONOUNS[old] and n not in new.values()]
        new[old] = random.choice(like)
    return recast(story, new)


def _draw(scenes: list[Scene], processes: int) -> list[np.ndarray]:
    """The encoded picture of every scene, in order."""
    how = {"desc": "drawing cartoon scenes", "total": len(scenes), "leave": False}
    if processes < 2 or len(scenes) < 4 * _CHUNK:  # starting processes would take longer
        return list(tqdm(map(_picture, scenes), **how))
    chunks = [scenes[n : n + _CHUNK] for n in range(0, len(scenes), _CHUNK)]
    drawn = in_processes(
        _pictures, chunks, processes, len(chunks),
        "a process that draws cartoon scenes was killed, perhaps for memory: start again",
        # "spawn" imports the whole program anew in each; only Linux can fork safely instead.
        "fork" if sys.platform == "linux" else "spawn",
    )  # fmt: skip
    return list(tqdm(chain.from_iterable(drawn), **how))


def _pictures(scenes: list[Scene]) -> list[np.ndarray]:
    return [_picture(scene) for scene in scenes]


def _picture(scene: Scene) -> np.ndarray:
    return encode_picture(render(scene))
