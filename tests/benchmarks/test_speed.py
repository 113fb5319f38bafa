"""The table of speeds, row by row."""

from __future__ import annotations

import torch

from benchmarks import speed_training
from benchmarks.speed import SIZES


def test_a_row_of_training_is_there_before_the_next_is_measured(monkeypatch):
    turns = []

    def take_turns(works, rounds, device):
        turns.append([float(work()) for work in works.values()])
        return {name: [float(n)] for n, name in enumerate(works, 1)}

    monkeypatch.setattr(speed_training, "take_turns", take_turns)
    monkeypatch.setattr(speed_training, "peak_of", lambda sizes, side, how: 2**31 if how else 2**32)
    rows = speed_training.training_table(SIZES["minute"], 8, 1, torch.device("cpu"))
    assert "step in the backward pass" in (next(rows), next(rows))[1]
    assert len(turns) == 2 and all(0 < loss < 100 for losses in turns for loss in losses)
    assert "time 0.500 (0.500–0.500), memory 0.50 of 4.0 GiB" in next(rows)
