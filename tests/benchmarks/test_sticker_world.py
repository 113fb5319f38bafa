"""The stories of the sticker world: captions and labels tell the same, and so do the scores."""

from __future__ import annotations

import re
from random import Random

import pytest

from benchmarks.sticker_world import CAST, FRAMES, PLACES, _scores, tell


def test_captions_name_who_is_there_and_later_say_he_she_or_they():
    for seed in range(60):
        captions, scenes = tell(Random(seed))
        assert len(captions) == len(scenes) == FRAMES
        seen: list[str] = []
        for caption, scene in zip(captions, scenes, strict=True):
            words = re.findall(r"\w+", caption.split("goes home. ")[-1].lower())
            named, cast = [name for name in CAST if name in words], scene["cast"]
            assert set(named) <= set(cast) and 1 <= len(cast) <= 2
            assert ("they" in words) == (len(cast) == 2)
            if not named and len(cast) == 1:
                assert CAST[cast[0]][1] in words
            assert set(cast) - set(seen) <= set(named)  # nobody comes unnamed
            places = [place for place, (phrase, _) in PLACES.items() if phrase in caption]
            assert places in ([], [scene["place"]])
            assert re.match(r"[A-Z].*[a-z]\.$", caption)
            assert any(word.startswith(scene["action"]) for word in words)
            seen += cast
        assert 2 <= len(set(seen)) <= 4


def test_scores_count_named_characters_and_whole_casts():
    label = {"cast": ["ella", "otto"], "place": "sea", "action": "jump"}
    readings = [label, {**label, "cast": ["ella"]}, {**label, "cast": ["otto", "ella"]}]
    captions = ["Otto the owl comes and they jump.", "Otto comes.", "They jump."]
    scores = _scores([{**one, "place": "city"} for one in readings], [label] * 3, captions)
    assert scores["named"] == 0.5  # Otto twice, of whom one is seen
    assert scores["cast"] == pytest.approx(2 / 3, abs=1e-3)
    assert scores["place"] == 0 and scores["action"] == 1
