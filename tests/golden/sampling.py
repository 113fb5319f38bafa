"""The recorded samplings: free-running in float64, and in float32 with recorded frames fed back."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.golden.model import Line, largest, load_parts, story_batch
from tests.golden.replay import Replay
from tests.golden.square_roots import SquareRoots, find_units

__all__ = ["compare_sampling", "compare_sampling64"]

EXACT = 1e-10


def compare_sampling64(
    folder: Path, task: str, scheduler: str, steps: int, targets: int | None = None
) -> list[Line]:
    """`sample64_*`: as the machine rounds, and with its square roots moved by single units.

    `targets` is how many frames to draw (all).
    """
    golden = load_file(folder / f"sample64_{task}_{scheduler}{steps}.safetensors")
    parts = load_parts(folder)
    for part in (parts.conditioner, parts.vae, parts.unet):
        part.double()
    batch, label = story_batch(folder, task), f"{task} {scheduler}{steps} float64"
    noise, latents = golden["init_latents"], golden["final_latents"]

    def run() -> Replay:
        return Replay(parts, batch, noise, scheduler, steps).run(targets)

    def draw_first() -> Tensor:
        story = {key: value[:1] for key, value in batch.items()}
        return Replay(parts, story, noise[:, :1], scheduler, steps).run(1).latents[0]

    here = run()
    lines = _lines(f"{label} as here", here, golden, 1e-4, 2)
    units = {}
    if lines[0].difference > EXACT:
        units = find_units(draw_first, latents[0, :1])
        with SquareRoots(units):
            here = run()
    moved = max(map(abs, units.values()), default=0)
    return [
        *lines,
        Line(f"{label} roots moved by at most (last places)", moved, 1),
        *_lines(f"{label} roots moved", here, golden, EXACT, 0),
    ]


def _lines(label: str, ours: Replay, golden: dict, latents: float, pixels: int) -> list[Line]:
    frames = torch.stack(ours.frames).permute(0, 1, 3, 4, 2)  # (V, B, H, W, 3)
    drawn = torch.stack(ours.latents)
    return [
        Line(f"{label} latents", largest(drawn, golden["final_latents"][: len(drawn)]), latents),
        Line(f"{label} pixels", largest(frames, golden["images_uint8"][: len(frames)]), pixels),
    ]


def compare_sampling(folder: Path, task: str, scheduler: str, steps: int) -> list[Line]:
    """`sample_*`: every input and output of the U-Net and BLIP along the way."""
    golden = load_file(folder / f"sample_{task}_{scheduler}{steps}.safetensors")
    batch = story_batch(folder, task)
    fed = golden["images_uint8"]
    ours = Replay(load_parts(folder), batch, golden["init_latents"], scheduler, steps, fed).run()
    targets, calls = len(fed), len(golden["unet_timesteps"])
    firsts = ours.calls[::calls]  # a frame's first call
    context = wrong = 0.0
    for k, call in enumerate(firsts):
        states, mask = call["encoder_hidden_states"], call["encoder_attention_mask"].bool()
        masked, live = golden["attention_mask"][k], mask.shape[1]  # True = masked upstream
        context = max(context, largest(states, golden["encoder_hidden_states"][k, :, :live]))
        wrong += (mask == masked[:, :live]).sum().item() + (~masked[:, live:]).sum().item()
    drawn = torch.stack(ours.history[-(targets - 1) :])  # the last frame is nobody's history
    noise = torch.stack([call["output"] for call in firsts])
    times = torch.tensor([call["timestep"] for call in ours.calls[:calls]])
    label = f"{task} {scheduler}{steps}"
    return [
        Line(f"{label} timesteps", largest(times, golden["unet_timesteps"]), 0),
        Line(f"{label} encoder_hidden_states", context, 2e-5),
        Line(f"{label} attention_mask (wrong entries)", wrong, 0),
        Line(f"{label} first_noise_pred", largest(noise, golden["first_noise_pred"]), 1e-4),
        Line(f"{label} new_embeddings", largest(drawn, golden["new_embeddings"][:-1]), 2e-5),
        *_lines(label, ours, golden, 6e-4, 1),
    ]
