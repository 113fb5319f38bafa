"""A base of random weights, minute but in the layout of real ones, written by the real code."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from datasets.cartoon.build import tell_stories
from pretraining.align import build_blip
from pretraining.save import save_base
from pretraining.text_to_image import scheduler_config
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer

WIDTH = 32  # D, channels of a token
MAX_LENGTH = 32  # tokens of a caption
IMAGE_SIZE = 64  # latents are 8x8: three levels halve it twice, and the patches of BLIP are 8x8


def training_captions(stories: int) -> list[str]:
    told = tell_stories({"train": stories, "val": 0, "test": 0}, 0)["train"]
    return [caption for story in told for caption in story.captions]


def tiny_parts(seed: int = 0) -> dict:
    """The arguments of `save_base` but its folder."""
    torch.manual_seed(seed)
    captions = training_captions(50)
    clip_tokenizer = build_clip_tokenizer(captions, MAX_LENGTH)
    blip_tokenizer = build_blip_tokenizer(captions, MAX_LENGTH)
    text_config = CLIPTextConfig(
        vocab_size=len(clip_tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,  # less than captions need: the loader has to add some
        bos_token_id=clip_tokenizer.bos_token_id,
        eos_token_id=clip_tokenizer.eos_token_id,
        pad_token_id=clip_tokenizer.pad_token_id,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
    )
    unet = UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    return {
        "vae": vae,
        "unet": unet,
        "text_encoder": CLIPTextModel(text_config),
        "scheduler": DDIMScheduler.from_config(scheduler_config()),
        "clip_tokenizer": clip_tokenizer,
        "blip": build_blip(blip_tokenizer, WIDTH),
        "blip_tokenizer": blip_tokenizer,
    }


def save_tiny_base(folder: Path) -> Path:
    """Write the base into `folder` and return it."""
    save_base(folder, **tiny_parts())
    return folder
