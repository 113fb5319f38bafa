"""The table of speeds, row by row."""

from __future__ import annotations

import torch

from benchmarks import speed_training
from benchmarks.speed import SIZES


def test_a_row_of_training_is_there_before_the_next_is_measured(monkeypatch):
    losses = []

    def seconds_of(work, device):
        losses.append(float(work()))
        return float(len(losses))

    monkeypatch.setattr(speed_training, "seconds_of", seconds_of)
    monkeypatch.setattr(speed_training, "peak_of", lambda sizes, side, how: 2**31 if how else 2**32)
    rows = speed_training.training_table(SIZES["minute"], 8, 1, torch.device("cpu"))
    assert "step in the backward pass" in (next(rows), next(rows))[1]
    assert len(losses) == 4 and all(0 < loss < 100 for loss in losses)
    assert "time 0.833 (0.833–0.833), memory 0.50 of 4.0 GiB" in next(rows)
