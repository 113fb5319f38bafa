"""Several seeds as one value of a table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["mean_spread"]


def mean_spread(values: Iterable[float | None]) -> str:
    """Mean and, after ±, standard deviation of the values that are there."""
    numbers = np.array([value for value in values if value is not None])
    if not len(numbers):
        return "–"
    spread = f" ± {numbers.std(ddof=1):.3f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.3f}{spread}"
