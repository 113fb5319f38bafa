"""The autoencoder's training runs, and what it gives is told by the frames."""

from __future__ import annotations

import torch

from datasets.cartoon.world import Scene
from pretraining.autoencoder import encode, psnr, train_autoencoder
from pretraining.examples import draw


def test_a_few_steps_bring_frames_nearer():
    frames = draw(
        [Scene("beach", (("momo", "red"),), "jump"), Scene("city", (("pip", "blue"),), "wave")]
    )
    torch.manual_seed(0)
    early = train_autoencoder(frames, steps=1, batch_size=2)
    torch.manual_seed(0)
    later = train_autoencoder(frames, steps=12, batch_size=2)
    assert encode(later, frames).shape == (2, 64, 8, 8)
    assert psnr(later, frames) > psnr(early, frames) + 1
