"""What is drawn, on its way into a samples folder."""

from __future__ import annotations

import numpy as np
import torch

import sample
from models.pipeline_output import StoryPipelineOutput


def pictures(seed, count=2):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)


def test_a_batch_becomes_stories_with_their_history_weights():
    frames = np.stack([pictures(0), pictures(1)])
    weights = torch.tensor([[[0, 0], [1, 0]], [[0, 0], [0.123456, 0]]])
    drawn = StoryPipelineOutput(torch.from_numpy(frames).permute(0, 1, 4, 2, 3), weights)
    shown, looked = zip(*drawn.stories(), strict=True)
    assert [rows[1] for rows in looked] == [[1, 0], [0.1235, 0]]
    assert np.array_equal(np.stack(shown), frames)
    assert [rows for _, rows in StoryPipelineOutput(drawn.frames).stories()] == [None, None]


def test_real_frames_of_different_sizes_are_brought_to_the_drawn_ones():
    large = np.repeat(np.repeat(pictures(10), 3, 1), 3, 2)  # (2, 12, 18, 3)
    small, kept = sample._of_one_size([large[0], pictures(11)[1]], (4, 6))
    assert small.shape == (4, 6, 3) and np.array_equal(kept, pictures(11)[1])
    assert np.abs(small.astype(int) - pictures(10)[0]).mean() < 30  # noise: 85
    assert sample._of_one_size(list(large), (4, 6))[0] is not None
    assert np.array_equal(np.stack(sample._of_one_size(list(large), (4, 6))), large)  # left alone
