"""The autoencoder's training runs, and what it gives is told by the frames."""

from __future__ import annotations

import torch

from datasets.cartoon.world import Scene
from pretraining.autoencoder import build_autoencoder, encode, psnr, shifted, train_autoencoder
from pretraining.cartoon_source import draw
from pretraining.schedule import Plan
from pretraining.sizes import Size

SCENES = [Scene("beach", (("momo", "red"),), "jump"), Scene("city", (("pip", "blue"),), "wave")]


def test_a_few_steps_bring_frames_nearer():
    frames = draw(SCENES, 64)
    found = []
    for steps in (1, 12):
        torch.manual_seed(0)
        vae = build_autoencoder(64, Size(decoder_widths=(128, 128), decoder_layers=1))
        assert train_autoencoder(vae, frames, Plan(steps, 2)) == steps
        assert encode(vae, frames).shape == (2, 64, 8, 8)
        found.append(psnr(vae, frames))
    assert found[1] > found[0] + 1


def test_few_pictures_are_shifted_and_mirrored_but_stay_what_they_are():
    torch.manual_seed(0)
    ramp = torch.arange(64).expand(64, 64).to(torch.uint8)  # brighter to the right
    frames = torch.stack([ramp, ramp.T, ramp.flip(1)])[None].repeat(40, 1, 1, 1)
    moved = shifted(frames)
    assert moved.shape == frames.shape and moved.dtype == torch.uint8
    middle = moved[:, :, 32, 32].int()
    assert (moved == frames).flatten(1).all(1).sum() < 3
    assert len(middle[:, 0].unique()) > 5 and len(middle[:, 1].unique()) > 5
    assert 23 <= middle.min() and middle.max() <= 40  # an eighth of 64 at most, mirrored too
    rising = (moved[:, 0, 32].int().diff() >= 0).all(1)
    assert 10 < int(rising.sum()) < 30
    assert (moved[:, 1, :, 32].int().diff() >= 0).all()  # never upside down
