"""Which frame a caption needs, and whether weights found it, on a story written by hand."""

from __future__ import annotations

import pytest

from benchmarks.history_hits import history_hits, needed_frames
from evaluation.samples import SampledStory


def frame(place, *cast, named=False):
    return {"place": place, "cast": list(cast), "place_named": named}


CAPTIONS = ["Pip and Luna stand on the beach.", "She waves.", "He walks to the city and jumps.",
            "Luna is back and they wave.", "He sleeps."]  # fmt: skip
LABELS = [
    frame("beach", "pip", "luna", named=True),
    frame("beach", "luna"),
    frame("city", "pip", named=True),
    frame("city", "pip", "luna"),
    frame("city", "pip"),
]


def story(weights=None, given=0):
    paths = [f"{k}.png" for k in range(5)]
    return SampledStory("s", CAPTIONS, paths, given=given, labels=LABELS, history_weights=weights)


def test_needed_frames_show_all_that_is_left_open():
    assert [needed_frames(story(), n) for n in range(5)] == [set(), {0}, {0}, {2}, {2, 3}]


def on(*columns):
    """All weight of frame n on columns[n], a little on the rest."""
    rows = [[0.0] * 5]
    for n, column in enumerate(columns, 1):
        rows.append([0.0] * 5)
        for u in range(n):
            rows[n][u] = 0.1
        rows[n][column] = 1 - 0.1 * (n - 1)
    return rows


def test_hits_count_where_something_could_be_missed():
    """Frame 1 sees one frame only and does not count."""
    found = history_hits([story(on(0, 0, 2, 3))])
    assert found["frames"] == 3 and found["rate"] == 1
    assert found["chance"] == pytest.approx((1 / 2 + 1 / 3 + 2 / 4) / 3)
    assert found["latest"] == pytest.approx(2 / 3)
    assert found["mass"] == pytest.approx((0.9 + 0.8 + 0.8) / 3)
    assert history_hits([story(on(0, 1, 0, 0))])["rate"] == 0


def test_hidden_frames_are_not_asked_for():
    weights = [[0.0] * 5 for _ in range(5)]
    for n in range(1, 5):
        weights[n][n - 1] = 1.0  # a window of one frame
    assert history_hits([story(weights)]) is None
    assert history_hits([story()]) is None
