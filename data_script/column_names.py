"""Who the columns of a set's labels are, where nobody has published it: captions tell.

A column that is set where captions mention Pororo, and nowhere else, is Pororo's. Captions leave
out many who are there, so the two never agree wholly; what counts is that no other column, and no
other name, comes near.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

LEAST, MENTIONS = 0.3, 10  # agreement, and captions, from which on a name is believed


def agreement(shown: np.ndarray, captions: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """(columns, names): how columns (N, columns) of zeros and ones go together with the mention of
    names in N captions, as correlation: 1 for always, 0 for by chance. Rare names have none."""
    patterns = [re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE) for name in names]
    told = [[bool(pattern.search(caption)) for pattern in patterns] for caption in captions]
    mentioned = np.array(told, float).reshape(-1, len(names))
    enough = mentioned.sum(0) >= MENTIONS
    if not enough.any():
        return np.zeros((shown.shape[1], len(names)))
    with np.errstate(invalid="ignore", divide="ignore"):  # of columns that are never set
        scores = np.corrcoef(shown, mentioned, rowvar=False)
    columns = shown.shape[1]
    return np.nan_to_num(scores[:columns, columns:]) * enough


def name_columns(scores: np.ndarray, names: Sequence[str]) -> list[str]:
    """A name for every column whose name is beyond doubt, `character_N` for the others.

    Beyond doubt: column and name agree best with each other, by twice what either has with any
    other.
    """
    found = [f"character_{column}" for column in range(len(scores))]
    for column, row in enumerate(scores):
        best = int(row.argmax())
        others = np.concatenate([np.delete(row, best), np.delete(scores[:, best], column)])
        if row[best] >= LEAST and (others <= row[best] / 2).all():
            found[column] = names[best]
    return found
