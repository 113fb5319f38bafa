"""What cached latents save: a training step with and without them, and the pass that makes them.

    python -m benchmarks.latent_cache [key=value …]

Steps alternate between the two ways on the same stories, so that whatever else the machine does
falls on both; the median of each is reported, reading the stories included. Without a GPU the
clock is processor time, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from building import build_data, build_model, build_parts, build_trainer, open_stories
from config import load_config
from datasets.story_dataset import collate
from models.latent_cache import LatentCache

WARM_UP = 2  # steps of each way that are not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="steps counted in each way")
    parser.add_argument("overrides", nargs="*", help="config keys, such as freeze_clip=true")
    args = parser.parse_args()
    config = load_config(["logger=none", *args.overrides])
    stories = open_stories(config, "train")
    torch.manual_seed(config.seed)
    parts = build_parts(config)
    device = build_trainer(config, logger=False).strategy.root_device
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    model = build_model(config, parts, 1).to(device)
    model.log = lambda *args, **kwargs: None  # there is no trainer to log to
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / stories.path.name  # leave the user's own cache alone
        beside.symlink_to(stories.path.resolve())
        cache = LatentCache(parts.vae, beside, parts.image_size)
        begin = clock()
        plain = build_data(config, parts, stories.path)
        cache.prepare(("train", "val"), plain.target_batches, device)
        seconds = clock() - begin
        megabytes = os.path.getsize(cache.path) / 1e6
        cached = build_data(config, parts, stories.path)
        cached.latents = cache
        ways = {"without": plain.dataset("train"), "with": cached.dataset("train")}
        model.train()
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for step in range(WARM_UP + args.steps):
            chosen = [
                (step * config.batch_size + i) % len(stories) for i in range(config.batch_size)
            ]
            for way, data in ways.items():
                begin = clock()
                batch = collate([data[i] for i in chosen])
                on_device = {
                    k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()
                }
                model.zero_grad()
                model.training_step(on_device, step).backward()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                taken[way].append(clock() - begin)
    step = {way: statistics.median(times[WARM_UP:]) for way, times in taken.items()}
    saved = step["without"] - step["with"]
    print(f"pass over {len(stories)} stories: {seconds:.1f} s, {megabytes:.0f} MB")
    print(", ".join(f"step {way}: {1000 * s:.0f} ms" for way, s in step.items()))
    print(f"ratio {step['without'] / step['with']:.2f}", end="")
    print(f", the pass pays for itself after {seconds / saved:.0f} steps" if saved > 0 else "")


if __name__ == "__main__":
    main()
