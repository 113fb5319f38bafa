"""The original system's recorded forward passes, where GOLDEN_FOLDER says they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden import TASKS, compare_forward

FOLDER = os.environ.get("GOLDEN_FOLDER")


@pytest.mark.skipif(FOLDER is None, reason="GOLDEN_FOLDER is not set")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["nocf", "cf"])
def test_conditioning_mask_noise_and_loss_are_the_originals(task: str, kind: str) -> None:
    lines = compare_forward(Path(FOLDER), task, kind)
    assert len(lines) == 10
    assert all(line.good for line in lines), "\n".join(map(str, lines))
