"""The model and the batches of a golden folder, and the line that reports a compared quantity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    CLIPTextConfig,
    CLIPTextModel,
)

from models.blip import BlipConditioner
from models.checkpoints.upstream import from_upstream
from models.components import Components
from models.frames import HistoryTransform
from models.training.story_model import StoryModel

__all__ = ["MEAN", "STD", "TASKS", "Line", "build_parts", "largest", "load_parts", "story_batch"]

TASKS = ("visualization", "continuation")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SD_SCHEDULE = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="epsilon",
    timestep_spacing="leading", num_train_timesteps=1000,
)  # fmt: skip


@dataclass
class Line:
    """One compared quantity."""

    name: str
    difference: float
    tolerance: float

    @property
    def good(self) -> bool:
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        verdict = "ok" if self.good else "WRONG"
        return f"{self.name:62} {self.difference:9.2e}  allowed {self.tolerance:7.1e}  {verdict}"


def largest(ours: Tensor, golden: Tensor) -> float:
    """Largest difference of two tensors of one shape."""
    if ours.shape != golden.shape:
        return float("inf")
    return (ours.double() - golden.double()).abs().max().item()


def build_parts(config: dict) -> Components:
    """Parts of the sizes in a `tiny_config.json`, with random weights."""
    clip, med, vit = config["clip"], config["med"], config["vit"]
    length, ids, blip_ids = config["max_length"], config["clip_ids"], config["blip_ids"]
    sizes = {"vocab_size": config["clip_tokens"], "max_position_embeddings": length}
    text = CLIPTextModel(CLIPTextConfig(**{**clip, **sizes}))
    vision = BlipVisionModel(
        BlipVisionConfig(
            hidden_size=vit["embed_dim"],
            intermediate_size=4 * vit["embed_dim"],
            num_hidden_layers=vit["depth"],
            num_attention_heads=vit["num_heads"],
            image_size=vit["img_size"],
            patch_size=vit["patch_size"],
            layer_norm_eps=1e-6,
        )
    )
    unknown = ("type_vocab_size", "add_cross_attention")
    sizes = {"vocab_size": config["blip_tokens"], "encoder_hidden_size": vit["embed_dim"]}
    med = {key: value for key, value in med.items() if key not in unknown}
    special = {"bos_token_id": blip_ids["dec"], "sep_token_id": blip_ids["sep"]}
    multimodal = BlipTextModel(
        BlipTextConfig(**{**med, **sizes, **special, "is_decoder": True}),
        add_pooling_layer=False,
    )
    multimodal.embeddings.word_embeddings.padding_idx = None  # lost upstream when its table grows
    null_caption = torch.full((1, length), ids["pad"])
    null_caption[0, 0], null_caption[0, 1] = ids["bos"], ids["eos"]
    null_history = torch.full((1, length), blip_ids["pad"])
    null_history[0, 0], null_history[0, 1] = blip_ids["cls"], blip_ids["sep"]
    transform = HistoryTransform(vit["img_size"], MEAN, STD)
    conditioner = BlipConditioner(
        text, vision, multimodal, null_caption, null_history, blip_ids["enc"], transform
    )
    return Components(
        conditioner=conditioner,
        vae=AutoencoderKL(**config["vae"]),
        unet=UNet2DConditionModel(**config["unet"]),
        scheduler_config=SD_SCHEDULE,
        clip_tokenizer=None,
        blip_tokenizer=None,
        history_transform=transform,
        max_length=length,
        image_size=config["image"],
    )


def load_parts(folder: Path) -> Components:
    """The model of a golden folder, weights through the upstream import, strict."""
    parts = build_parts(json.loads((folder / "tiny_config.json").read_text()))
    original = load_file(folder / "state_dict.safetensors")
    model = StoryModel(parts)
    model.load_state_dict(from_upstream(original), strict=True)
    model.eval()
    for key, ours in (
        ("clip_text_null_token", parts.conditioner.null_caption_ids),
        ("blip_image_null_token", parts.conditioner.null_image),
    ):
        torch.testing.assert_close(original[key], ours)
    return parts


def story_batch(folder: Path, task: str) -> dict:
    """The recorded batch in our field names."""
    raw = load_file(folder / f"batch_{task}.safetensors")
    return {
        "target_images": raw["images"],
        "caption_ids": raw["captions"],
        "caption_mask": raw["attention_mask"].bool(),
        "history_images": raw["source_images"],
        "history_ids": raw["source_caption"],
        "history_mask": raw["source_attention_mask"].bool(),
        "story_id": [str(i) for i in range(len(raw["images"]))],
    }
