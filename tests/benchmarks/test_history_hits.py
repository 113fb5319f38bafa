"""Which frame a caption needs, and whether weights found it, on a story written by hand."""

from __future__ import annotations

import pytest

from benchmarks.history_hits import history_hits, needed_frames
from evaluation.samples import SampledStory

FRAMES = [  # caption, place and whether it is named, cast
    ("Pip and Luna stand on the beach.", "beach", True, ["pip", "luna"]),
    ("She waves.", "beach", False, ["luna"]),
    ("He walks to the city and jumps.", "city", True, ["pip"]),
    ("Luna is back and they wave.", "city", False, ["pip", "luna"]),
    ("He sleeps.", "city", False, ["pip"]),
]


def story(*columns, little=0.1):
    """Of each frame from the second, most weight on one of `columns`, a little on the rest."""
    weights = [[0.0] * 5 for _ in FRAMES] if columns else None
    for n, column in enumerate(columns, 1):
        weights[n][:n] = [little] * n
        weights[n][column] = 1 - little * (n - 1)
    labels = [{"place": p, "cast": cast, "place_named": named} for _, p, named, cast in FRAMES]
    captions, paths = [caption for caption, *_ in FRAMES], [f"{k}.png" for k in range(5)]
    return SampledStory("s", captions, paths, labels=labels, history_weights=weights)


def test_needed_frames_show_all_that_is_left_open():
    assert [needed_frames(story(), n) for n in range(5)] == [set(), {0}, {0}, {2}, {2, 3}]


def test_in_the_wide_world_weather_and_objects_are_left_open_too():
    told = story()
    for label, weather, named, carrier in zip(
        told.labels, ("rain", "rain", "snow", "snow", "snow"), (True, False, True, False, False),
        (None, "luna", "luna", "pip", "pip"), strict=True,
    ):  # fmt: skip
        label |= {"weather": weather, "weather_named": named, "object_named": False}
        label |= {"object": "ball", "colour": "red", "carrier": carrier}
    told.labels[1]["object_named"] = told.labels[3]["object_named"] = True
    assert [needed_frames(told, n) for n in range(5)] == [set(), {0}, set(), {2}, {3}]


def test_hits_count_where_something_could_be_missed():
    """Frame 1 sees one frame only and does not count."""
    found = history_hits([story(0, 0, 2, 3)])
    assert found["frames"] == 3 and found["rate"] == 1
    assert found["chance"] == pytest.approx((1 / 2 + 1 / 3 + 2 / 4) / 3)
    assert found["latest"] == pytest.approx(2 / 3)
    assert found["mass"] == pytest.approx((0.9 + 0.8 + 0.8) / 3)
    assert history_hits([story(0, 1, 0, 0)])["rate"] == 0
    assert history_hits([story()]) is None
    assert history_hits([story(0, 1, 2, 3, little=0)]) is None  # one frame is seen, none is missed
