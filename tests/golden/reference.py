"""The reference of `benchmarks/`, against which our speed is measured, is the original itself."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.reference import Reference
from tests.golden.model import Line, largest, load_parts, story_batch

__all__ = ["compare_reference"]


def compare_reference(folder: Path, task: str) -> list[Line]:
    """Its contexts, noise and loss of a training step, and what it draws, in 32 bits."""
    step = load_file(folder / f"forward_{task}_cf.safetensors")
    drawn = load_file(folder / f"sample_{task}_ddim4.safetensors")
    reference, batch = Reference(load_parts(folder)), story_batch(folder, task)
    seen = []
    reference.unet.register_forward_pre_hook(
        lambda unet, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    null = step["classifier_free_idx"]
    with torch.no_grad():
        loss = reference.loss(batch, step["noise"], step["timesteps"], null, step["latents"])
    context, mask = (seen[0][f"encoder_{k}"] for k in ("hidden_states", "attention_mask"))
    pictures = drawn["images_uint8"].permute(0, 1, 4, 2, 3)
    ours = reference.draw(batch, drawn["init_latents"], 4, feed_back=pictures)
    first = torch.stack([call["encoder_hidden_states"] for call in seen[1::4]])
    hidden = torch.stack([call["encoder_attention_mask"] for call in seen[1::4]])
    lines = {
        "loss": (loss, step["loss"], 3e-7),
        "contexts": (context, step["encoder_hidden_states"], 1e-5),
        "masks": (~mask, step["attention_mask"], 0),
        "drawing's contexts": (first, drawn["encoder_hidden_states"], 2e-5),
        "drawing's masks": (~hidden, drawn["attention_mask"], 0),
        "latents": (ours.latents, drawn["final_latents"], 6e-4),
        "pixels": (ours.frames, pictures, 1),
    }
    return [Line(f"{task} reference {k}", largest(*v[:2]), v[2]) for k, v in lines.items()]
