"""Kernel (Inception) distance: the unbiased squared MMD with the kernel (x·y / width + 1)³.

    mean of k over pairs of drawn + mean over pairs of real - 2 mean over drawn with real

Bińkowski et al., arXiv 1801.01401. All pairs are taken. Libraries average random subsets of 1000
pictures instead, which estimates the same number with noise and with a seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["KernelAgainst"]

ROWS = 1024


class KernelAgainst:
    """The distance of weighted stories to one set of real features (M, width)."""

    resampling_shifts_it = False

    def __init__(self, real: np.ndarray) -> None:
        self.real = real
        whole = np.arange(0, len(real), ROWS)
        total = sum(
            _kernel(real[a : a + ROWS], real[b : b + ROWS]).sum() for a in whole for b in whole
        )
        own = sum(_own(real[a : a + ROWS]).sum() for a in whole)
        self.real_mean = (total - own) / max(len(real) * (len(real) - 1), 1)

    def __call__(self, drawn: np.ndarray, sizes: Sequence[int], weights: np.ndarray) -> np.ndarray:
        """(n,) distances; story s is `sizes[s]` rows of `drawn`, counted `weights[:, s]` times.

        A picture drawn twice by the bootstrap is not paired with itself; NaN where only one is.
        """
        story = np.repeat(np.arange(len(sizes)), sizes)  # of every row
        within = np.zeros((len(sizes), len(sizes)))  # kernel sums of story with story
        across, own = np.zeros((2, len(sizes)))
        blocks = []  # rows, where in them a story starts, which it is
        for rows in (slice(start, start + ROWS) for start in range(0, len(drawn), ROWS)):
            starts = np.flatnonzero(np.diff(story[rows], prepend=-1))
            blocks.append((drawn[rows], starts, story[rows][starts]))
        for part, starts, stories in blocks:
            own[stories] += np.add.reduceat(_own(part), starts)
            for other, there, others in blocks:
                sums = np.add.reduceat(_kernel(part, other), starts, axis=0)
                within[np.ix_(stories, others)] += np.add.reduceat(sums, there, axis=1)
            for start in range(0, len(self.real), ROWS):
                sums = _kernel(part, self.real[start : start + ROWS]).sum(1)
                across[stories] += np.add.reduceat(sums, starts)
        weights = weights.astype(float)
        count = weights @ sizes
        pairs = count**2 - weights**2 @ sizes
        pairs[pairs == 0] = np.nan
        among = (weights @ within * weights).sum(1) - weights**2 @ own
        return among / pairs + self.real_mean - 2 * (weights @ across) / (count * len(self.real))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1) ** 3


def _own(x: np.ndarray) -> np.ndarray:
    return (np.square(x.astype(np.float64)).sum(1) / x.shape[1] + 1) ** 3
