"""The damaged stories of the benchmark, and what its table calls worse."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.damaged_stories import STRENGTHS, write_damaged, write_told
from benchmarks.metric_damage import UNDAMAGED, gets_worse, markdown
from benchmarks.stand_in_detector import boxes
from common.vistorybench import read_benchmark
from datasets.cartoon.grammar import make_story
from datasets.cartoon.renderer import render
from evaluation.samples import read_picture, read_samples


@pytest.fixture(scope="module")
def stories():
    rng = random.Random(1)
    return [make_story(rng, True) for _ in range(2)]


def pictures(stories, folder, kind, strength):
    """(drawn, real), each (N, H, W, 3) as numbers."""
    write_damaged(folder, stories, kind, strength)
    found = read_samples(folder).stories
    sets = [[p for s in found for p in s.frames], [p for s in found for p in s.reference_frames]]
    return [np.stack([read_picture(path) for path in one]).astype(int) for one in sets]


@pytest.mark.parametrize("kind", STRENGTHS)
def test_more_strength_is_more_damage(stories, tmp_path, kind):
    drawn, real = pictures(stories[:1], tmp_path / "none", *UNDAMAGED)
    assert np.array_equal(drawn, real)
    apart = []
    for strength in STRENGTHS[kind]:
        drawn, real = pictures(stories[:1], tmp_path / str(strength), kind, strength)
        apart.append(np.abs(drawn - real).mean((1, 2, 3)))
    assert (apart[0] <= apart[1]).all() and (apart[1] <= apart[2]).all()
    assert apart[0].sum() < apart[2].sum() and (apart[2] > 0).mean() > 0.5
    if kind in ("characters swapped", "wrong place"):
        assert (apart[2] > 0).all()  # no frame is spared


def test_stories_are_told_as_a_benchmark_and_characters_lie_in_their_boxes(stories, tmp_path):
    write_damaged(tmp_path / "drawn", stories)
    write_told(tmp_path / "told", tmp_path / "drawn")
    for story, told in zip(stories, read_benchmark(tmp_path / "told"), strict=True):
        for scene, shot in zip(story.scenes, told.shots, strict=True):
            assert shot.cast == tuple(name for name, _ in scene.cast)
            assert shot.caption == scene.explicit_caption()
            there = render(scene) != render(replace(scene, cast=()))
            rows, columns = np.nonzero(there.any(2))
            inside = np.zeros(len(rows), bool)
            for x, y, wide, high in 128 * boxes(scene).numpy():
                beside = np.abs(columns + 0.5 - x) <= wide / 2
                inside |= beside & (np.abs(rows + 0.5 - y) <= high / 2)
            assert inside.all()
            if len(scene.cast) == 1:  # and the box is no larger
                assert np.ptp(columns) + 1 == pytest.approx(wide, abs=2)
                assert np.ptp(rows) + 1 == pytest.approx(high, abs=2)
        assert all(len(one.pictures) == 1 for one in told.characters)


def test_worse_with_every_step_is_bold():
    assert gets_worse([1.0, 0.9, 0.5], True) and not gets_worse([1.0, 0.9, 0.5], False)
    assert not gets_worse([1.0, 1.0, 0.5], True) and not gets_worse([1.0, None], True)

    def entry(value):
        return {"m": {"value": value, "real": 0.95, "shuffled": None, "higher_is_better": True}}

    found = {UNDAMAGED: entry(1.0)}
    for kind, many in STRENGTHS.items():
        for place, strength in enumerate(many):
            found[kind, strength] = entry(0.9 - 0.1 * place if kind == "blur" else 1.0)
    row = markdown(found).splitlines()[-1]
    assert row.startswith("| `m` | 1.00 | **0.90 · 0.80 · 0.70** | 1.00 · 1.00 · 1.00 |")
    assert row.endswith("| 0.95 | – |")
