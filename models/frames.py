"""Pictures between their three forms: uint8, the VAE's range, the picture encoder's range."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torchvision.transforms.v2 import functional as F

__all__ = ["HistoryTransform", "decode_latents", "downscale", "encode_frames"]


class HistoryTransform:
    """uint8 frames (N, 3, H, W) to what BLIP's vision tower expects, (N, 3, size, size) float.

    Squashed to a square, bilinear with antialiasing, then normalised, as upstream does with both
    the data set's pictures and the ones it has just drawn.
    """

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.size = size
        self.mean = torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1)

    def __call__(self, frames: Tensor) -> Tensor:
        if frames.shape[-2:] != (self.size, self.size):
            frames = F.resize(frames, [self.size, self.size], antialias=True)
        mean, std = self.mean.to(frames.device), self.std.to(frames.device)
        pictures = torch.empty(frames.shape, dtype=mean.dtype, device=frames.device).copy_(frames)
        return pictures.div_(255).sub_(mean).div_(std)  # in place, twice as fast

    def config(self) -> dict:
        """What `HistoryTransform` takes to make another like this."""
        mean, std = (table.flatten().tolist() for table in (self.mean, self.std))
        return {"size": self.size, "mean": mean, "std": std}

    def black(self) -> Tensor:
        """The picture of the classifier-free rows: zeros before normalisation, (1, 3, h, w)."""
        return self(torch.zeros(1, 3, self.size, self.size, dtype=torch.uint8))


def encode_frames(
    vae, frames: Tensor, generator: torch.Generator | None = None, at_once: int | None = None
) -> Tensor:
    """Frames (N, 3, H, W) in [-1, 1] to scaled latents (N, c, h, w), sampled from the posterior.

    Autoencoders without a posterior (deterministic ones) give their latents as they are. `at_once`
    frames are encoded together, which changes nothing but the memory; None: all.
    """
    encoded = [vae.encode(part) for part in frames.split(at_once or len(frames))]
    if hasattr(encoded[0], "latent_dist"):
        mean, std = (
            torch.cat([getattr(part.latent_dist, name) for part in encoded])
            for name in ("mean", "std")
        )
        latents = mean + std * randn_tensor(mean.shape, generator, mean.device, mean.dtype)
    else:
        latents = torch.cat([part.latent for part in encoded])
    return latents * vae.config.scaling_factor


def decode_latents(vae, latents: Tensor) -> Tensor:
    """Scaled latents (N, c, h, w) to uint8 frames (N, 3, H, W)."""
    decoded = vae.decode(latents / vae.config.scaling_factor).sample
    return ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


def downscale(vae) -> int:
    """How many pixels wide one latent position is."""
    if "patch_size" in vae.config:
        return vae.config.patch_size
    return 2 ** (len(vae.config.block_out_channels) - 1)
