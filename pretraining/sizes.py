"""How large the networks of a base are."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IMAGE_SIZES", "SIZES", "Size"]

IMAGE_SIZES = (64, 128)  # pixels; latents are 8x8 in either case


@dataclass(frozen=True)
class Size:
    """Widths (channels) and depths (layers). Decoders' widths are multiples of 64."""

    width: int = 128  # D, channels of a caption's token
    text_layers: int = 2
    unet_channels: tuple[int, ...] = (96, 160)
    unet_layers: int = 1  # of each resolution
    decoder_widths: tuple[int, int] = (256, 384)  # at 64 and at 128 pixels, whose patches have
    # 192 and 768 numbers: of the latter 224 principal components stop at 31 dB
    decoder_layers: int = 2
    vision_layers: int = 3  # of BLIP


SIZES = {
    "tiny": Size(),
    "small": Size(192, 3, (128, 224), 2, (384, 512), 3, 4),
}
