"""The decoder's second training: what it draws scenes with, and what it changes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderRAE
from tiny_base import MAX_LENGTH, training_captions
from torch import nn

from datasets.cartoon.world import Scene
from models.frames import decode_latents
from pretraining import decoder
from pretraining.autoencoder import encode
from pretraining.cartoon_source import draw
from pretraining.decoder import draw_examples, train_decoder
from pretraining.schedule import Plan
from pretraining.source import Example
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

    device = torch.device("cpu")

    def forward(self, input_ids, attention_mask):
        states = torch.stack([input_ids % 7, input_ids % 5, input_ids % 3], -1).float()
        return SimpleNamespace(last_hidden_state=states)


@pytest.fixture(scope="module")
def tokenizer():
    texts = [scene.explicit_caption() for scene in SCENES]
    return build_clip_tokenizer([*training_captions(50), *texts], MAX_LENGTH)


EXAMPLES = [Example(n, "They jump.", scene.explicit_caption()) for n, scene in enumerate(SCENES)]


def meant_by(example, tokenizer):
    ids = torch.tensor(tokenizer(example.full).input_ids)
    return torch.stack([(ids % n).float().mean() for n in (7, 5, 3)])[:, None, None].expand(3, 2, 2)


def test_latents_are_drawn_from_all_of_the_caption_and_nothing_else(tokenizer):
    how = (Painter(), Reader(), scheduler_config(), tokenizer, EXAMPLES)
    for latents in (None, torch.zeros(4, 3, 2, 2)):
        drawn = draw_examples(*how, latents)
        for example, one in zip(EXAMPLES, drawn, strict=True):
            torch.testing.assert_close(one, meant_by(example, tokenizer), atol=2e-3, rtol=0)


def test_drawing_leaves_time_for_learning(tokenizer, monkeypatch):
    monkeypatch.setattr(decoder, "DRAWN_AT_ONCE", 1)
    how = (Painter(), Reader(), scheduler_config(), tokenizer, EXAMPLES, torch.zeros(4, 3, 2, 2))
    assert len(draw_examples(*how, seconds=1e9)) == 4
    now = iter(range(99))
    monkeypatch.setattr(decoder.time, "monotonic", lambda: next(now))
    few = draw_examples(*how, seconds=1.5)
    torch.testing.assert_close(few, draw_examples(*how)[: len(few)])
    assert len(few) == 2


def test_the_decoder_learns_to_undo_what_sampling_does_and_the_encoder_stays():
    torch.manual_seed(0)
    vae = AutoencoderRAE(
        encoder_type="mae", encoder_hidden_size=64, encoder_patch_size=16,
        encoder_num_hidden_layers=1, encoder_input_size=64, encoder_norm_mean=[0.0] * 3,
        encoder_norm_std=[1.0] * 3, patch_size=16, decoder_hidden_size=64,
        decoder_num_hidden_layers=1, decoder_num_attention_heads=1, decoder_intermediate_size=64,
    )  # fmt: skip
    frames = draw(SCENES, 64)
    latents = encode(vae, frames)
    before = {name: weight.clone() for name, weight in vae.encoder.state_dict().items()}
    shown = torch.arange(4)
    drawn = latents + 2 * torch.randn(latents[:1].shape)  # far from what is encoded

    def error():
        with torch.no_grad():
            return (decode_latents(vae, drawn).float() - frames).square().mean().item()

    at_first = error()
    assert train_decoder(vae, frames, latents, EXAMPLES, drawn, shown, Plan(120, 8)) == 120
    assert (found := error()) < 0.37 * at_first, found / at_first
    after = vae.encoder.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert not any(weight.requires_grad for weight in vae.encoder.parameters())
