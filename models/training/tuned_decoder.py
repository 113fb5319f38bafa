"""An autoencoder's decoder that learns pictures of what it has never drawn.

A small autoencoder only knows its world: whatever latents are found for a new face, it draws old
ones. Its encoder stays, so that latents mean what they meant.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor, nn

from common.terminal import tqdm
from models.frames import encode_frames

__all__ = ["TunedDecoder", "merge_decoder", "tune_decoder"]

RATE, BATCH = 3e-4, 4
NOISE = 0.1  # of latents' spread: about what diffusion leaves behind
MOST_OTHER = 0.4  # of another picture's latents, mixed into an old one's
SHIFT = 0.25  # most that a picture is moved, of its side: characters may stand anywhere


class TunedDecoder(nn.Module):
    """In the place of a decoder, so that its weights are kept as what was tuned."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.tuned = decoder

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("tuned"), name)

    def forward(self, *inputs, **how):
        return self.tuned(*inputs, **how)


def merge_decoder(vae: nn.Module) -> None:
    """Make it a plain decoder again; nothing if it is one."""
    if isinstance(vae.decoder, TunedDecoder):
        vae.decoder = vae.decoder.tuned


def tune_decoder(
    vae: ModelMixin, new: Tensor, old: Tensor, steps: int, seed: int, device: torch.device
) -> None:
    """Train the decoder, in place, on views of pictures (N, 3, H, W) in [-1, 1].

    It goes to `device` for that and then back to where it was, with the model's other parts.

    Half of every batch is old, and is to be drawn as before (learning without forgetting,
    arXiv 1606.09282), also on the way from one picture to another: there a sampler's errors lie, of
    which the decoder may have learnt to make clean pictures.
    """
    random, home = torch.Generator().manual_seed(seed), vae.device
    vae.to(device)
    before = copy.deepcopy(vae)
    weights = [weight.requires_grad_(True) for weight in vae.decoder.parameters()]
    optimizer = torch.optim.AdamW(weights, RATE, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    half = BATCH // 2 if len(old) else 0

    @torch.no_grad()
    def latents_of(pictures: Tensor) -> Tensor:
        latents = encode_frames(before, pictures)
        noise = torch.randn(latents.shape, generator=random).to(latents)
        return (latents + NOISE * noise) / vae.config.scaling_factor

    for _ in tqdm(range(steps), "decoder"):
        pictures = _some(new, BATCH - half, random).to(weights[0].device)
        latents = latents_of(pictures)
        if half:
            one, other = latents_of(_some(old, 2 * half, random).to(pictures)).chunk(2)
            share = MOST_OTHER * torch.rand(half, 1, 1, 1, generator=random).to(one)
            between = one.lerp(other, share)
            latents = torch.cat([latents, between])
            with torch.no_grad():
                pictures = torch.cat([pictures, before.decode(between).sample])
        drawn = vae.decode(latents).sample
        loss = F.l1_loss(drawn, pictures) + 2 * F.mse_loss(drawn, pictures)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1)
        optimizer.step()
        schedule.step()
    vae.decoder.requires_grad_(False)
    vae.to(home)


def _some(pictures: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Random pictures (count, 3, H, W), half of them moved; the edges go on as they end."""
    chosen = pictures[torch.randint(len(pictures), (count,), generator=random)]
    height, width = chosen.shape[-2:]
    most = x, y = int(width * SHIFT), int(height * SHIFT)
    wide = F.pad(chosen, (x, x, y, y), mode="replicate")
    moved = [int(torch.randint(2 * far + 1, (), generator=random)) for far in most]
    if torch.rand((), generator=random) >= 0.5:
        x, y = moved
    return wide[..., y : y + height, x : x + width]
