"""A small transformer autoencoder, 128x128x3 pictures to 64x8x8 latents."""

from __future__ import annotations

import torch
from diffusers import AutoencoderRAE

from datasets.cartoon.canvas import SIZE
from datasets.story_dataset import to_target
from models.frames import decode_latents, encode_frames
from pretraining.schedule import fit

__all__ = ["build_autoencoder", "encode", "psnr", "reconstruction_loss", "train_autoencoder"]

LATENT_CHANNELS = 64  # the least AutoencoderRAE can have: its attention heads are 64 wide
DECODER_WIDTH = 384  # fewer cannot hold the patches: 224 principal components stop at 31 dB
LATENT_NOISE = 0.1  # standard deviations: about what diffusion leaves behind


def build_autoencoder() -> AutoencoderRAE:
    """Stock AutoencoderRAE: one token, so one latent position, per 16x16 patch.

    Made of matrix products only, which two CPU cores do ten times faster than convolutions at
    full resolution, and its position embedding lets the decoder know where in the picture it is.
    """
    vae = AutoencoderRAE(
        encoder_type="mae",
        encoder_hidden_size=LATENT_CHANNELS,
        encoder_patch_size=16,
        encoder_num_hidden_layers=1,
        encoder_input_size=SIZE,
        encoder_norm_mean=[0.0, 0.0, 0.0],  # pictures come in [-1, 1] already
        encoder_norm_std=[1.0, 1.0, 1.0],
        patch_size=16,
        decoder_hidden_size=DECODER_WIDTH,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=6,
        decoder_intermediate_size=640,
    )
    vae.encoder.requires_grad_(True)  # the library freezes it, meaning it for downloaded encoders
    return vae


def reconstruction_loss(decoded: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error of pixels and, for clean lines, of their differences."""
    error = decoded - pictures
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    return error.abs().mean() + 2.0 * error.square().mean() + 0.5 * edges


@torch.no_grad()
def psnr(vae: AutoencoderRAE, frames: torch.Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB over uint8 `frames` (N, 3, H, W)."""
    decoded = torch.cat([decode_latents(vae, chunk) for chunk in encode(vae, frames).split(32)])
    mse = (decoded.float() - frames.float()).square().mean(dim=(1, 2, 3)).clamp(min=1e-3)
    return (10 * torch.log10(255**2 / mse)).mean().item()


def train_autoencoder(frames: torch.Tensor, steps: int, batch_size: int) -> AutoencoderRAE:
    """Train on uint8 `frames` (N, 3, 128, 128)."""
    vae = build_autoencoder()
    generator = torch.Generator().manual_seed(1)

    def loss_fn() -> torch.Tensor:
        index = torch.randint(len(frames), (batch_size,), generator=generator)
        pictures = to_target(frames[index], (SIZE, SIZE))  # (B, 3, 128, 128)
        latents = vae.encode(pictures).latent  # (B, 64, 8, 8)
        noise = torch.randn(latents.shape, generator=generator)
        decoded = vae.decode(latents + LATENT_NOISE * noise).sample
        return reconstruction_loss(decoded, pictures)

    fit(vae, loss_fn, steps, lr=2e-3, matrix_lr=2e-2, description="autoencoder")
    return vae.eval()


@torch.no_grad()
def encode(vae: AutoencoderRAE, frames: torch.Tensor) -> torch.Tensor:
    """Latents (N, 64, 8, 8) of uint8 frames (N, 3, H, W)."""
    size = (SIZE, SIZE)
    return torch.cat([encode_frames(vae, to_target(chunk, size)) for chunk in frames.split(64)])
