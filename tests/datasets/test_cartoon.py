"""The cartoon world: captions determine frames, splits keep their promises, builds repeat."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np
import pytest

from datasets.cartoon.build import build_cartoon_file, ensure_cartoon_file, tell_stories
from datasets.cartoon.grammar import make_story
from datasets.cartoon.renderer import render
from datasets.cartoon.world import (
    ACTIONS,
    CHARACTERS,
    HELD_OUT,
    LABEL_VOCABULARY,
    PLACES,
    PRONOUNS,
    SHIRTS,
    SPECIES,
    Scene,
    all_scenes,
)
from datasets.story_hdf5 import StoryFile, validate_story_file

SIZES = {"train": 70, "val": 6, "test": 20}  # of more than the 256 scenes that one process draws
ACTION_WORDS = {
    "stand": r"stands? still|waits? quietly|looks? around",
    "wave": r"waves?",
    "jump": r"jumps?|hops?",
    "sleep": r"sleeps?|asleep|nap",
}


class Reader:
    """A listener who knows nothing but the captions."""

    def __init__(self) -> None:
        self.place = None
        self.last = {}

    def read(self, caption: str) -> tuple[str, set[str], str, bool]:
        """Place, cast, action, and whether a character is named."""
        words = re.findall(r"[a-z]+", caption.lower())
        self.place = next((place for place in PLACES if place in words), self.place)
        named = [name for name in CHARACTERS if name in words]
        for name in named:
            self.last[PRONOUNS[name]] = name
        telling = re.findall(r"[a-z]+", caption.lower().split("home.")[-1])
        if "they" in telling:
            cast = set(self.last.values())
        elif "he" in telling or "she" in telling:
            cast = {self.last["he" if "he" in telling else "she"]}
        else:
            cast = set(named)
        found = [a for a in ACTION_WORDS if re.search(rf"\b({ACTION_WORDS[a]})\b", caption.lower())]
        assert len(found) == 1, caption
        return self.place, cast, found[0], bool(named)


def stories(count: int, allow_held_out: bool = True):
    return [make_story(Random(f"story {i}"), allow_held_out) for i in range(count)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_cartoon_file(tmp_path_factory.mktemp("cartoon") / "one.h5", SIZES, 7, 1)


def test_captions_alone_determine_place_cast_and_action_and_labels_say_them():
    """Of shirts they say nothing, which stay on; frames change and hold one he and one she."""
    colours = re.compile("|".join([*SHIRTS, "shirt", "wear"]), re.IGNORECASE)
    seen = set()
    for story in stories(300):
        reader, worn = Reader(), {}
        for caption, scene, label in zip(story.captions, story.scenes, story.labels, strict=True):
            place, cast, action, named = reader.read(caption)
            assert (place, action) == (scene.place, scene.action), story.captions
            assert cast == {name for name, _ in scene.cast}, story.captions
            assert (label["place"], label["action"]) == (scene.place, scene.action)
            assert label["cast"] == [name for name, _ in scene.cast]
            assert tuple(label["clothes"].items()) == scene.cast
            assert label["pronoun_only"] == (not named)
            assert label["place_named"] == any(place in caption.lower() for place in PLACES)
            shown = {(name, scene.place, scene.action) for name in label["cast"]}
            assert label["held_out"] == bool(shown & HELD_OUT)
            assert not colours.search(caption)
            assert all(worn.setdefault(name, shirt) == shirt for name, shirt in scene.cast)
            pronouns = [PRONOUNS[name] for name, _ in scene.cast]
            assert pronouns in (["he"], ["she"], ["he", "she"])
        assert all(a != b for a, b in zip(story.scenes, story.scenes[1:], strict=False))
        seen |= set(worn.items())
    assert len(seen) == len(CHARACTERS) * len(SHIRTS)


def test_captions_lean_on_history_and_are_short():
    told = stories(300)
    labels = [label for story in told for label in story.labels]
    captions = [caption for story in told for caption in story.captions]
    assert np.mean([label["pronoun_only"] for label in labels]) >= 0.4
    assert np.mean([not label["place_named"] for label in labels]) >= 0.55
    firsts = [story.labels[0] for story in told]
    assert all(one["place_named"] and not one["pronoun_only"] for one in firsts)
    assert max(len(caption.split()) for caption in captions) <= 14
    for event in ("joins", "goes home", "comes back", "same place", "walk to"):
        assert any(event in caption for caption in captions)


def test_held_out_combinations_cover_everything_and_stay_in_test():
    for n, names in enumerate((CHARACTERS, PLACES, ACTIONS)):
        assert {combination[n] for combination in HELD_OUT} == set(names)
    told = tell_stories({"train": 300, "val": 100, "test": 200}, seed=3)
    held = {split: sum(label["held_out"] for story in told[split] for label in story.labels)
            for split in told}  # fmt: skip
    assert held["train"] == held["val"] == 0 < held["test"]
    train = {(story.captions, story.scenes) for story in told["train"]}
    assert not any((s.captions, s.scenes) in train for s in told["val"] + told["test"])
    # Stories depend on seed, split and index only.
    assert tell_stories({"train": 3}, 3)["train"] == told["train"][:3] != told["test"][:3]
    assert tell_stories({"train": 3}, 2)["train"] != told["train"][:3]


def test_a_longer_story_goes_on_where_a_shorter_ends(tmp_path):
    short, long = (tell_stories({"test": 4}, 1, frames)["test"] for frames in (5, 20))
    for one, other in zip(short, long, strict=True):
        assert len(other.captions) == len(other.scenes) == len(other.labels) == 20
        assert one.captions == other.captions[:5] and one.scenes == other.scenes[:5]
        assert not any(a == b for a, b in zip(other.scenes, other.scenes[1:], strict=False))
    path = ensure_cartoon_file(tmp_path, {"test": 1}, 1, frames=7)
    assert path != ensure_cartoon_file(tmp_path, {"test": 1}, 1)
    assert StoryFile(path, "test").pictures_per_story == 7


def test_every_scene_is_a_picture_of_its_own():
    scenes = list(all_scenes())
    assert len(scenes) == len(set(scenes)) == 5100
    some = scenes[::29]  # for time: all characters and actions occur
    assert {(name, scene.action) for scene in some for name, _ in scene.cast} == {
        (name, action) for name in CHARACTERS for action in ACTIONS
    }
    assert len({sha256(render(scene)).digest() for scene in some}) == len(some)
    frame = render(scenes[0])
    assert (frame.shape, frame.dtype) == ((128, 128, 3), np.uint8)


def test_shirts_fill_a_large_area_in_every_pose():
    for name in CHARACTERS:
        for shirt, colour in SHIRTS.items():
            for action in ACTIONS:
                frame = render(Scene("city", ((name, shirt),), action)).astype(int)
                area = (np.abs(frame[60:112] - colour).max(axis=-1) < 12).sum()
                assert area >= 26 * 22, (name, shirt, action)


def test_explicit_captions():
    pair = Scene("beach", (("pip", "red"), ("luna", "blue")), "wave")
    expected = "Pip the chick in a red shirt and Luna the cat in a blue shirt wave on the beach."
    assert pair.explicit_caption() == expected
    alone = Scene("city", (("zara", "white"),), "sleep")
    bare = "Zara the frog sleeps in the city at night."
    assert alone.explicit_caption(name_clothes=False) == bare
    captions = {scene.explicit_caption() for scene in all_scenes()}
    assert len(captions) == 5100 and max(len(c.split()) for c in captions) <= 22
    assert all(SPECIES[name] in c for c in captions for name in CHARACTERS if name.title() in c)


def test_the_file_holds_the_stories_in_true_colours_whatever_the_processes(built, tmp_path):
    again = build_cartoon_file(tmp_path / "two.h5", SIZES, 7, 2)
    assert again.read_bytes() == built.read_bytes()
    assert validate_story_file(built) == SIZES
    for split, told in tell_stories(SIZES, 7).items():
        file = StoryFile(built, split)
        assert (len(file), file.pictures_per_story) == (SIZES[split], 5)
        assert file.label_vocabulary == LABEL_VOCABULARY
        for index in (0, len(file) - 1):
            story = told[index]
            assert file.captions(index) == list(story.captions)
            assert file.labels(index) == list(story.labels)
            for k, scene in enumerate(story.scenes):
                assert np.array_equal(file.picture(index, k), render(scene))


def test_ensure_builds_once_and_anew_for_other_inputs(tmp_path):
    sizes = {"train": 2, "val": 1, "test": 1}
    path = ensure_cartoon_file(tmp_path, sizes, 0)
    assert re.fullmatch(r"cartoon-[0-9a-f]{12}\.h5", path.name)
    stamp = path.stat().st_mtime_ns
    assert ensure_cartoon_file(tmp_path, dict(reversed(sizes.items())), 0) == path
    assert path.stat().st_mtime_ns == stamp
    assert ensure_cartoon_file(tmp_path, sizes, 1) != path
    assert ensure_cartoon_file(tmp_path, {**sizes, "val": 2}, 0) != path
    assert len(list(tmp_path.iterdir())) == 3


DRAWS = """
import os, signal, sys
sys.path.insert(0, {root!r})
from datasets.cartoon import build

def picture(scene):
    {happens}

build._picture = picture
try:
    build.build_cartoon_file({target!r}, {sizes!r}, 0, processes=2)
except OSError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    "happens, status, says",
    [
        ("os._exit(9)", 1, "a process that draws cartoon scenes was killed"),
        ("os.kill(os.getppid(), signal.SIGKILL)", -signal.SIGKILL, ""),
    ],
)
def test_nothing_waits_for_processes_that_were_killed(tmp_path, happens, status, says):
    target = tmp_path / "world.h5"
    told = {"root": str(Path(__file__).parents[2]), "target": str(target), "sizes": SIZES}
    program = DRAWS.format(happens=happens, **told)
    # The output ends when the last process that could write to it has ended: none is left behind.
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == status and says in done.stderr and not target.exists()
