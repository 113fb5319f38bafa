"""The decoder once more, on latents as the sampler draws them; the encoder stays as it is.

A sampler leaves errors of a fifth of the latents' spread, and not like noise: they point where
pictures differ, so that a decoder that knows encoded latents only draws them as speckles. Here the
U-Net draws training scenes from their explicit captions, and the decoder learns to make of each the
picture that was meant.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from diffusers import AutoencoderRAE, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from common.terminal import tqdm
from datasets.cartoon.canvas import SIZE
from datasets.cartoon.world import Scene
from datasets.story_dataset import to_target
from models.conditioning import Context
from models.denoising import denoise
from models.schedulers import sampling_scheduler
from pretraining.autoencoder import reconstruction_loss
from pretraining.schedule import fit

__all__ = ["draw_latents", "scenes_to_draw", "train_decoder"]

SAMPLER, SAMPLER_STEPS = "sde-dpm++", 6  # as the demo draws all frames but the first
DRAWN_AT_ONCE = 64
ENCODED_SHARE = 0.25  # of a batch, with white noise of up to NOISE; the rest is drawn
NOISE, MORE_NOISE = 0.3, 0.1  # standard deviations, at most; on drawn latents the second
MOST_ERROR = 1.3  # a drawn latent's error is made smaller or larger, at most by this factor


@torch.no_grad()
def draw_latents(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    scheduler_config: dict,
    tokenizer: CLIPTokenizer,
    scenes: Sequence[Scene],
) -> Tensor:
    """Latents (N, c, 8, 8) of scenes, drawn from their explicit captions."""
    scheduler = sampling_scheduler(SAMPLER, scheduler_config)
    generator = torch.Generator().manual_seed(7)
    drawn = []
    for start in tqdm(range(0, len(scenes), DRAWN_AT_ONCE), desc="draw latents"):
        captions = [one.explicit_caption() for one in scenes[start : start + DRAWN_AT_ONCE]]
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        context = Context(text_encoder(**tokens).last_hidden_state, tokens.attention_mask.bool())
        side = unet.config.sample_size
        shape = (len(captions), unet.config.in_channels, side, side)
        noise = torch.randn(shape, generator=generator)
        drawn.append(
            denoise(
                unet, scheduler, noise, context, SAMPLER_STEPS, (1, None), None, 0.0, generator,
                lambda step, timestep, latents: latents,
            )
        )  # fmt: skip
    return torch.cat(drawn)


def scenes_to_draw(scenes: Sequence[Scene], count: int) -> list[int]:
    """`count` indices of `scenes`, as many of one character as of two, though there are fewer."""
    alone = [i for i, scene in enumerate(scenes) if len(scene.cast) == 1]
    index = list(range(len(scenes))) + 5 * alone
    random.Random(0).shuffle(index)
    return index[:count]


def train_decoder(
    vae: AutoencoderRAE,
    frames: Tensor,
    latents: Tensor,
    alone: Tensor,
    drawn: Tensor,
    shown: Tensor,
    steps: int,
    batch_size: int,
) -> AutoencoderRAE:
    """Train `vae.decoder` in place.

    Args:
        frames: uint8 (N, 3, 128, 128), which `vae` encodes as `latents` (N, c, 8, 8).
        alone: bool (N,), of one character: half of a batch, as in stories.
        drawn: latents (M, c, 8, 8) that show frames `shown` (M,).
    """
    vae.encoder.requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    encoded_rows = [alone.nonzero()[:, 0], (~alone).nonzero()[:, 0]]
    drawn_rows = [alone[shown].nonzero()[:, 0], (~alone[shown]).nonzero()[:, 0]]
    encoded_count = round(ENCODED_SHARE * batch_size)

    def pick(rows: list[Tensor], count: int) -> Tensor:
        halves = (count // 2, count - count // 2)
        return torch.cat([
            row[torch.randint(len(row), (half,), generator=generator)]
            for row, half in zip(rows, halves, strict=True)
        ])  # fmt: skip

    def noisy(clean: Tensor, most: float) -> Tensor:
        deviation = most * torch.rand(len(clean), 1, 1, 1, generator=generator)
        return clean + deviation * torch.randn(clean.shape, generator=generator)

    def loss_fn() -> Tensor:
        encoded = pick(encoded_rows, encoded_count)
        chosen = pick(drawn_rows, batch_size - encoded_count)
        meant = latents[shown[chosen]]
        share = MOST_ERROR * torch.rand(len(chosen), 1, 1, 1, generator=generator)
        off = meant + share * (drawn[chosen] - meant)
        seen = torch.cat([noisy(latents[encoded], NOISE), noisy(off, MORE_NOISE)])
        pictures = to_target(frames[torch.cat([encoded, shown[chosen]])], (SIZE, SIZE))
        return reconstruction_loss(vae.decode(seen).sample, pictures)

    fit(vae, loss_fn, steps, lr=1e-3, matrix_lr=1e-2, description="decoder")
    return vae.eval()
