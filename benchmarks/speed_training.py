"""A training step of one story beside the original's: time, and peak memory counted on fakes."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from unittest.mock import patch

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.initialization import no_init_weights

from benchmarks.memory_plan import PeakMemory
from benchmarks.random_parts import Sizes, random_batch, random_parts
from benchmarks.reference import Reference
from benchmarks.timing import gpu_peak, has_bf16, in_turns, ratio, seconds_of
from benchmarks.training_step import training_step
from models.components import Components
from models.frames import downscale
from models.story_batch import StoryBatch
from models.training.optimizer import build_optimizer, step_in_backward
from models.training.story_model import StoryModel

__all__ = ["training_table"]

FROZEN = {"freeze_clip": True, "freeze_blip": True}
SAVING = {"gradient_checkpointing": True, "frames_per_micro_batch": 1}
WAYS = {  # name -> what StoryModel is given; `cached` and `half` are said beside
    "reference": None,
    "everything trains": {},
    "step in the backward pass": {"optimizer_in_backward": True, "gradient_checkpointing": True},
    "least activations": SAVING,
    "bf16 autocast": {"half": True},
    "frozen CLIP and BLIP": FROZEN,
    "frozen and cached": {**FROZEN, "cached": True},
    "frozen, cached, bf16": {**FROZEN, "cached": True, "half": True},
}
REFERENCE = "reference"


def training_table(sizes: Sizes, side: int, rounds: int, device: torch.device) -> Iterator[str]:
    """A line for each way, as soon as it is measured: time and memory beside the reference's."""
    half = has_bf16(device)
    ways = {name: how for name, how in WAYS.items() if half or not (how or {}).get("half")}
    heavy = device.type == "cpu" and side > 32  # the reference's scores alone take gigabytes
    frames = 1 if heavy else 5
    parts = random_parts(sizes, 85)
    parts.image_size = side * 2 ** (len(sizes.vae) - 1)
    parts.modules().to(device)
    ways.pop(REFERENCE)

    def peak(how: dict | None) -> int:
        if device.type != "cuda":
            return peak_of(sizes, side, how)
        held = torch.cuda.memory_allocated(device)
        with step_of(parts, how, 5, device) as step:
            return gpu_peak(step, device)[0] - held

    theirs = peak(None)
    for name, how in ways.items():
        pair = {REFERENCE: None, name: how}
        times: dict[str, list[float]] = {one: [] for one in pair}
        for one in in_turns(pair, rounds):
            # Made anew each time: two models with their moments are more than 24 GB hold.
            with step_of(parts, pair[one], frames, device) as step:
                step()  # before it there are neither moments nor gradients
                times[one].append(seconds_of(step, device))
            del step
            gc.collect()  # a model's parts know each other
        yield (
            f"| training, {side}×{side} latents, {name} (time of {frames} frames; memory of 5) | "
            f"time {ratio(times[name], times[REFERENCE])}, memory "
            f"{peak(how) / theirs:.2f} of {theirs / 2**30:.1f} GiB |"
        )


@contextmanager
def step_of(
    parts: Components, how: dict | None, frames: int, device: torch.device
) -> Iterator[Callable[[], Tensor]]:
    """One step of training, of weights of its own."""
    parts = deepcopy(parts)
    how = dict(how or {}, reference=how is None)
    cached, half = how.pop("cached", False), how.pop("half", False)
    batch = _batch(parts, cached, frames, device)
    if how.pop("reference"):
        reference = Reference(parts, copy=True)
        reference.vae.requires_grad_(False)
        reference.modules.train()
        trained = [p for p in reference.modules.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, 1e-5, weight_decay=1e-4)

        def step() -> Tensor:
            latents = torch.randn(
                frames, 4, *[parts.image_size // downscale(parts.vae)] * 2, device=device
            )
            times = torch.randint(0, 1000, (frames,), device=device)
            dropped = torch.rand(frames, device=device) < 0.1
            loss = reference.loss(batch, latents, times, dropped)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        yield step
        return
    for network in (parts.unet, parts.vae):
        network.to(memory_format=torch.channels_last)
    model = StoryModel(parts, **how).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer("adamw", trained, 1e-5, 1e-4, fused=True)
    hooks = step_in_backward(optimizer) if model.optimizer_in_backward else []
    clipped = OmegaConf.create({"gradient_clip_val": None})

    def step() -> Tensor:
        cast = torch.autocast(device.type, torch.bfloat16) if half else nullcontext()
        return training_step(model, batch, optimizer, clipped, cast)

    yield step
    for hook in hooks:
        hook.remove()  # through them the weights would hold themselves


def peak_of(sizes: Sizes, side: int, how: dict | None) -> int:
    """Bytes at the peak of the second step, of five frames, on tensors without numbers."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        # Fake parameters cannot be laid out anew.
        patch.object(nn.Module, "to", lambda module, *_, **__: module),
    ):
        with no_init_weights():
            parts = random_parts(sizes, 85)
        parts.image_size = side * 2 ** (len(sizes.vae) - 1)
        with step_of(parts, how, 5, torch.device("cpu")) as step:
            del parts
            step()
            memory = PeakMemory()
            memory.track_external(*_held(step))
            with memory:
                step()
    return memory.bytes


def _held(step: Callable) -> list:
    """The model, the optimiser and the batch that a step works with."""
    held = inspect.getclosurevars(step).nonlocals
    model = held["model"] if "model" in held else held["reference"].modules
    tensors = [value for value in held["batch"].values() if isinstance(value, Tensor)]
    return [model, held["optimizer"], *tensors]


def _batch(parts: Components, cached: bool, frames: int, device: torch.device) -> StoryBatch:
    words = {"task": "visualization", "batch_size": 1, "cache_latents": cached}
    config: DictConfig = OmegaConf.create({**words, "freeze_blip": cached})
    batch = random_batch(parts, config)
    batch = {key: value[:, :frames] if isinstance(value, Tensor) else value
             for key, value in batch.items()}  # fmt: skip
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
