"""The Inception score: exp of the mean KL divergence of a picture's classes from those of all
(Salimans et al., arXiv 1606.03498), over one split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import entr, softmax

__all__ = ["InceptionScore"]


class InceptionScore:
    """Of weighted stories' logits."""

    resampling_shifts_it = True  # repeated pictures look like lost variety

    def __call__(self, drawn: np.ndarray, sizes: Sequence[int], weights: np.ndarray) -> np.ndarray:
        """(n,) scores; story s is `sizes[s]` rows of `drawn`, counted `weights[:, s]` times."""
        shares = softmax(np.asarray(drawn, float), axis=1)
        times = np.repeat(weights, sizes, axis=1) / (weights @ sizes)[:, None]  # (n, pictures)
        # The mean divergence is the entropy of all classes less the pictures' mean entropy.
        return np.exp(entr(times @ shares).sum(1) - times @ entr(shares).sum(1))
