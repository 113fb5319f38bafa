"""The damaged stories of the benchmark, and what its table calls worse."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.damaged_stories import STRENGTHS, write_damaged
from benchmarks.metric_damage import UNDAMAGED, gets_worse, markdown
from datasets.cartoon.grammar import make_story
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
    apart = []
    for strength in STRENGTHS[kind]:
        drawn, real = pictures(stories, tmp_path / str(strength), kind, strength)
        apart.append(np.abs(drawn - real).mean((1, 2, 3)))
    assert (apart[0] <= apart[1]).all() and (apart[1] <= apart[2]).all()
    assert apart[0].sum() < apart[2].sum() and (apart[2] > 0).mean() > 0.5
    if kind in ("characters swapped", "wrong place"):
        assert (apart[2] > 0).all()  # no frame is spared


def test_undamaged_frames_are_the_references(stories, tmp_path):
    drawn, real = pictures(stories, tmp_path, *UNDAMAGED)
    assert np.array_equal(drawn, real)


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
