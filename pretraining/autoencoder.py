"""A small transformer autoencoder, pictures of 64 or 128 pixels to 64x8x8 latents."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderRAE
from torch import Tensor

from datasets.story_dataset import to_target
from models.frames import decode_latents, encode_frames
from pretraining.schedule import Plan, fit
from pretraining.sizes import IMAGE_SIZES, Size

__all__ = ["build_autoencoder", "encode", "psnr", "reconstruction_loss", "train_autoencoder"]

LATENT_CHANNELS = 64  # the least AutoencoderRAE can have: its attention heads are 64 wide
LATENT_SIDE = 8
LATENT_NOISE = 0.1  # standard deviations: about what diffusion leaves behind
SHIFT = 8  # pictures are moved by up to this part of their side


def build_autoencoder(image_size: int = 128, size: Size = Size()) -> AutoencoderRAE:  # noqa: B008
    """Stock AutoencoderRAE: one token, so one latent position, per patch.

    Made of matrix products only, which two CPU cores do ten times faster than convolutions at
    full resolution, and its position embedding lets the decoder know where in the picture it is.
    """
    patch = image_size // LATENT_SIDE
    width = size.decoder_widths[IMAGE_SIZES.index(image_size)]
    vae = AutoencoderRAE(
        encoder_type="mae",
        encoder_hidden_size=LATENT_CHANNELS,
        encoder_patch_size=patch,
        encoder_num_hidden_layers=1,
        encoder_input_size=image_size,
        encoder_norm_mean=[0.0, 0.0, 0.0],  # pictures come in [-1, 1] already
        encoder_norm_std=[1.0, 1.0, 1.0],
        patch_size=patch,
        decoder_hidden_size=width,
        decoder_num_hidden_layers=size.decoder_layers,
        decoder_num_attention_heads=width // 64,
        decoder_intermediate_size=5 * width // 3,
    )
    vae.encoder.requires_grad_(True)  # the library freezes it, meaning it for downloaded encoders
    return vae


def reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Absolute and squared error of pixels and, for clean lines, of their differences."""
    error = decoded - pictures
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    return error.abs().mean() + 2.0 * error.square().mean() + 0.5 * edges


@torch.no_grad()
def psnr(vae: AutoencoderRAE, frames: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB over uint8 `frames` (N, 3, H, W)."""
    decoded = torch.cat([decode_latents(vae, chunk) for chunk in encode(vae, frames).split(32)])
    mse = (decoded.float() - frames.float()).square().mean(dim=(1, 2, 3)).clamp(min=1e-3)
    return (10 * torch.log10(255**2 / mse)).mean().item()


def train_autoencoder(
    vae: AutoencoderRAE, frames: Tensor, plan: Plan, augment: bool = False
) -> int:
    """Train on uint8 `frames` (N, 3, H, W); `augment` shifts and mirrors them. Steps taken."""
    vae.train()

    def loss_fn() -> Tensor:
        chosen = frames[torch.randint(len(frames), (plan.batch_size,))]
        if augment:
            chosen = shifted(chosen)
        pictures = to_target(chosen, tuple(frames.shape[-2:]))  # (B, 3, H, W)
        latents = vae.encode(pictures).latent  # (B, 64, 8, 8)
        decoded = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample
        return reconstruction_loss(decoded, pictures)

    steps = fit(vae, loss_fn, plan, lr=2e-3, matrix_lr=2e-2, description="autoencoder")
    vae.eval()
    return steps


def shifted(frames: Tensor) -> Tensor:
    """uint8 frames (N, 3, H, W), each moved by up to an eighth, half of them mirrored."""
    most = frames.shape[-1] // SHIFT
    height, width = frames.shape[-2:]
    wide = F.pad(frames.float(), (most,) * 4, mode="replicate").to(torch.uint8)
    places = torch.randint(2 * most + 1, (len(frames), 2)).tolist()
    moved = []
    for frame, (y, x) in zip(wide, places, strict=True):
        part = frame[:, y : y + height, x : x + width]
        moved.append(part.flip(-1) if torch.rand(()) < 0.5 else part)
    return torch.stack(moved)


@torch.no_grad()
def encode(vae: AutoencoderRAE, frames: Tensor) -> Tensor:
    """Latents (N, 64, 8, 8) of uint8 frames (N, 3, H, W)."""
    size = tuple(frames.shape[-2:])
    return torch.cat([encode_frames(vae, to_target(chunk, size)) for chunk in frames.split(64)])
