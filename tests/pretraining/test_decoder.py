"""The decoder's second training: what it draws scenes with, and what it changes."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from diffusers import AutoencoderRAE
from tiny_base import MAX_LENGTH, training_captions
from torch import nn

from datasets.cartoon.world import Scene, all_scenes
from models.frames import decode_latents
from pretraining.autoencoder import encode
from pretraining.decoder import draw_latents, scenes_to_draw, train_decoder
from pretraining.examples import draw
from pretraining.text_to_image import scheduler_config
from pretraining.vocabulary import build_clip_tokenizer

SCENES = [
    Scene("beach", (("momo", "red"),), "jump"),
    Scene("city", (("tiko", "blue"), ("zara", "white")), "wave"),
    Scene("house", (("luna", "purple"),), "sleep"),
    Scene("meadow", (("pip", "yellow"), ("luna", "red")), "stand"),
]


class Painter(nn.Module):
    """A U-Net that is sure of every picture: the mean of the caption's words it may see."""

    config = SimpleNamespace(sample_size=2, in_channels=3)

    def forward(self, noisy, timestep, encoder_hidden_states, encoder_attention_mask):
        seen = encoder_attention_mask[..., None]
        clean = (encoder_hidden_states * seen).sum(1) / seen.sum(1)  # (N, 3)
        return SimpleNamespace(sample=clean[:, :, None, None].expand_as(noisy))


class Reader(nn.Module):
    """A text encoder of which every token is three numbers."""

    def forward(self, input_ids, attention_mask):
        states = torch.stack([input_ids % 7, input_ids % 5, input_ids % 3], -1).float()
        return SimpleNamespace(last_hidden_state=states)


def test_latents_are_drawn_from_all_of_the_caption_and_nothing_else():
    tokenizer = build_clip_tokenizer(
        [*training_captions(50), *(scene.explicit_caption() for scene in SCENES)], MAX_LENGTH
    )
    drawn = draw_latents(Painter(), Reader(), scheduler_config(), tokenizer, SCENES)
    assert drawn.shape == (4, 3, 2, 2)
    for scene, latents in zip(SCENES, drawn, strict=True):
        ids = torch.tensor(tokenizer(scene.explicit_caption()).input_ids)
        meant = torch.stack([(ids % n).float().mean() for n in (7, 5, 3)])
        torch.testing.assert_close(latents, meant[:, None, None].expand(3, 2, 2), atol=2e-3, rtol=0)


def test_as_many_scenes_of_one_character_as_of_two_are_drawn():
    scenes = [scene for scene in all_scenes() if not scene.held_out]
    chosen = scenes_to_draw(scenes, 1000)
    assert len(chosen) == 1000 and chosen == scenes_to_draw(scenes, 1000)
    assert 0.35 < sum(len(scenes[i].cast) == 1 for i in chosen) / 1000 < 0.6


def test_the_decoder_learns_to_undo_what_sampling_does_and_the_encoder_stays():
    torch.manual_seed(0)
    vae = AutoencoderRAE(
        encoder_type="mae", encoder_hidden_size=64, encoder_patch_size=16,
        encoder_num_hidden_layers=1, encoder_input_size=128, encoder_norm_mean=[0.0] * 3,
        encoder_norm_std=[1.0] * 3, patch_size=16, decoder_hidden_size=64,
        decoder_num_hidden_layers=1, decoder_num_attention_heads=1, decoder_intermediate_size=64,
    )  # fmt: skip
    frames = draw(SCENES)
    latents = encode(vae, frames)
    before = {name: weight.clone() for name, weight in vae.encoder.state_dict().items()}
    shown = torch.arange(4)
    drawn = latents + 2 * torch.randn(latents[:1].shape)  # far from what is encoded
    alone = torch.tensor([len(scene.cast) == 1 for scene in SCENES])

    def error():
        with torch.no_grad():
            return (decode_latents(vae, drawn).float() - frames).square().mean().item()

    at_first = error()
    train_decoder(vae, frames, latents, alone, drawn, shown, steps=120, batch_size=8)
    assert (found := error()) < 0.37 * at_first, found / at_first
    after = vae.encoder.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert not any(weight.requires_grad for weight in vae.encoder.parameters())
