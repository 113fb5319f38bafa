"""The Fréchet distance between two sets of features, each taken for a Gaussian.

    |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½)        (Heusel et al., arXiv 1706.08500, section 2)

The last trace is the sum of the singular values of R1ᵀ R2, where S = R Rᵀ. That is quicker and
steadier than the general eigenvalues of S1 S2 that torchmetrics takes, above all for fewer pictures
than features, where the centred rows themselves are R; and the interval needs a hundred of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from common.terminal import tqdm
from evaluation.networks.features import chunks

__all__ = ["FrechetAgainst", "Gaussian", "frechet_distance"]


class Gaussian:
    """Mean and covariance of rows (n, width), each counted `weights` (n,) times; a chunk of rows is
    in memory at once, or all where they are fewer than `width`."""

    def __init__(self, rows: np.ndarray, weights: np.ndarray | None = None) -> None:
        weights = np.ones(len(rows)) if weights is None else weights.astype(float)
        self.few = np.count_nonzero(weights) <= rows.shape[1]
        if self.few:
            rows, weights = rows[weights > 0], weights[weights > 0]
        count, parts = weights.sum(), list(zip(chunks(rows), chunks(weights), strict=True))
        self.mean = sum(times @ part.astype(float) for part, times in parts) / count
        scaled = (
            (part - self.mean) * np.sqrt(times / max(count - 1, 1))[:, None]
            for part, times in parts
        )
        if self.few:
            self.root = np.concatenate(list(scaled)).T
            self.trace = np.square(self.root).sum()
        else:
            self.covariance = sum(part.T @ part for part in scaled)
            self.trace = self.covariance.trace()

    @cached_property
    def root(self) -> np.ndarray:
        """(width, rank) R with R Rᵀ = covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        kept = values > values[-1] * len(values) * np.finfo(float).eps
        return vectors[:, kept] * np.sqrt(values[kept])


def frechet_distance(one: Gaussian, two: Gaussian, exact: bool = True) -> float:
    """`exact` costs a decomposition of `two` and is right to rounding where both sets agree."""
    if exact or two.few:
        cross = np.linalg.svd(one.root.T @ two.root, compute_uv=False).sum()
    else:
        squares = np.linalg.eigvalsh(one.root.T @ two.covariance @ one.root)
        cross = np.sqrt(squares.clip(0)).sum()
    apart = np.square(one.mean - two.mean).sum()
    return float(apart + one.trace + two.trace - 2 * cross)


class FrechetAgainst:
    """The distance of weighted stories to one set of real features (M, width)."""

    # Repeated pictures look like lost variety, and one draw takes seconds.
    resampling_shifts_it = True

    def __init__(self, real: np.ndarray) -> None:
        self.real = Gaussian(real)

    def __call__(self, drawn: np.ndarray, sizes: Sequence[int], weights: np.ndarray) -> np.ndarray:
        """(n,) distances; story s is `sizes[s]` rows of `drawn`, counted `weights[:, s]` times."""
        bar = tqdm(weights, "Fréchet", disable=len(weights) < 10, leave=False)
        return np.array([
            frechet_distance(self.real, Gaussian(drawn, np.repeat(times, sizes)), exact=not number)
            for number, times in enumerate(bar)
        ])  # fmt: skip
