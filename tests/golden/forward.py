"""Encoders, context, mask, noise prediction and loss of the recorded forward passes."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from models.training.story_model import StoryModel
from tests.golden.model import Line, largest, load_parts, story_batch

__all__ = ["compare_forward"]


@torch.no_grad()
def compare_forward(folder: Path, task: str, kind: str) -> list[Line]:
    """`forward_{task}_{kind}`; kind is nocf, or cf with classifier-free rows."""
    golden = load_file(folder / f"forward_{task}_{kind}.safetensors")
    model, batch = StoryModel(load_parts(folder)).eval(), story_batch(folder, task)
    null, conditioner = golden["classifier_free_idx"], model.conditioner
    images, ids, seen = (batch[f"history_{k}"].flatten(0, 1) for k in ("images", "ids", "mask"))
    captions = conditioner.encode_captions(
        batch["caption_ids"].flatten(0, 1), batch["caption_mask"].flatten(0, 1)
    )
    null_caption, null_history = conditioner.null_states()
    context, mask = conditioner(batch, null)[:2]
    posterior = model.vae.encode(batch["target_images"].flatten(0, 1)).latent_dist
    sample = posterior.mean + posterior.std * golden["vae_sample_noise"]
    latents, noise, timesteps = (golden[k] for k in ("latents", "noise", "timesteps"))
    noisy = model.schedule.add_noise(latents, noise, timesteps)
    predicted = model.unet(
        noisy, timesteps, encoder_hidden_states=context, encoder_attention_mask=mask
    ).sample
    found = {
        "caption_embeddings": (captions, 5e-6),
        "vit_source": (conditioner.vision_encoder(images).last_hidden_state, 1e-5),
        "vit_null": (conditioner.vision_encoder(conditioner.null_image).last_hidden_state, 1e-5),
        "blip_multimodal": (conditioner.encode_history(images, ids, seen), 1e-5),
        "clip_null_embedding": (null_caption, 5e-6),
        "blip_null_embedding": (null_history, 5e-6),
        "vae_moments": (posterior.parameters, 2e-5),
        "latents": (sample * model.vae.config.scaling_factor, 5e-6),
        "noisy_latents": (noisy, 1e-6),
        "noise_pred": (predicted, 2e-5),
        "loss": (model.noise_loss(batch, latents, noise, timesteps, null), 3e-7),
    }
    # Upstream keeps the last frame's block, which nobody may see (True = masked there).
    live = context.shape[1]
    states, masked = golden["encoder_hidden_states"][:, :live], golden["attention_mask"]
    wrong = (mask == masked[:, :live]).sum().item() + (~masked[:, live:]).sum().item()
    lines = [(name, largest(ours, golden[name]), allow) for name, (ours, allow) in found.items()]
    lines.append(("encoder_hidden_states", largest(context, states), 1e-5))
    lines.append(("attention_mask (wrong entries)", wrong, 0))
    return [Line(f"{task} {kind} {name}", *rest) for name, *rest in lines]
