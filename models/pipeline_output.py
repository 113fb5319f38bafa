"""What drawing stories gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from diffusers.utils import BaseOutput
from torch import Tensor

__all__ = ["StoryPipelineOutput"]


@dataclass
class StoryPipelineOutput(BaseOutput):
    """frames: of B stories, given frames included: `pil`: lists of K images; `np`: (B, K, H, W, 3)
    in [0, 1]; `pt`: (B, K, 3, H, W) in [0, 1]; `uint8`: the same tensor in 0…255.

    history_weights: (B, K, K), how much frame n looked at each earlier one; None without
    `HistoryWeighting`. A row's sum is 1, or 0 for a frame that was given or had no history.
    """

    frames: Any
    history_weights: Tensor | None = None

    def stories(self) -> Iterator[tuple[np.ndarray, list[list[float]] | None]]:
        """Of `uint8`, story by story: frames (K, H, W, 3), and weights to four digits or None."""
        for i, frames in enumerate(self.frames.permute(0, 1, 3, 4, 2).cpu().numpy()):
            weights = None
            if self.history_weights is not None:  # 0 means out of sight, not small
                rows = self.history_weights[i].tolist()
                weights = [[float(f"{weight:.4g}") for weight in row] for row in rows]
            yield frames, weights
