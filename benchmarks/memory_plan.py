"""The memory that full-size training or drawing takes on a GPU, counted without one.

    python -m benchmarks.memory_plan key=value …     the words that main.py would be given
    python -m benchmarks.memory_plan --measure …     a training step on this machine's GPU, with
                                                     random weights

The real step and the real optimiser run on fake tensors, which have shapes and types and no
numbers, while PyTorch's MemTracker counts them: the second step, so that moments and the gradients
of the step before are in place. With mode=sample the last frame of `batch_size` stories is drawn.
Neither stories nor weights need be there. Not in it: the GPU's context (about half a GiB),
fragmentation, the workspaces of convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from statistics import median
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
from benchmarks.timing import gpu_peak
from benchmarks.training_step import training_step
from building import HALF, attach_add_ons
from common.terminal import as_quoted_word, error_in_one_line, script_parser
from configuration import load_config
from configuration.rules import DATASETS
from models.components import Components
from models.conditioning import Context
from models.cross_attention import context_projected_once
from models.frames import decode_latents, sides
from models.pipeline import StoryPipeline
from models.story_batch import StoryBatch
from models.training.new_words import GrownEmbedding, token_tables
from models.training.optimizer import build_optimizer, step_in_backward
from models.training.story_model import StoryModel
from models.training.tuning import tuned_names
from train import build_model

__all__ = ["PeakMemory", "fitting", "gpu_optimizer", "measure", "plan", "read_config"]

EPOCH = 1000  # optimiser steps; they change nothing here, but some warm-ups need many
CARDS = (80, 48, 40, 24, 16, 12, 8)  # GB
ROOM = 2 * 2**30  # bytes of a card: its own context, fragments, workspaces
FRAMES = 5


class PeakMemory(MemTracker):
    """MemTracker without its account of single modules, which cannot have frozen parameters."""

    def _no_account(self, *_) -> None:
        pass

    _pre_fw_hook = _post_fw_hook = _pre_bw_hook = _post_bw_hook = _no_account

    def _track_optimizer_states(self, kind, optimizer: torch.optim.Optimizer) -> None:
        """Of what has moved, which within the backward pass is one parameter at a time."""
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            for tensor in _tensors(optimizer.state.get(parameter, {}).values()):
                self._update_and_maybe_create_winfos(tensor, kind)

    @property
    def bytes(self) -> int:
        """The most that was held at once."""
        return sum(kinds["Total"] for kinds in self.get_tracker_snapshot("peak").values())


def read_config(words: list[str]) -> DictConfig:
    """main.py's configuration, but neither stories nor a tuning's base need be there."""
    files = ["base_model_file", *(f"{name}.hdf5_file" for name in DATASETS)]
    if "mode=sample" in words and not any(word.startswith("test_model_file=") for word in words):
        files.append("test_model_file")
    config = load_config([*(as_quoted_word(key, __file__) for key in files), *words])
    if config.backbone != "sd15":
        raise ValueError(
            f"backbone is {config.backbone}; a plan is made for backbone=sd15, such as "
            f"config=presets/arldm-pororo-visualization.yaml"
        )
    return config


def plan(config: DictConfig, sizes: Sizes | None = None) -> dict[str, int]:
    """Bytes by kind and their `peak`; of a training step also those of a `checkpoint` on disk."""
    if config.mode == "sample":
        return _plan_drawing(config, sizes or Sizes())
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
    peak = memory.bytes
    if config.ema_decay is not None:  # of the whole model, what is frozen too
        parts["average of the weights"] = parts["parameters"]
        peak += parts["parameters"]
    weights = model.state_dict()
    saved = weights if config.tune == "all" else tuned_names(weights, config.tune)
    checkpoint = _bytes(weights[name] for name in saved) + moments
    return {**parts, "peak": peak, "checkpoint": checkpoint}


def measure(config: DictConfig) -> dict[str, float]:
    """What a GPU really takes for training steps: its `peak` in bytes, `seconds` of a step."""
    device, half = torch.device("cuda"), HALF.get(config.precision)
    with device:
        data = config[config.dataset]
        parts = random_parts(Sizes(), data.max_length, len(data.new_tokens or ()))
        batch = random_batch(parts, config)
    attach_add_ons(parts, config, load=False)
    for network in (parts.unet, parts.vae):
        network.to(memory_format=torch.channels_last)
    model = build_model(config, parts, EPOCH).to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = gpu_optimizer(config, trained)
    if config.optimizer_in_backward:
        step_in_backward(optimizer)

    def step() -> Tensor:
        cast = torch.autocast("cuda", half) if half else nullcontext()
        return training_step(model, batch, optimizer, config, cast)

    peak, seconds = gpu_peak(step, device, rounds=5)
    held = torch.cuda.max_memory_reserved(device)
    return {"peak": peak, "reserved": held, "seconds": median(seconds)}


@torch.no_grad()
def _plan_drawing(config: DictConfig, sizes: Sizes) -> dict[str, int]:
    """All captions, the last frame's history, a call of the U-Net and the picture."""
    half, memory = HALF.get(config.precision), PeakMemory()
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        patch.object(Context, "without_unseen", lambda self: self),  # asks for numbers
    ):
        parts = _parts(config, sizes)
        own, pipeline = parts.conditioner, StoryPipeline.from_components(parts)
        held, stories = parts.modules().eval(), config.batch_size
        batch = random_batch(parts, config)
        ids, seen = batch["history_ids"], batch["history_mask"]
        latents = torch.zeros(pipeline._latents_shape(stories, sides(config.sd15.image_size)))
        memory.track_external(held)
        with GpuAutocast(half) if half else nullcontext(), memory:
            guided = config.guidance_scale != 1
            null = own.null_states() if guided else None
            captions = own.encode_captions(ids.flatten(0, 1), seen.flatten(0, 1))
            captions = captions.unflatten(0, (stories, FRAMES))
            pictures = [batch["history_images"][:, k] for k in range(FRAMES - 1)]
            history = [
                own.encode_history(picture, ids[:, k], seen[:, k])
                for k, picture in enumerate(pictures if config.use_history else ())
            ]
            context = pipeline._context(
                captions[:, -1], seen[:, -1], history, seen[:, : len(history)], null, 0, None, False
            )
            with context_projected_once(parts.unet):
                rows = torch.cat([latents] * (2 if guided else 1))
                for _ in range(2):  # in the second, keys and values are there
                    parts.unet(rows, 1, **context.unet_arguments())
            decode_latents(parts.vae, latents)
    weights = _bytes([*held.parameters(), *held.buffers()])
    kinds = {"parameters": weights, "activations and temporaries": memory.bytes - weights}
    return {**kinds, "peak": memory.bytes}


def fitting(peak: int) -> str:
    """Which cards hold `peak` bytes, in words."""
    fits = [card for card in CARDS if peak + ROOM <= card * 1e9]
    others = [card for card in CARDS if card not in fits]
    shown = [", ".join(map(str, cards)) or "none" for cards in (fits, others)]
    return f"fits GPUs of {shown[0]} GB; not: {shown[1]} ({ROOM / 2**30:.0f} GiB left to the GPU)"


def gpu_optimizer(config: DictConfig, trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser as the trainer makes it on a GPU, for parameters that are on none."""
    mixed = config.precision in HALF
    optimizer = build_optimizer(config.optimizer, trained, config.init_lr, 0, fused=not mixed)
    for group in optimizer.param_groups:
        group["foreach"] = not group.get("fused")  # as PyTorch chooses there
    return optimizer


def _parts(config: DictConfig, sizes: Sizes) -> Components:
    with no_init_weights():
        data = config[config.dataset]
        parts = random_parts(sizes, data.max_length, len(data.new_tokens or ()))
    # peft moves what it adds to where it is already, which fake tensors cannot do.
    with patch.object(nn.Module, "to", lambda module, *_, **__: module):
        attach_add_ons(parts, config, load=False)
    words = len(config.new_characters) if config.tune != "all" else 0
    for encoder, table in token_tables(parts.conditioner) if words else ():
        rows = torch.empty(words, table.embedding_dim)
        encoder.set_input_embeddings(GrownEmbedding(table, rows, table.num_embeddings))
    return parts


def _model_and_batch(config: DictConfig, sizes: Sizes) -> tuple[StoryModel, StoryBatch]:
    parts = _parts(config, sizes)
    return build_model(config, parts, EPOCH).train(), random_batch(parts, config)


def _tensors(values: Iterable) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


def _bytes(values: Iterable) -> int:
    return sum(tensor.nbytes for tensor in _tensors(values))


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("overrides", nargs="+", metavar="key=value", help="as main.py takes them")
    parser.add_argument("--measure", action="store_true", help="run on a GPU instead of counting")
    logging.set_verbosity_error()
    args = parser.parse_args()
    with error_in_one_line():
        config = read_config(args.overrides)
        if args.measure and config.mode == "sample":
            raise ValueError("--measure runs a training step; leave it out to count mode=sample")
        if args.measure and not torch.cuda.is_available():
            raise ValueError("--measure: this machine has no CUDA GPU; leave it out to count")
        planned = measure(config) if args.measure else plan(config)
    if args.measure:
        print(
            f"{torch.cuda.get_device_name()}: peak {planned['peak'] / 2**30:.2f} GiB, "
            f"{planned['reserved'] / 2**30:.2f} held by PyTorch; {planned['seconds']:.3f} s a step"
        )
        return
    checkpoint = planned.pop("checkpoint", None)
    for kind, size in planned.items():
        print(f"{kind:28}{size / 2**30:6.2f} GiB")
    print(fitting(planned["peak"]))
    if checkpoint is not None:
        print(f"{'a checkpoint on disk':28}{checkpoint / 1e9:6.2f} GB")


if __name__ == "__main__":
    main()
