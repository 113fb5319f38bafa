"""Pictures on their way through the autoencoder and to the picture encoder."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_parts import (
    BLIP_SIZE,
    MEAN,
    STD,
    IdentityVae,
    autoencoder,
    random_frames,
    transformer_autoencoder,
)

from models.frames import HistoryTransform, decode_latents, downscale, encode_frames


def test_latents_are_sampled_from_the_posterior_and_scaled():
    vae = autoencoder().eval()
    frames = random_frames(1, 2, 16)[0] / 127.5 - 1
    with torch.no_grad():
        posterior = vae.encode(frames).latent_dist
        drawn = encode_frames(vae, frames, torch.Generator().manual_seed(3))
        again = encode_frames(vae, frames, torch.Generator().manual_seed(3))
        other = encode_frames(vae, frames, torch.Generator().manual_seed(4))
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn, 0.18215 * (posterior.mean + posterior.std * noise))
    assert drawn.shape == (2, 4, 8, 8)
    assert torch.equal(drawn, again) and not torch.equal(drawn, other)


def test_an_autoencoder_without_a_posterior_gives_its_latents():
    frames = torch.rand(2, 3, 8, 8) * 2 - 1
    assert torch.equal(encode_frames(IdentityVae(), frames), frames * 0.5)


def test_every_uint8_picture_survives_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    latents = encode_frames(IdentityVae(), levels / 127.5 - 1)
    assert torch.equal(decode_latents(IdentityVae(), latents), levels)


def test_decoded_values_are_clamped_and_rounded():
    values = torch.tensor([-3.0, 3.0, 1 / 255 * 1.2 * 2 - 1, 1 / 255 * 1.8 * 2 - 1])
    vae = SimpleNamespace(config=IdentityVae.config, decode=IdentityVae().decode)
    decoded = decode_latents(vae, values.view(1, 1, 2, 2) * 0.5)
    assert decoded.flatten().tolist() == [0, 255, 1, 2] and decoded.dtype == torch.uint8


def test_downscale_of_both_kinds_of_autoencoder():
    for vae, expected in ((transformer_autoencoder(), 4), (autoencoder(), 2), (IdentityVae(), 1)):
        assert downscale(vae) == expected
        assert encode_frames(vae, torch.rand(1, 3, 16, 16)).shape[-1] == 16 // expected


def test_history_pictures_are_squashed_and_normalised():
    transform = HistoryTransform(BLIP_SIZE, MEAN, STD)
    frame = torch.zeros(1, 3, 20, 40, dtype=torch.uint8)
    frame[:, 0], frame[:, 2] = 255, 51
    expected = (torch.tensor([1.0, 0.0, 0.2]) - torch.tensor(MEAN)) / torch.tensor(STD)
    pictures = transform(frame)
    assert pictures.shape == (1, 3, BLIP_SIZE, BLIP_SIZE)
    torch.testing.assert_close(pictures, expected.view(1, 3, 1, 1).expand_as(pictures))
    stripes = torch.zeros(1, 3, 8 * BLIP_SIZE, BLIP_SIZE, dtype=torch.uint8)
    stripes[:, :, ::8] = 200
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    grey = (transform(stripes) * std + mean) * 255
    assert (grey[:, :, 1:-1] - 25).abs().max() < 3  # antialiased: no stripe falls between points


@pytest.mark.parametrize("size", [BLIP_SIZE, 2 * BLIP_SIZE])
def test_black_is_zero_before_normalisation(size):
    transform = HistoryTransform(size, MEAN, STD)
    black = transform(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert torch.equal(transform.black(), black)
