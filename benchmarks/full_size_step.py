"""One real training step of the full-size model on a CPU, with random weights.

    python -m benchmarks.full_size_step [key=value …]

One story, its frames one at a time through the U-Net, at a reduced resolution: forward, backward,
clipping and AdamW's step over all 1.5 billion numbers. Prints the loss, the time and the peak
memory; nothing but the sizes is taken from anywhere. `optimizer=adamw8bit` needs 8 GB less.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from resource import RUSAGE_SELF, getrusage

import torch
from transformers.initialization import no_init_weights
from transformers.utils import logging

from benchmarks.memory_plan import read_config
from benchmarks.random_parts import SIZES, random_batch, random_parts
from benchmarks.training_step import training_step
from models.training.optimizer import build_optimizer
from train import build_model

DEFAULTS = ("frames_per_micro_batch=1", "gradient_checkpointing=true", "accelerator=cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image_size", type=int, default=64, help="pixels, a multiple of 64")
    parser.add_argument("overrides", nargs="*", help="config keys, such as optimizer=adamw8bit")
    args = parser.parse_args()
    logging.set_verbosity_error()
    try:
        config = read_config([*DEFAULTS, *args.overrides])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    torch.manual_seed(config.seed)
    start = time.perf_counter()
    data = config[config.dataset]
    sizes = replace(SIZES["sd15"], image_size=args.image_size)
    with no_init_weights():  # the library's own takes minutes at this size
        parts = random_parts(sizes, data.max_length, len(data.new_tokens))
    model = build_model(config, parts, 1).train()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.02)
        else:  # biases, and the weights of norms
            torch.nn.init.constant_(parameter, name.endswith("weight"))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    numbers = sum(parameter.numel() for parameter in model.parameters())
    print(f"{numbers / 1e6:.1f} M numbers, {len(trained)} tensors of them trained, built in "
          f"{time.perf_counter() - start:.0f} s")  # fmt: skip
    optimizer = build_optimizer(config.optimizer, trained, config.init_lr, 1e-4, fused=True)
    batch = random_batch(parts, config)
    before = [trained[i].detach().flatten()[:1].clone() for i in (0, -1)]
    start = time.perf_counter()
    loss = training_step(model, batch, optimizer, config)
    seconds = time.perf_counter() - start
    if not loss.isfinite():
        sys.exit(f"error: the loss is {loss.item()}")
    moved = all(trained[i].flatten()[0] != old for i, old in zip((0, -1), before, strict=True))
    peak = getrusage(RUSAGE_SELF).ru_maxrss * 1024 / 2**30
    print(f"loss {loss.item():.4f}, weights {'moved' if moved else 'did not move'}, "
          f"{seconds:.0f} s on {torch.get_num_threads()} threads, peak {peak:.1f} GiB")  # fmt: skip


if __name__ == "__main__":
    main()
