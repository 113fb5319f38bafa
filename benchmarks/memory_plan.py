"""The memory a full-size training step takes on a GPU, counted without one.

    python -m benchmarks.memory_plan key=value …     the words that main.py would train with

The real step and the real optimiser run on fake tensors, which have shapes and types and no
numbers, while PyTorch's MemTracker counts them: the second step, so that moments and the gradients
of the step before are in place. Neither stories nor weights need be there. Not in it: the GPU's
context (about half a GiB), fragmentation, the workspaces of convolutions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from unittest.mock import patch

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers.initialization import no_init_weights
from transformers.utils import logging

from benchmarks.gpu_autocast import GpuAutocast
from benchmarks.random_parts import Sizes, random_batch, random_parts
from benchmarks.training_step import training_step
from building import add_add_ons
from configuration import load_config
from configuration.rules import DATASETS
from models.story_batch import StoryBatch
from models.training.optimizer import build_optimizer, step_in_backward
from models.training.story_model import StoryModel
from models.training.tuning import tuned_names
from train import HALF, build_model

__all__ = ["PeakMemory", "gpu_optimizer", "plan", "read_config"]

EPOCH = 1000  # optimiser steps; they change nothing here, but some warm-ups need many


class PeakMemory(MemTracker):
    """MemTracker without its account of single modules, which cannot have frozen parameters."""

    def _no_account(self, *_) -> None:
        pass

    _pre_fw_hook = _post_fw_hook = _pre_bw_hook = _post_bw_hook = _no_account

    @property
    def bytes(self) -> int:
        """The most that was held at once."""
        return sum(kinds["Total"] for kinds in self.get_tracker_snapshot("peak").values())


def read_config(words: list[str]) -> DictConfig:
    """main.py's configuration, but neither stories nor a tuning's base need be there."""
    there = [f"{name}.hdf5_file={__file__}" for name in DATASETS]
    config = load_config([*there, f"base_model_file={__file__}", *words])
    if config.backbone != "sd15" or config.mode != "train":
        raise ValueError(
            f"backbone is {config.backbone} and mode {config.mode}; a plan is made for training "
            f"with backbone=sd15, such as config=presets/arldm-pororo-visualization.yaml"
        )
    return config


def plan(config: DictConfig, sizes: Sizes | None = None) -> dict[str, int]:
    """Bytes of a training step by kind, their `peak`, and those of a `checkpoint` on disk."""
    half = HALF.get(config.precision)
    fake = FakeTensorMode(allow_non_fake_inputs=True)  # bitsandbytes' tables are not fake
    with fake:
        model, batch = _model_and_batch(config, sizes or Sizes())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, memory = gpu_optimizer(config, trained), PeakMemory()
    with fake:
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        if config.optimizer_in_backward:
            optimizer.zero_grad()
            step_in_backward(optimizer)
        memory.track_external(model, optimizer, *_tensors(batch.values()))
        with GpuAutocast(half) if half else nullcontext(), memory:
            training_step(model, batch, optimizer, config)
    moments = sum(_bytes(state.values()) for state in optimizer.state.values())
    parts = {
        "parameters": _bytes([*model.parameters(), *model.buffers()]),
        "gradients": 0 if config.optimizer_in_backward else _bytes(trained),
        "optimiser state": moments,
    }
    parts["activations and temporaries"] = memory.bytes - sum(parts.values())
    weights = model.state_dict()
    saved = weights if config.tune == "all" else tuned_names(weights, config.tune)
    checkpoint = _bytes(weights[name] for name in saved) + moments
    return {**parts, "peak": memory.bytes, "checkpoint": checkpoint}


def gpu_optimizer(config: DictConfig, trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser as the trainer makes it on a GPU, for parameters that are on none."""
    mixed = config.precision in HALF
    optimizer = build_optimizer(config.optimizer, trained, config.init_lr, 0, fused=not mixed)
    for group in optimizer.param_groups:
        group["foreach"] = not group.get("fused")  # as PyTorch chooses there
    return optimizer


def _model_and_batch(config: DictConfig, sizes: Sizes) -> tuple[StoryModel, StoryBatch]:
    with no_init_weights():
        data = config[config.dataset]
        parts = random_parts(sizes, data.max_length, len(data.new_tokens or ()))
    # peft moves what it adds to where it is already, which fake tensors cannot do.
    with patch.object(nn.Module, "to", lambda module, *_, **__: module):
        add_add_ons(parts, config, load=False)
    return build_model(config, parts, EPOCH).train(), random_batch(parts, config)


def _tensors(values: Iterable) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


def _bytes(values: Iterable) -> int:
    return sum(tensor.nbytes for tensor in _tensors(values))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="+", metavar="key=value", help="as main.py takes them")
    logging.set_verbosity_error()
    try:
        planned = plan(read_config(parser.parse_args().overrides))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    checkpoint = planned.pop("checkpoint")
    for kind, size in planned.items():
        print(f"{kind:28}{size / 2**30:6.2f} GiB")
    print(f"{'a checkpoint on disk':28}{checkpoint / 1e9:6.2f} GB")


if __name__ == "__main__":
    main()
