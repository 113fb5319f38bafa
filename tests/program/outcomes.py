"""Reading what the program wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

CAPTIONS = ["Pip is in the meadow.", "He waves.", "He sleeps in the same place."]


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def behind(checkpoint: dict) -> tuple[int, int]:
    """Epochs and optimiser steps."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return progress["processed"], checkpoint["global_step"]


def same(one: dict, other: dict) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def frames(folder: Path) -> np.ndarray:
    """All frames of all stories, (N, H, W, 3)."""
    return np.stack([picture(path) for path in sorted(folder.glob("*/0*.png"))])


def state_of(folder: Path) -> dict:
    """Every frame's time of writing and content."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.glob("*/*.png")
    }
