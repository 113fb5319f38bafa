"""What cached encoder outputs save: a training step without, with latents, with picture states too.

    python -m benchmarks.latent_cache [key=value …]

Steps take turns between the three ways on the same stories, so that whatever else the machine does
falls on all; the median of each is reported, reading the stories included. Picture states are kept
only where BLIP is frozen (freeze_blip=true, the default). Without a GPU the clock is processor
time, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from omegaconf import DictConfig

from building import build_parts, open_stories
from configuration import load_config
from datasets.story_dataset import StoryDataset, collate
from models.training.latent_cache import LatentCache
from models.training.story_model import StoryModel
from train import build_data, build_model, build_trainer

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
    kept = {"latents": None}
    if config.freeze_blip:
        kept["latents and states"] = (parts.conditioner.vision_encoder, parts.history_transform)
    ways = {"nothing": build_data(config, parts, stories.path).dataset("train")}
    with ExitStack() as folders:
        for way, vision in kept.items():
            # Leave the user's own cache alone.
            folder = Path(folders.enter_context(tempfile.TemporaryDirectory()))
            beside = folder / stories.path.name
            beside.symlink_to(stories.path.resolve())
            data = build_data(config, parts, stories.path)
            data.latents = LatentCache(parts.vae, beside, parts.image_size, vision)
            begin = clock()
            data.latents.prepare(("train", "val"), data.picture_batches, device)
            seconds, size = clock() - begin, os.path.getsize(data.latents.path) / 1e6
            print(f"pass over {len(stories)} stories for {way}: {seconds:.1f} s, {size:.0f} MB")
            ways[way] = data.dataset("train")
        step = time_steps(config, model, ways, args.steps, clock)
    for way, seconds in step.items():
        ratio = step["nothing"] / seconds
        print(f"cached {way:18} step {1000 * seconds:6.1f} ms, {ratio:.2f} times as fast")


def time_steps(
    config: DictConfig,
    model: StoryModel,
    ways: dict[str, StoryDataset],
    steps: int,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Median seconds of a training step, reading included, a way; they take turns."""
    model.train()
    stories = len(ways["nothing"])
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for step in range(WARM_UP + steps):
        chosen = [(step * config.batch_size + i) % stories for i in range(config.batch_size)]
        for way, data in ways.items():
            begin = clock()
            batch = {
                k: v.to(model.device) if isinstance(v, torch.Tensor) else v
                for k, v in collate([data[i] for i in chosen]).items()
            }
            model.zero_grad()
            model.training_step(batch, step).backward()
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            taken[way].append(clock() - begin)
    return {way: statistics.median(times[WARM_UP:]) for way, times in taken.items()}


if __name__ == "__main__":
    main()
