"""The wide cartoon world: a listener who hears captions alone knows all but shirts and spots, of
which only who is left of whom."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from random import Random

import numpy as np
from test_cartoon import ACTION_WORDS

from datasets.cartoon.build import build_cartoon_file, ensure_cartoon_file, tell_stories
from datasets.cartoon.grammar import make_story, recast
from datasets.cartoon.renderer import find, render
from datasets.cartoon.wide import WideTeller, wide_vocabulary
from datasets.cartoon.world import (
    ACTIONS,
    CHARACTERS,
    COLOURS,
    KINDS,
    PLACES,
    PRONOUNS,
    WEATHERS,
    WIDE_HELD_OUT,
    WIDE_LABEL_VOCABULARY,
    Scene,
    Spot,
)
from datasets.story_hdf5 import StoryFile

SIZES = {"train": 6, "val": 2, "test": 4}
WEATHER_WORDS = {"clear": "clear|clears", "rain": "rain", "snow": "snow", "fog": "fog"}


class Listener:
    """Told one caption after the other; keeps who is around, the weather and who has what."""

    def __init__(self) -> None:
        self.place = self.weather = self.gone = self.visitor = None
        self.around, self.held = [], None  # held: (carrier, colour, kind)

    def hear(self, caption: str) -> dict:
        text = caption.lower()
        words = re.findall(r"[a-z]+", text)
        self.place = next((place for place in PLACES if place in words), self.place)
        for weather, pattern in WEATHER_WORDS.items():
            if re.search(rf"\b({pattern})\b", text):
                self.weather = weather
        named = sorted({*CHARACTERS} & {*words}, key=words.index)
        self.meet(text, named)
        self.handle(text, words, named)
        return {"place": self.place, "weather": self.weather, **self.shown(text, named)}

    def who(self, pronoun: str) -> str:
        """The only one around of that pronoun: a guest is never meant by it."""
        (found,) = [name for name in self.around if PRONOUNS[name] == pronoun]
        return found

    def meet(self, text: str, named: list[str]) -> None:
        if re.search(r"comes by|passes by", text):
            (self.visitor,) = named
        elif re.search(r"goes on|walks on", text):
            assert named == [self.visitor]
            self.visitor = None
        elif "goes home" in text:
            (self.gone,) = named
            self.around.remove(self.gone)
        elif re.search(r"comes back|is back", text):
            assert PRONOUNS[self.gone] in re.findall(r"\w+", text)
            self.around, self.gone = [*self.around, self.gone], None
        elif re.search(r"joins|comes along|arrives", text):
            self.around, self.gone = [*self.around, *named], None
        elif not self.around:
            self.around = named

    def handle(self, text: str, words: list[str], named: list[str]) -> None:
        actor = named[0] if named else self.who(words[0]) if words[0] in ("he", "she") else None
        if re.search(r"picks up|finds", text):
            colour = next(word for word in words if word in COLOURS)
            self.held = actor, colour, next(word for word in words if word in KINDS)
        elif "gives" in text:
            assert self.held[0] == actor
            self.held = self.who({"him": "he", "her": "she"}[words[2]]), *self.held[1:]
        elif "away" in text:
            assert self.held[0] == actor and self.held[2] in words
            self.held = None

    def shown(self, text: str, named: list[str]) -> dict:
        (found,) = [one for one in ACTIONS if re.search(rf"\b({ACTION_WORDS[one]})\b", text)]
        before = re.split(rf"\b({ACTION_WORDS[found]})\b", text)[0]
        subjects = ("they", "three", "he", "she", *CHARACTERS)
        subject = [word for word in re.findall(r"[a-z]+", before) if word in subjects][-1]
        if subject in ("they", "three"):
            cast = [*self.around, *([self.visitor] if subject == "three" else [])]
        else:
            cast = named if subject in CHARACTERS else [self.who(subject)]
        held = self.held if self.held and self.held[0] in cast else (None, None, "none")
        return {"cast": cast, "action": found,
                **dict(zip(("carrier", "colour", "object"), held, strict=True))}  # fmt: skip


def stories(count: int, frames: int = 10):
    return [make_story(Random(f"wide {i}"), True, frames, WideTeller) for i in range(count)]


def test_captions_determine_everything_but_shirts_and_spots():
    """Labels are what the listener knows, and say what a caption names; captions are short.

    Their casts are in the order from the left.
    """
    seen, vocabulary = [], wide_vocabulary()
    for story in stories(150):
        listener = Listener()
        for caption, label in zip(story.captions, story.labels, strict=True):
            heard = listener.hear(caption)
            assert heard == {key: label[key] for key in heard}, (story.captions, caption)
            words = set(re.findall(r"[a-z]+", caption.lower()))
            assert label["weather_named"] == bool(re.search(
                rf"\b({'|'.join(WEATHER_WORDS.values())})\b", caption.lower()))  # fmt: skip
            assert label["object_named"] == bool(words & {*KINDS})
            assert "shirt" not in words and words <= vocabulary
            assert len(re.findall(r"\w+|[^\w\s]", caption)) <= 18  # 20 tokens with start and end
            seen.append(heard)
    said = {"weather": WEATHERS, "object": ("none", *KINDS), "carrier": CHARACTERS}
    for key, names in said.items():
        assert {one[key] for one in seen} >= {*names}
    assert {len(one["cast"]) for one in seen} == {1, 2, 3}
    untold = [one for one in seen if one["carrier"]]
    assert len(untold) > 0.2 * len(seen)


def test_characters_stay_where_they_are_while_nobody_comes_goes_or_moves():
    kept = changed = 0
    for story in stories(200):
        spots, before = {}, None
        for caption, scene in zip(story.captions, story.scenes, strict=True):
            assert [spot.x for spot in scene.spots] == sorted(spot.x for spot in scene.spots)
            now = {name: spot for (name, _), spot in zip(scene.cast, scene.spots, strict=True)}
            comes = re.search(r"joins|comes (along|by|back)|arrives|is back|passes|goes|on\. Now",
                              caption)  # fmt: skip
            if before == scene.place and not comes:
                assert all(spots.get(name, spot) == spot for name, spot in now.items())
                kept += len(now.keys() & spots.keys())
                spots |= now
            else:
                changed += any(spots.get(name, spot) != spot for name, spot in now.items())
                spots = now
            before = scene.place
    assert kept > 500 and changed > 500


def test_characters_stand_anywhere_on_the_autoencoders_grid_and_cover_no_face():
    seen, arrangements = set(), set()
    for scene in (scene for story in stories(200) for scene in story.scenes):
        seen |= set(scene.spots)
        arrangements.add(tuple((spot.x, spot.size, spot.side) for spot in scene.spots))
        for left, right in pairwise(scene.spots):
            assert right.x - left.x >= 0.24 * (left.size + right.size)  # a head is narrower
    assert {spot.x for spot in seen} == set(range(24, 105, 16)) and len(seen) == 36
    assert len(arrangements) > 200


def test_held_out_combinations_stay_in_test_and_stories_repeat():
    told = tell_stories({"train": 300, "val": 40, "test": 100}, 3, world="wide")
    shown = {split: {pair for story in told[split] for scene in story.scenes
                     for pair in combinations_of(scene)} for split in told}  # fmt: skip
    assert not shown["train"] & WIDE_HELD_OUT and not shown["val"] & WIDE_HELD_OUT
    assert len(shown["test"] & WIDE_HELD_OUT) > 10
    for story in told["test"]:
        for scene, label in zip(story.scenes, story.labels, strict=True):
            assert label["held_out"] == bool(combinations_of(scene) & WIDE_HELD_OUT)
    assert tell_stories({"train": 5}, 3, world="wide")["train"] == told["train"][:5]
    assert told["train"][:5] != tell_stories({"train": 5}, 3)["train"]


def combinations_of(scene: Scene) -> set[tuple]:
    shown = {(name, scene.place, scene.action) for name, _ in scene.cast}
    if scene.carried:
        shown.add((scene.carried[0], scene.carried[1].split()[1]))
    return shown | {(scene.place, scene.weather)}


def test_pictures_differ_where_labels_do_and_characters_are_where_they_are_said_to_be():
    spots = (Spot(30, 116, 72, -1), Spot(96, 118, 76, 1))
    scene = Scene("house", (("bruno", "red"), ("luna", "blue")), "stand", "clear",
                  ("luna", "red ball"), spots)  # fmt: skip
    other = {"place": "city", "cast": (("bruno", "red"), ("luna", "white")), "action": "wave",
             "weather": "rain", "carried": ("bruno", "red ball")}  # fmt: skip
    changes = [{key: value} for key, value in other.items()]
    changes += [{"weather": one} for one in ("snow", "fog")]
    changes += [{"carried": None}, {"carried": ("luna", "green ball")}]
    changes += [{"carried": ("luna", f"red {kind}")} for kind in KINDS[1:]]
    changes += [{"spots": (spots[0]._replace(**{key: value}), spots[1])}
                for key, value in (("x", 36), ("ground", 112), ("size", 80))]  # fmt: skip
    changes += [{"spots": (spots[0], spots[1]._replace(side=-1))}]
    frames = [render(Scene(**{**vars(scene), **change})) for change in ({}, *changes)]
    for (a, one), (b, two) in combinations(enumerate(frames), 2):
        assert (np.abs(one.astype(int) - two).max(-1) > 40).sum() > 30, (a, b)
    assert np.array_equal(frames[0], render(scene))
    assert find(scene).keys() == {"bruno", "luna", "object"}
    red, blue = (226, 38, 48), (44, 138, 246)
    for name, shirt in (("bruno", red), ("luna", blue), ("object", red)):
        x, y = find(scene)[name]
        row, column = int(128 * y) + (10 if name != "object" else -5), int(128 * x)
        near = frames[0][row - 3 : row + 4, column - 3 : column + 4].astype(int)
        assert (np.abs(near - shirt).max(-1) < 20).any(), name


def test_explicit_captions_say_everything_discrete():
    spots = (Spot(20, 116, 60, -1), Spot(64, 116, 60, 1), Spot(106, 116, 60, 1))
    cast = (("pip", "red"), ("luna", "blue"), ("tiko", "white"))
    scene = Scene("beach", cast, "wave", "rain", ("luna", "green flag"), spots)
    assert scene.explicit_caption() == (
        "Pip the chick in a red shirt, Luna the cat in a blue shirt with a green flag and Tiko the "
        "fox in a white shirt wave on the beach in the rain."
    )
    seen = {}
    for scene in (scene for story in stories(150) for scene in story.scenes):
        said = (scene.place, scene.cast, scene.action, scene.weather, scene.carried)
        assert seen.setdefault(scene.explicit_caption(), said) == said


def test_the_file_holds_them_and_the_key_names_another_file(tmp_path):
    path = build_cartoon_file(tmp_path / "wide.h5", SIZES, 7, 1, world="wide")
    told = tell_stories(SIZES, 7, world="wide")
    for split in SIZES:
        file = StoryFile(path, split)
        assert file.label_vocabulary == WIDE_LABEL_VOCABULARY
        story = told[split][-1]
        assert file.captions(len(file) - 1) == list(story.captions)
        assert file.labels(len(file) - 1) == list(story.labels)
        assert np.array_equal(file.picture(len(file) - 1, 4), render(story.scenes[4]))
    small, wide, again = (
        ensure_cartoon_file(tmp_path, {"test": 1}, 1, **kind)
        for kind in ({}, {"world": "wide"}, {"world": "small"})
    )
    assert small == again != wide


def test_who_takes_a_place_takes_the_object_too():
    carried = [story for story in stories(50, 5) if any(s.carried for s in story.scenes)]
    for story in carried:
        old = next(scene.carried[0] for scene in story.scenes if scene.carried)
        labels = recast(story, {old: "milo"}).labels
        assert "milo" in {label["carrier"] for label in labels}
        assert all(label["carrier"] in (None, *label["cast"]) for label in labels)
