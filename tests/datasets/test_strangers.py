"""Strangers: made-up characters of the cartoon world, and stories that they live in."""

import numpy as np

from datasets.cartoon.build import tell_stories
from datasets.cartoon.grammar import vocabulary
from datasets.cartoon.renderer import render
from datasets.cartoon.strangers import PARTS, features, make_up, stranger
from datasets.cartoon.world import ACTIONS, CHARACTERS, NEWCOMERS, PRONOUNS, Scene

COUNT = 24


def test_everyone_has_a_word_of_their_own_and_looks_like_nobody_else():
    names = make_up(COUNT)
    assert names == make_up(2 * COUNT)[:COUNT] and len({*names}) == COUNT
    assert not {*names} & {*CHARACTERS, *NEWCOMERS, *vocabulary()}
    assert not any(stranger(name) for name in (*CHARACTERS, *NEWCOMERS, *vocabulary()))
    everyone = [*names, *CHARACTERS, *NEWCOMERS]
    for action in ACTIONS:
        drawn = {render(Scene("meadow", ((name, "red"),), action)).tobytes() for name in everyone}
        assert len(drawn) == len(everyone)


def test_they_have_all_parts_but_never_a_newcomers_ears_with_its_face():
    looks = [stranger(name) for name in make_up(600)]
    for part, kinds in PARTS.items():
        assert {getattr(look, part) for look in looks} == {*kinds}
    both = {(look.ears, look.face) for look in looks}
    assert not both & {("hanging", "patch"), ("none", "heart"), ("tufts", "discs")}
    assert {ears for ears, _ in both} >= {"hanging", "none", "tufts"}
    numbers = np.array([features(look) for look in looks])
    assert np.linalg.matrix_rank(numbers) >= numbers.shape[1] - len(PARTS)


def test_they_take_places_in_every_second_training_story_alone():
    sizes = {"train": 40, "val": 5, "test": 5}
    plain, told = tell_stories(sizes, 0), tell_stories(sizes, 0, strangers=COUNT)
    assert {k: told[k] for k in ("val", "test")} == {k: plain[k] for k in ("val", "test")}
    assert told["train"][::2] == plain["train"][::2]
    for before, after in zip(plain["train"][1::2], told["train"][1::2], strict=True):
        assert {who for scene in after.scenes for who, _ in scene.cast} - {*CHARACTERS}
        for old, new, label in zip(before.scenes, after.scenes, after.labels, strict=True):
            assert (old.place, old.action) == (new.place, new.action)
            assert [shirt for _, shirt in old.cast] == [shirt for _, shirt in new.cast]
            assert label["cast"] == [who for who, _ in new.cast]
            for (was, _), (who, _) in zip(old.cast, new.cast, strict=True):
                assert was == who or stranger(who).pronoun == PRONOUNS[was]
        named = {word for word in " ".join(after.captions).replace(".", "").split()}
        assert all(
            who.title() in named or f"{who.title()}," in named for who in after.labels[0]["cast"]
        )
