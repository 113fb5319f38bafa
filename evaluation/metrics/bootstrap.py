"""95 % intervals by resampling whole stories, and the paired test of two systems by exchanging
them; frames of one story are not independent."""

from __future__ import annotations

import numpy as np
from scipy.stats import permutation_test

__all__ = ["interval", "paired_p", "ratio", "resampled", "story_weights"]


def story_weights(stories: int, draws: int, seed: int = 0) -> np.ndarray:
    """(1 + draws, stories): how often each story counts; in row 0 each once. Only that row of a
    single story, which resampling cannot change."""
    random = np.random.default_rng(seed)
    drawn = random.multinomial(stories, [1 / stories] * stories, draws if stories > 1 else 0)
    return np.concatenate([np.ones((1, stories), int), drawn])


def interval(values: np.ndarray, recentre: bool = False) -> list[float] | None:
    """2.5 and 97.5 percentiles of values[1:]; with `recentre`, moved so that their mean is
    values[0] (for statistics that resampling shifts). None with nothing to resample."""
    drawn = values[1:]
    if not len(drawn) or np.isnan(drawn).all():
        return None
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    shift = values[0] - np.nanmean(drawn) if recentre else 0.0
    return [float(low + shift), float(high + shift)]


def ratio(counts: np.ndarray) -> np.ndarray:
    """(..., 2) numerator and denominator -> (...), NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts[..., 0] / counts[..., 1]


def resampled(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ratio of the sums of (S, 2) with each row of `weights`; where fewer than two stories count,
    which resampling cannot change either, NaN in all but the first."""
    values = ratio(weights @ counts)
    values[1:] = values[1:] if _counted(counts) > 1 else np.nan
    return values


def _counted(counts: np.ndarray) -> int:
    return np.count_nonzero(counts[:, 1])


def paired_p(one: np.ndarray, two: np.ndarray, draws: int = 9999) -> float | None:
    """Two-sided p of two systems' (S, 2) numerators and denominators: how often the ratio of sums
    differs as much when stories change systems at random (all ways, where they are fewer). None of
    a single story that counts."""
    if _counted(one + two) < 2 or np.isnan(ratio(one.sum(0)) - ratio(two.sum(0))):
        return None
    both = np.concatenate([one, two])
    stories = np.arange(len(one))

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return ratio(both[a].sum(axis - 1)) - ratio(both[b].sum(axis - 1))

    found = permutation_test(
        (stories, stories + len(one)), difference, permutation_type="samples", vectorized=True,
        n_resamples=draws, batch=256, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)
