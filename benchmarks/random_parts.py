"""Story models of any size with random weights: for measuring what needs no trained ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from omegaconf import DictConfig
from torch import Tensor
from transformers import (
    BlipTextModel,
    BlipVisionModel,
    CLIPTextConfig,
    CLIPTextModel,
    PretrainedConfig,
)

from models.blip import BlipConditioner
from models.blip_weights import TEXT, VISION
from models.components import Components
from models.frames import HistoryTransform, downscale, sides
from models.story_batch import StoryBatch

__all__ = ["Sizes", "random_batch", "random_parts"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of all parts; the defaults are those of Stable Diffusion 1.5 and the large BLIP."""

    unet: tuple[int, ...] = (320, 640, 1280, 1280)  # channels of every resolution
    vae: tuple[int, ...] = (128, 256, 512, 512)
    text: tuple[int, int, int] = (768, 12, 12)  # width, layers, heads
    vision: tuple[int, int, int] = (1024, 24, 16)
    pictures: int = 224  # side of BLIP's pictures
    image_size: int = 512
    groups: int = 32  # of the U-Net's norms
    clip_tokens: int = 49408  # before the data set's new ones
    blip_tokens: int = 30524


def random_parts(sizes: Sizes, max_length: int = 85, new_tokens: int = 0) -> Components:
    """Parts without tokenizers, ready for captions of `max_length` tokens."""
    blip_tokens = sizes.blip_tokens + new_tokens
    text = CLIPTextConfig(
        vocab_size=sizes.clip_tokens + new_tokens,
        max_position_embeddings=max_length,
        **_transformer(*sizes.text),
    )
    vision = _changed(VISION, image_size=sizes.pictures, **_transformer(*sizes.vision))
    multimodal = _changed(
        TEXT,
        vocab_size=blip_tokens,
        encoder_hidden_size=vision.hidden_size,
        **_transformer(*sizes.text),
    )
    transform = HistoryTransform(sizes.pictures, (0.5,) * 3, (0.5,) * 3)
    empty = torch.zeros(1, max_length, dtype=torch.long)
    conditioner = BlipConditioner(
        CLIPTextModel(text),
        BlipVisionModel(vision),
        BlipTextModel(multimodal, add_pooling_layer=False),
        empty,
        empty,
        blip_tokens - 1,
        transform,
    )
    levels, attending = len(sizes.vae), len(sizes.unet) - 1
    vae = AutoencoderKL(
        block_out_channels=sizes.vae,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=2,
        norm_num_groups=min(32, sizes.groups),
        scaling_factor=0.18215,
    )
    unet = UNet2DConditionModel(
        sample_size=sizes.image_size // downscale(vae),
        block_out_channels=sizes.unet,
        down_block_types=("CrossAttnDownBlock2D",) * attending + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attending,
        cross_attention_dim=text.hidden_size,
        attention_head_dim=8,  # the library's name for the number of heads
        norm_num_groups=sizes.groups,
    )
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return Components(
        conditioner, vae, unet, scheduler.config, None, None, transform, max_length,
        sizes.image_size,
    )  # fmt: skip


def _transformer(width: int, layers: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def _changed(config: PretrainedConfig, **how: int) -> PretrainedConfig:
    return type(config)(**{**config.to_diff_dict(), **how})


def random_batch(parts: Components, config: DictConfig) -> StoryBatch:
    """A story batch of five frames a story, as full of tokens as captions may be."""
    size, length, side = sides(parts.image_size), parts.max_length, parts.history_transform.size
    slots, targets = 5, 5 - (config.task == "continuation")

    def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.ones(config.batch_size, *shape, dtype=dtype)

    batch = {
        "caption_ids": ones(targets, length, dtype=torch.long),
        "caption_mask": ones(targets, length, dtype=torch.bool),
        "history_ids": ones(slots, length, dtype=torch.long),
        "history_mask": ones(slots, length, dtype=torch.bool),
        "story_id": ["story"] * config.batch_size,
    }
    if config.cache_latents and config.freeze_blip:
        vision = parts.conditioner.vision_encoder
        states = slots, vision.embeddings.num_positions, vision.config.hidden_size
        batch["picture_states"] = ones(*states, dtype=torch.float16)
    else:
        batch["history_images"] = ones(slots, 3, side, side)
    if config.cache_latents:
        latent = (pixels // downscale(parts.vae) for pixels in size)
        latents = ones(targets, parts.unet.config.in_channels, *latent)
        return {**batch, "latents_mean": latents, "latents_std": torch.ones_like(latents)}
    return {**batch, "target_images": ones(targets, 3, *size)}
