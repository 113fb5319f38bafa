"""Compares this code with numbers the original AR-LDM produced: `python -m tests.golden FOLDER`.

Builds the model from FOLDER/tiny_config.json and state_dict.safetensors through the import that
loads real checkpoints, and prints one line a quantity: difference, tolerance, verdict.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import (
    BlipTextConfig,
    BlipVisionConfig,
    BlipVisionModel,
    CLIPTextConfig,
    CLIPTextModel,
)
from transformers.models.blip.modeling_blip_text import BlipTextModel

from models.components import Components
from models.conditioning import HistoryConditioner
from models.frames import HistoryTransform
from models.story_model import StoryModel
from models.upstream_checkpoint import from_upstream

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
        return f"{self.name:55} {self.difference:9.2e}  allowed {self.tolerance:7.1e}  {verdict}"


def build_parts(folder: Path) -> Components:
    """The model of a golden folder, weights through the upstream import, strict."""
    config = json.loads((folder / "tiny_config.json").read_text())
    clip, med, vit = config["clip"], config["med"], config["vit"]
    length, ids, blip_ids = config["max_length"], config["clip_ids"], config["blip_ids"]
    text = CLIPTextModel(
        CLIPTextConfig(**{
            **clip, "vocab_size": config["clip_tokens"], "max_position_embeddings": length,
        })
    )  # fmt: skip
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
    multimodal = BlipTextModel(
        BlipTextConfig(**{
            **{k: v for k, v in med.items() if k not in ("type_vocab_size", "add_cross_attention")},
            "vocab_size": config["blip_tokens"], "encoder_hidden_size": vit["embed_dim"],
            "is_decoder": True,
        }),
        add_pooling_layer=False,
    )  # fmt: skip
    multimodal.embeddings.word_embeddings.padding_idx = None  # lost upstream when its table grows
    null_caption = torch.full((1, length), ids["pad"])
    null_caption[0, 0], null_caption[0, 1] = ids["bos"], ids["eos"]
    null_history = torch.full((1, length), blip_ids["pad"])
    null_history[0, 0], null_history[0, 1] = blip_ids["cls"], blip_ids["sep"]
    transform = HistoryTransform(vit["img_size"], MEAN, STD)
    conditioner = HistoryConditioner(
        text, vision, multimodal, null_caption, null_history, blip_ids["enc"], transform
    )
    parts = Components(
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
    state = from_upstream(load_file(folder / "state_dict.safetensors"))
    StoryModel(parts).load_state_dict(state, strict=True)
    for key, ours in (
        ("clip_text_null_token", null_caption),
        ("blip_image_null_token", conditioner.null_image),
    ):
        torch.testing.assert_close(load_file(folder / "state_dict.safetensors")[key], ours)
    return parts


def story_batch(raw: dict[str, torch.Tensor]) -> dict:
    """The golden batch in our field names."""
    return {
        "target_images": raw["images"],
        "caption_ids": raw["captions"],
        "caption_mask": raw["attention_mask"].bool(),
        "history_images": raw["source_images"],
        "history_ids": raw["source_caption"],
        "history_mask": raw["source_attention_mask"].bool(),
        "story_id": [str(i) for i in range(len(raw["images"]))],
    }


def compare_forward(folder: Path, task: str, kind: str) -> list[Line]:
    """Encoders, context, mask, noise prediction and loss of one recorded forward pass."""
    golden = load_file(folder / f"forward_{task}_{kind}.safetensors")
    model = StoryModel(build_parts(folder)).eval()
    batch = story_batch(load_file(folder / f"batch_{task}.safetensors"))
    null, conditioner = golden["classifier_free_idx"], model.conditioner
    with torch.no_grad():
        captions = conditioner.encode_captions(
            batch["caption_ids"].flatten(0, 1), batch["caption_mask"].flatten(0, 1)
        )
        history = conditioner.encode_history(
            *(batch[f"history_{k}"].flatten(0, 1) for k in ("images", "ids", "mask"))
        )
        null_caption, null_history = conditioner.null_states()
        context, mask = conditioner(batch, null)
        moments = model.vae.encode(batch["target_images"].flatten(0, 1)).latent_dist
        latents = (moments.mean + moments.std * golden["vae_sample_noise"]) * 0.18215
        noisy = model.schedule.add_noise(golden["latents"], golden["noise"], golden["timesteps"])
        predicted = model.unet(
            noisy, golden["timesteps"], encoder_hidden_states=context, encoder_attention_mask=mask
        ).sample
        loss = model.noise_loss(
            batch, golden["latents"], golden["noise"], golden["timesteps"], null
        )
    found = [
        ("caption_embeddings", captions, 5e-6),
        ("blip_multimodal", history, 1e-5),
        ("clip_null_embedding", null_caption, 5e-6),
        ("blip_null_embedding", null_history, 5e-6),
        ("latents", latents, 5e-6),
        ("noisy_latents", noisy, 1e-6),
        ("noise_pred", predicted, 2e-5),
        ("loss", loss, 3e-7),
    ]
    lines = [
        Line(f"{task} {kind} {name}", (value - golden[name]).abs().max().item(), tolerance)
        for name, value, tolerance in found
    ]
    # Upstream keeps the last frame's block, which nobody may see (True = masked there).
    live = context.shape[1]
    states, masked = golden["encoder_hidden_states"][:, :live], golden["attention_mask"]
    difference = (context - states).abs().max().item()
    wrong = (mask == masked[:, :live]).sum().item() + (~masked[:, live:]).sum().item()
    return [
        *lines,
        Line(f"{task} {kind} encoder_hidden_states", difference, 1e-5),
        Line(f"{task} {kind} attention_mask (wrong entries)", wrong, 0),
    ]


def compare(folder: Path) -> list[Line]:
    """All quantities of a golden folder; files it lacks are named and skipped."""
    lines = []
    for task in TASKS:
        for kind in ("nocf", "cf"):
            if _there(folder / f"forward_{task}_{kind}.safetensors"):
                lines += compare_forward(folder, task, kind)
    return lines


def _there(path: Path) -> bool:
    if not path.is_file():
        print(f"skipped: {path.name} is not in the folder")
    return path.is_file()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    results = compare(Path(sys.argv[1]))
    print("\n".join(map(str, results)))
    sys.exit(0 if all(line.good for line in results) else 1)
