"""Pictures between their forms: people's, uint8, the VAE's range, the picture encoder's range."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

__all__ = [
    "OUTPUT_TYPES", "HistoryTransform", "Picture", "as_tensor", "decode_latents", "downscale",
    "encode_frames", "fitted", "listed", "refuse_black", "sides", "wanted_sides",
]  # fmt: skip

Picture = Image.Image | np.ndarray | Tensor
WANTED = "give a PIL image, (H, W, 3) uint8 or a tensor (3, H, W) uint8"


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


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width; a number is both."""
    return (size, size) if isinstance(size, int) else tuple(size)


def downscale(vae) -> int:
    """How many pixels wide one latent position is."""
    if "patch_size" in vae.config:
        return vae.config.patch_size
    return 2 ** (len(vae.config.block_out_channels) - 1)


def wanted_sides(vae, size: tuple[int, int]) -> str:
    """What height and width must be for this autoencoder; empty if `size` is so."""
    step, only = downscale(vae), getattr(vae, "decoder_image_size", None)
    if all(pixels % step == 0 and pixels == (only or pixels) for pixels in size):
        return ""
    return str(only) if only else f"multiples of {step}"


def listed(image: Picture | Sequence[Picture]) -> list[Picture]:
    """One picture, or one a story, as a list."""
    several = isinstance(image, Iterable) and not isinstance(image, str | bytes)
    return list(image) if several and getattr(image, "ndim", 4) == 4 else [image]


def as_tensor(picture: Picture) -> Tensor:
    """uint8 (3, H, W)."""
    if isinstance(picture, Image.Image):
        picture = np.array(picture.convert("RGB"))
    if isinstance(picture, str | os.PathLike):
        raise ValueError(f"image={str(picture)!r:.80}: open it first, with PIL.Image.open")
    if isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.dtype == np.uint8:
        picture = torch.from_numpy(picture).permute(2, 0, 1)
    if not isinstance(picture, Tensor | np.ndarray):
        raise ValueError(f"image={picture!r:.80}: {WANTED}")
    if picture.ndim != 3 or len(picture) != 3 or picture.dtype != torch.uint8:
        shown = f"{tuple(picture.shape)} of {picture.dtype}"
        raise ValueError(f"image: a picture is {shown}; {WANTED}")
    return picture


def fitted(frames: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Frames (3, H, W) uint8 of any sizes at ours, (B, 3, height, width)."""
    return torch.stack([F.resize(frame, list(size), antialias=True) for frame in frames])


def _pil(frames: Tensor) -> list[list[Image.Image]]:
    return [[Image.fromarray(frame) for frame in story] for story in _last(frames).numpy()]


def _last(frames: Tensor) -> Tensor:
    return frames.permute(0, 1, 3, 4, 2).cpu()


OUTPUT_TYPES = {  # of uint8 frames (B, K, 3, H, W)
    "pil": _pil,
    "np": lambda frames: _last(frames).numpy().astype(np.float32) / 255,
    "pt": lambda frames: frames.float() / 255,
    "uint8": lambda frames: frames,
}


def refuse_black(story: str, drawn: np.ndarray) -> None:
    """ValueError if one of the frames (V, H, W, 3) is what numbers that are not finite become."""
    if not all(frame.any() for frame in drawn):
        raise ValueError(
            f"story {story} came out with a black picture, so it is not kept: a number was not "
            f"finite; draw with precision=32, or another checkpoint"
        )
