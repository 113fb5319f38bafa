"""Writes the base in the folder layout of real weights: diffusers' and transformers' own."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from torch import nn
from transformers import BertTokenizer, BlipImageProcessor, CLIPTokenizer

from models.sharing.pipeline_folder import ready_to_share
from pretraining.align import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD

__all__ = ["save_base"]


def save_base(
    out: Path,
    vae: nn.Module,
    unet: nn.Module,
    text_encoder: nn.Module,
    scheduler,
    clip_tokenizer: CLIPTokenizer,
    blip: nn.Module,
    blip_tokenizer: BertTokenizer,
) -> None:
    """Save all parts in half precision safetensors under `out` and `out`/blip."""
    parts = {"vae": vae, "unet": unet, "text_encoder": text_encoder, "blip": blip}
    for name, part in parts.items():
        half = nn.Module.to(copy.deepcopy(part), torch.float16)  # diffusers' own `to` warns of none
        half.save_pretrained(out / name, safe_serialization=True)
    scheduler.save_pretrained(out / "scheduler")
    clip_tokenizer.save_pretrained(out / "tokenizer")
    blip_tokenizer.save_pretrained(out / "blip")
    BlipImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
    ).save_pretrained(out / "blip")
    index = {"_class_name": "StableDiffusionPipeline"}
    index |= {
        "vae": ["diffusers", type(vae).__name__],
        "unet": ["diffusers", type(unet).__name__],
        "text_encoder": ["transformers", type(text_encoder).__name__],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    ready_to_share(out)
