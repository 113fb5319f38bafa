from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from evaluation.metrics import kid
from evaluation.metrics.bootstrap import interval, story_weights
from evaluation.metrics.frechet import FrechetAgainst, Gaussian, frechet_distance
from evaluation.metrics.kid import KernelAgainst


def features(count, width, seed):
    """Correlated, skewed, far from 0, as real features are."""
    random = np.random.default_rng(seed)
    rows = random.gamma(1.0, 1.0, (count, width)) @ random.normal(0, 0.3, (width, width)) + 2
    return rows.astype(np.float32)


def frechet(real, drawn):
    """Plain SciPy, from the definition."""
    x, y = real.astype(np.float64), drawn.astype(np.float64)
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    apart = np.sum((x.mean(0) - y.mean(0)) ** 2)
    return apart + np.trace(s) + np.trace(t) - 2 * np.trace(sqrtm(s @ t)).real


def kernel(real, drawn):
    """Pair by pair, from the definition."""

    def mean(x, y, same):
        pairs = [(a, b) for i, a in enumerate(x) for j, b in enumerate(y) if not same or i != j]
        return np.mean([(float(a @ b) / len(a) + 1) ** 3 for a, b in pairs])

    real, drawn = real.astype(np.float64), drawn.astype(np.float64)
    return mean(drawn, drawn, True) + mean(real, real, True) - 2 * mean(drawn, real, False)


def once(kind, real, drawn):
    return kind(real)(drawn, [len(drawn)], np.ones((1, 1)))[0]


def test_frechet_equals_scipy_and_torchmetrics():
    real, drawn = features(1300, 48, 0), features(30, 48, 1) * 1.2  # chunks, and few pictures
    value = once(FrechetAgainst, real, drawn)
    assert value == pytest.approx(frechet(real, drawn), rel=1e-6)
    given = nn.Identity()
    given.num_features = 48
    theirs = FrechetInceptionDistance(given).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(real).double(), real=True)
    theirs.update(torch.from_numpy(drawn).double(), real=False)
    assert value == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_identical_sets_are_at_zero_even_with_fewer_pictures_than_features():
    few = features(40, 200, 2)
    assert once(FrechetAgainst, few, few[::-1]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("count", [40, 400])  # fewer rows than features, and more
def test_the_quick_way_of_the_bootstrap_agrees_with_the_exact_one(count):
    real, drawn = Gaussian(features(count, 60, 12)), Gaussian(features(count, 60, 13))
    exact = frechet_distance(real, drawn)
    assert frechet_distance(real, drawn, exact=False) == pytest.approx(exact, rel=1e-6)


def test_kernel_distance_equals_pair_by_pair_and_torchmetrics(monkeypatch):
    real, drawn = features(60, 16, 6), features(45, 16, 7) * 1.1
    for rows in (kid.ROWS, 7):  # at a time
        monkeypatch.setattr(kid, "ROWS", rows)
        value = once(KernelAgainst, real, drawn)
        assert value == pytest.approx(kernel(real, drawn), rel=1e-6)
    pair = (torch.from_numpy(rows).double() for rows in (real[:45], drawn))
    theirs = poly_mmd(*pair, 3, None, 1.0).item()
    assert once(KernelAgainst, real[:45], drawn) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("kind", [FrechetAgainst, KernelAgainst])
def test_a_story_counted_twice_is_as_if_it_were_there_twice(kind):
    real, drawn = features(80, 6, 10), features(40, 6, 11)
    sizes, weights = [4] * 10, np.array([[1] * 10, [2, 0, 1, 1, 1, 1, 1, 1, 1, 1]])
    found = kind(real)(drawn, sizes, weights)[1]
    rows = np.concatenate([drawn[:4], drawn[:4], drawn[8:]])
    if kind is FrechetAgainst:
        assert found == pytest.approx(frechet(real, rows), rel=1e-6)
    else:  # a picture is not paired with its copy
        k = (rows.astype(float) @ rows.T.astype(float) / 6 + 1) ** 3
        copies = np.eye(40, dtype=bool)
        copies[np.arange(4), np.arange(4, 8)] = copies[np.arange(4, 8), np.arange(4)] = True
        y = real.astype(float)
        r = ((y @ y.T / 6 + 1) ** 3)[~np.eye(80, dtype=bool)]
        across = (rows.astype(float) @ y.T / 6 + 1) ** 3
        expected = k[~copies].mean() + r.mean() - 2 * across.mean()
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_draw_of_one_picture_alone_has_no_kernel_distance():
    """It has no pair of pictures; infinite values would be no number in an interval."""
    real, drawn = features(3, 16, 12), features(3, 16, 13)
    weights = story_weights(3, 500)
    alone = (weights.max(1) == 3) & (weights.sum(1) == 3)
    found = KernelAgainst(real)(drawn, [1] * 3, weights)
    assert alone.any() and np.array_equal(np.isnan(found), alone) and not np.isinf(found).any()
    assert np.isfinite(interval(found)).all()


def test_intervals():
    weights = story_weights(30, 500, seed=1)
    assert (weights[0] == 1).all() and (weights.sum(1) == 30).all()
    scores = np.random.default_rng(0).normal(5, 2, 30)
    values = weights @ scores / 30
    low, high = interval(values)
    error = 1.96 * scores.std() / np.sqrt(30)
    assert (low, high) == pytest.approx((values[0] - error, values[0] + error), abs=0.15)
    shifted = np.concatenate([values[:1], values[1:] + 9])
    assert interval(shifted, recentre=True) == pytest.approx([low, high], abs=0.1)
    assert interval(values[:1]) is None
