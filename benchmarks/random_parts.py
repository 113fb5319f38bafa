"""Story models of any size with random weights: for measuring what needs no trained ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from omegaconf import DictConfig
from torch import Tensor
from transformers import (
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    CLIPTextConfig,
    CLIPTextModel,
)

from models.blip import TEXT, VISION, BlipConditioner
from models.components import Components
from models.frames import HistoryTransform, downscale

__all__ = ["SIZES", "Sizes", "random_batch", "random_parts"]

CLIP_TOKENS, BLIP_TOKENS = 49408, 30524  # before the data set's new ones


@dataclass(frozen=True)
class Sizes:
    """Widths, layers and heads of every part; the defaults are those of Stable Diffusion 1.5."""

    unet: tuple[int, ...] = (320, 640, 1280, 1280)
    vae: tuple[int, ...] = (128, 256, 512, 512)
    text: tuple[int, int, int] = (768, 12, 12)
    vision: tuple[int, int, int] = (1024, 24, 16)
    pictures: int = 224
    image_size: int = 512
    groups: int = 32
    clip_tokens: int = CLIP_TOKENS
    blip_tokens: int = BLIP_TOKENS


SIZES = {
    "sd15": Sizes(),
    "middle": Sizes(  # a sixth of the numbers
        (128, 256, 512, 512),
        (64, 128, 256, 256),
        (256, 6, 4),
        (384, 8, 6),
        112,
        128,
        32,
        8000,
        8000,
    ),
    "tiny": Sizes(
        (32, 64, 64, 64), (16, 32, 32, 32), (64, 2, 2), (64, 2, 2), 64, 128, 16, 1000, 1000
    ),
}


def random_parts(sizes: Sizes, max_length: int = 85, new_tokens: int = 0) -> Components:
    """Parts without tokenizers, ready for captions of `max_length` tokens."""
    sizes = replace(
        sizes,
        clip_tokens=sizes.clip_tokens + new_tokens,
        blip_tokens=sizes.blip_tokens + new_tokens,
    )
    width, layers, heads = sizes.text
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=sizes.clip_tokens,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=max_length,
        )
    )
    width, layers, heads = sizes.vision
    vision = BlipVisionConfig(
        **{
            **VISION.to_diff_dict(),
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "image_size": sizes.pictures,
        }
    )
    text_width, layers, heads = sizes.text
    multimodal = BlipTextConfig(
        **{
            **TEXT.to_diff_dict(),
            "vocab_size": sizes.blip_tokens,
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "encoder_hidden_size": width,
        }
    )
    transform = HistoryTransform(sizes.pictures, (0.5,) * 3, (0.5,) * 3)
    empty = torch.zeros(1, max_length, dtype=torch.long)
    conditioner = BlipConditioner(
        text,
        BlipVisionModel(vision),
        BlipTextModel(multimodal, add_pooling_layer=False),
        empty,
        empty,
        sizes.blip_tokens - 1,
        transform,
    )
    levels = len(sizes.vae)
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
        cross_attention_dim=text_width,
        attention_head_dim=8,  # the library's name for the number of heads
        norm_num_groups=sizes.groups,
    )
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return Components(
        conditioner, vae, unet, scheduler.config, None, None, transform, max_length,
        sizes.image_size,
    )  # fmt: skip


def random_batch(parts: Components, config: DictConfig, device: str = "cpu") -> dict:
    """A story batch of five frames a story, as full of tokens as captions may be."""
    stories, size, length = config.batch_size, parts.image_size, parts.max_length
    slots, targets = 5, 5 - (config.task == "continuation")
    pictures = parts.history_transform.size

    def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.ones(stories, *shape, dtype=dtype, device=device)

    batch = {
        "caption_ids": ones(targets, length, dtype=torch.long),
        "caption_mask": ones(targets, length, dtype=torch.bool),
        "history_images": ones(slots, 3, pictures, pictures),
        "history_ids": ones(slots, length, dtype=torch.long),
        "history_mask": ones(slots, length, dtype=torch.bool),
        "story_id": ["story"] * stories,
    }
    if config.cache_latents:
        if config.freeze_blip:
            vision = parts.conditioner.vision_encoder
            states = (slots, vision.embeddings.num_positions, vision.config.hidden_size)
            batch["picture_states"] = ones(*states, dtype=torch.float16)
            del batch["history_images"]
        side = size // downscale(parts.vae)
        latents = ones(targets, parts.unet.config.in_channels, side, side)
        return {**batch, "latents_mean": latents, "latents_std": torch.ones_like(latents)}
    return {**batch, "target_images": ones(targets, 3, size, size)}
