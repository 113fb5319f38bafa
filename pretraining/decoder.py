"""The decoder once more, on latents as the sampler draws them; the encoder stays as it is.

A sampler leaves errors of a fifth of the latents' spread, and not like noise: they point where
pictures differ, so that a decoder that knows encoded latents only draws them as speckles. Here the
U-Net draws training pictures from their full captions, and the decoder learns to make of each the
picture that was meant. Where a full caption leaves something open, the U-Net starts from a noisy
version of that picture, or it would draw another one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from diffusers import AutoencoderRAE, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from common.terminal import tqdm
from datasets.story_dataset import to_target
from models.conditioning import Context
from models.denoising import denoise
from models.schedulers import sampling_scheduler, training_schedule
from pretraining.autoencoder import reconstruction_loss
from pretraining.schedule import Plan, fit
from pretraining.source import Example

__all__ = ["draw_examples", "draw_latents", "read_captions", "train_decoder"]

SAMPLER, SAMPLER_STEPS = "sde-dpm++", 6  # as the demo draws all frames but the first
REDRAWN_FROM = (400, 250, 120, 30)  # of 1000 timesteps: at the first the cast can still be told
DRAWN_AT_ONCE = 64
ENCODED_SHARE = 0.25  # of a batch, with white noise of up to NOISE; the rest is drawn
NOISE, MORE_NOISE = 0.3, 0.1  # standard deviations, at most; on drawn latents the second
MOST_ERROR = 1.3  # a drawn latent's error is made smaller or larger, at most by this factor


@torch.no_grad()
def read_captions(
    text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, captions: Sequence[str]
) -> Context:
    """What the U-Net attends to for these captions alone."""
    tokens = tokenizer(list(captions), padding=True, truncation=True, return_tensors="pt")
    tokens = tokens.to(text_encoder.device)
    return Context(text_encoder(**tokens).last_hidden_state, tokens.attention_mask.bool())


@torch.no_grad()
def draw_latents(
    unet: UNet2DConditionModel, scheduler_config: dict, context: Context, generator: torch.Generator
) -> Tensor:
    """Latents (N, c, 8, 8), drawn from noise for the N rows of `context`."""
    scheduler = sampling_scheduler(SAMPLER, scheduler_config)
    side = unet.config.sample_size
    shape = (len(context.states), unet.config.in_channels, side, side)
    noise = torch.randn(shape, generator=generator).to(context.states.device)
    return denoise(
        unet, scheduler, noise, context, SAMPLER_STEPS, (1, None), None, 0.0, generator,
        lambda step, timestep, latents: latents,
    )  # fmt: skip


@torch.no_grad()
def _redraw(
    unet: UNet2DConditionModel,
    scheduler_config: dict,
    context: Context,
    latents: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """`latents` (N, c, 8, 8) made noisy and clean again, each time less."""
    schedule = training_schedule(scheduler_config)
    for timestep in REDRAWN_FROM:
        times = torch.full((len(latents),), timestep, device=latents.device)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        noisy = schedule.add_noise(latents, noise, times)
        latents = unet(noisy, times, **context.unet_arguments()).sample
    return latents


def draw_examples(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    scheduler_config: dict,
    tokenizer: CLIPTokenizer,
    examples: Sequence[Example],
    latents: Tensor | None,
    seconds: float | None = None,
) -> Tensor:
    """Latents (N, c, 8, 8) of the first N examples, drawn from their full captions.

    latents: of all frames (M, c, 8, 8), to start from noisy ones; None: from noise alone.
    seconds: to begin no more after; None: all are drawn.
    """
    generator = torch.Generator().manual_seed(7)
    drawn, begin = [], time.monotonic()
    for start in tqdm(range(0, len(examples), DRAWN_AT_ONCE), desc="draw latents"):
        if drawn and seconds is not None and time.monotonic() - begin > seconds:
            break
        chosen = examples[start : start + DRAWN_AT_ONCE]
        context = read_captions(text_encoder, tokenizer, [e.full for e in chosen])
        if latents is None:
            drawn.append(draw_latents(unet, scheduler_config, context, generator))
        else:
            meant = latents[[e.frame for e in chosen]]
            drawn.append(_redraw(unet, scheduler_config, context, meant, generator))
    return torch.cat(drawn)


def train_decoder(
    vae: AutoencoderRAE,
    frames: Tensor,
    latents: Tensor,
    examples: Sequence[Example],
    drawn: Tensor,
    shown: Tensor,
    plan: Plan,
) -> int:
    """Train `vae.decoder` in place; steps taken.

    Args:
        frames: uint8 (N, 3, H, W), which `vae` encodes as `latents` (N, c, 8, 8).
        examples: frames are seen as often as stories show them.
        drawn: latents (M, c, 8, 8) that show frames `shown` (M,).
    """
    vae.encoder.requires_grad_(False)
    told = torch.tensor([example.frame for example in examples])
    encoded_count = round(ENCODED_SHARE * plan.batch_size)

    def noisy(clean: Tensor, most: float) -> Tensor:
        level = most * torch.rand(len(clean), 1, 1, 1).to(clean.device)
        return clean + level * torch.randn_like(clean)

    def loss_fn() -> Tensor:
        encoded = told[torch.randint(len(told), (encoded_count,))]
        chosen = torch.randint(len(drawn), (plan.batch_size - encoded_count,))
        meant = latents[shown[chosen]]
        share = MOST_ERROR * torch.rand(len(chosen), 1, 1, 1).to(meant.device)
        off = meant + share * (drawn[chosen] - meant)
        seen = torch.cat([noisy(latents[encoded], NOISE), noisy(off, MORE_NOISE)])
        pictures = frames[torch.cat([encoded, shown[chosen]])]
        target = to_target(pictures, tuple(frames.shape[-2:]))
        return reconstruction_loss(vae.decode(seen).sample, target)

    steps = fit(vae, loss_fn, plan, lr=1e-3, matrix_lr=1e-2, description="decoder")
    vae.eval()
    return steps
