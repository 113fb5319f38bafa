"""The memory a full-size training step takes on a GPU, counted without one.

    python -m benchmarks.memory_plan [key=value …]     a configuration's peak and its checkpoints
    python -m benchmarks.memory_plan --table           the README's table
    python -m benchmarks.memory_plan --calibrate       counted against what processes really took

The real step runs on fake tensors: shapes and types without numbers. Every storage that comes and
goes is followed, in the trainer's order, with the optimiser's state and the gradients of the step
before in place. Not in it: the GPU's context (about half a GiB), fragmentation, the workspaces of
convolutions.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from omegaconf import DictConfig
from torch._subclasses.fake_tensor import FakeTensorMode
from tqdm import tqdm
from transformers.initialization import no_init_weights
from transformers.utils import logging

from benchmarks.gpu_autocast import GpuAutocast
from benchmarks.random_parts import SIZES, Sizes, random_batch, random_parts
from benchmarks.storages import KINDS, StorageTracker
from benchmarks.training_step import PlannedAdam, training_step
from building import add_add_ons
from configuration import load_config
from configuration.rules import DATASETS
from models.training.tuning import tuned_names
from train import HALF, build_model

GIB = 2**30
EPOCH = 1000  # optimiser steps; they change nothing here, but some warm-ups need many
PUBLISHED = "config=presets/arldm-pororo-visualization.yaml"  # config= words come on top of it
SMALL = "precision=bf16-mixed optimizer=adamw8bit frames_per_micro_batch=1"
FROZEN = "freeze_clip=true freeze_blip=true freeze_resnet=true"
TUNED = "half_frozen_weights=true gradient_checkpointing=true"
EVERYWHERE = "[down.0,down.1,down.2,mid,up.1,up.2,up.3]"
TABLE = (  # everything at 512x512, Pororo's 85 tokens, five frames a story
    "",
    "precision=bf16-mixed",
    "precision=bf16-mixed gradient_checkpointing=true",
    f"{SMALL}",
    f"{SMALL} gradient_checkpointing=true",
    f"{SMALL} gradient_checkpointing=true batch_size=5",
    f"{SMALL} gradient_checkpointing=true batch_size=10",
    f"{SMALL} {FROZEN}",
    f"{SMALL} {FROZEN} half_frozen_weights=true",
    f"{SMALL} {FROZEN} half_frozen_weights=true cache_latents=true",
    f"{SMALL} {TUNED} tune=lora lora_rank=16",
    f"{SMALL} {TUNED} tune=adapter causal_story.adapter_width=64",
    f"{SMALL} {TUNED} tune=adapter causal_story.adapter_width=64 causal_story.blocks={EVERYWHERE}",
)
CALIBRATION = (
    ("tiny", "batch_size=4"),
    ("tiny", "batch_size=4 frames_per_micro_batch=4"),
    ("middle", ""),
    ("middle", "gradient_checkpointing=true"),
    ("middle", "frames_per_micro_batch=1"),
)


def read_config(words: list[str]) -> DictConfig:
    """The configuration of a plan: neither Pororo's stories nor a tuning's base need be there."""
    there = [f"{name}.hdf5_file={__file__}" for name in DATASETS]
    there.append(f"base_model_file={__file__}")
    config = load_config([PUBLISHED, *there, *words])
    if config.backbone != "sd15":
        raise ValueError(f"backbone is {config.backbone}; a plan is made for sd15")
    return config


def plan(config: DictConfig, sizes: Sizes = SIZES["sd15"]) -> Counter[str]:
    """Bytes by kind at the peak of a training step that is not the first, on fake tensors."""
    half = HALF.get(config.precision)
    with FakeTensorMode():
        with no_init_weights():
            data = config[config.dataset]
            parts = random_parts(sizes, data.max_length, len(data.new_tokens))
        # peft moves what it adds to where it is already, which fake tensors cannot do.
        with patch.object(torch.nn.Module, "to", lambda module, *_, **__: module):
            add_add_ons(parts, config, load=False)
        model = build_model(config, parts, EPOCH).train()
        batch = random_batch(parts, config)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = PlannedAdam(trained, 8 if config.optimizer == "adamw8bit" else 32)
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)  # of the step before
        tracker = StorageTracker()
        tracker.watch(model)
        tracker.add([x for x in batch.values() if isinstance(x, torch.Tensor)], "other")
        tracker.add(optimizer.state, "optimiser state")
        with GpuAutocast(half) if half else nullcontext(), tracker:
            training_step(model, batch, optimizer, config)
        return tracker.peak


def checkpoint_size(config: DictConfig, sizes: Sizes = SIZES["sd15"]) -> int:
    """Bytes of weights and moments in a checkpoint of the full-size model."""
    with torch.device("meta"):
        data = config[config.dataset]
        parts = random_parts(sizes, data.max_length, len(data.new_tokens))
        add_add_ons(parts, config, load=False)
        model = build_model(config, parts, EPOCH)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        moments = PlannedAdam(trained, 8 if config.optimizer == "adamw8bit" else 32).state
    weights = model.state_dict()
    names = weights if config.tune == "all" else tuned_names(weights, config.tune)
    return sum(tensor.nbytes for tensor in [*(weights[name] for name in names), *moments])


def measure(config: DictConfig, sizes: Sizes) -> int:
    """Bytes by which this process really grew, at most, in two steps on the CPU."""
    _two_steps(read_config([]), SIZES["tiny"])  # loads code, fills the libraries' caches
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest memory so far
    before = _resident("VmRSS")
    _two_steps(config, sizes)
    return _resident("VmHWM") - before


def _two_steps(config: DictConfig, sizes: Sizes) -> None:
    data = config[config.dataset]
    parts = random_parts(sizes, data.max_length, len(data.new_tokens))
    model = build_model(config, parts, EPOCH).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    for _ in range(2):
        training_step(model, random_batch(parts, config), optimizer, config)


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}: calibrate on Linux")


def calibrate() -> None:
    """Counted and measured peaks of smaller models, side by side."""
    # Memory that is given back must leave the process at once, or its peak says nothing.
    small = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    environment = {**os.environ, **small, "OMP_NUM_THREADS": "1"}
    print("| model | keys | counted, MiB | measured, MiB | counted / measured |\n|" + "---|" * 5)
    for size, words in CALIBRATION:
        counted = plan(read_config(words.split()), SIZES[size]).total()
        command = [sys.executable, "-m", "benchmarks.memory_plan", "--measure", size]
        done = subprocess.run(
            [*command, *words.split()], env=environment, check=True, capture_output=True, text=True
        )
        measured = json.loads(done.stdout.splitlines()[-1])
        cells = (size, words, f"{counted / 2**20:.0f}", f"{measured / 2**20:.0f}")
        print(f"| {' | '.join(cells)} | {counted / measured:.2f} |", flush=True)


def table() -> None:
    print("| keys | " + " | ".join(KINDS) + " | **peak, GiB** |\n|" + "---|" * (len(KINDS) + 2))
    for words in tqdm(TABLE, "configurations"):
        peak = plan(read_config(words.split()))
        cells = " | ".join(f"{peak[kind] / GIB:.2f}" for kind in KINDS)
        print(f"| `{words}` | {cells} | **{peak.total() / GIB:.1f}** |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--measure", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="config keys, such as batch_size=2")
    args = parser.parse_args()
    logging.set_verbosity_error()
    if args.table or args.calibrate:
        return table() if args.table else calibrate()
    try:
        config = read_config(args.overrides)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if args.measure:
        return print(json.dumps(measure(config, SIZES[args.measure])))
    peak = plan(config)
    for kind in KINDS:
        print(f"{kind:16} {peak[kind] / GIB:6.2f} GiB")
    print(f"{'peak':16} {peak.total() / GIB:6.2f} GiB")
    print(f"{'a checkpoint':16} {checkpoint_size(config) / 1e9:6.2f} GB on disk")


if __name__ == "__main__":
    main()
