"""Time of a training step and of a drawn frame of each variant, as ratios to plain AR-LDM's."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytorch_lightning as pl
import torch

from benchmarks.training_step import training_step
from benchmarks.turns import ratio, take_turns
from building import build_parts, open_stories, sampler_arguments
from configuration import load_config
from models.pipeline import StoryPipeline
from models.training.story_model import StoryModel
from train import build_data, build_model

__all__ = ["print_cost"]

ROUNDS = 10
FRAMES = 5


def print_cost(variants: dict[str, list[str]], overrides: list[str], rounds: int = ROUNDS) -> None:
    """`variants`: name -> config keys; the first one is what the others are compared with."""
    with TemporaryDirectory() as folder:
        base = Path(folder) / "base.ckpt"
        state = build_parts(load_config(overrides)).modules().state_dict()
        torch.save({"state_dict": state}, base)
        steps, drawings, batch_size = _works(variants, [*overrides, f"base_model_file={base}"])
    for title, works, frames in (
        (f"a training step of {batch_size} stories", steps, 1),
        (f"a drawn frame, {batch_size} at once", drawings, FRAMES),
    ):
        _print(title, take_turns(works, rounds, torch.device("cpu")), frames)


def _works(
    variants: dict[str, list[str]], overrides: list[str]
) -> tuple[dict[str, Callable], dict[str, Callable], int]:
    """For every variant a training step and the drawing of a batch, and the batch's size."""
    batch, prompts, steps, drawings = None, [], {}, {}
    for name, words in variants.items():
        config = load_config([*overrides, *words])
        pl.seed_everything(config.seed)
        parts = build_parts(config)
        if batch is None:
            data = build_data(config, parts, open_stories(config, "train").path)
            data.setup("fit")
            batch = next(iter(data.train_dataloader()))
            prompts = data.prompts("train", config.batch_size)
        model = build_model(config, parts, 1).train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, config.init_lr, fused=True)
        steps[name] = _step(model, batch, optimizer, config)
        drawings[name] = _draw(model, prompts, config)
    return steps, drawings, config.batch_size


def _print(title: str, seconds: dict[str, list[float]], frames: int) -> None:
    plain = seconds[first := next(iter(seconds))]
    print(f"\n| {title} | seconds | relative to {first} |\n|---|---|---|")
    for name, times in seconds.items():
        median = statistics.median(times) / frames
        print(f"| {name} | {median:.3f} | {ratio(times, plain)} |")


def _step(model: StoryModel, batch: dict, optimizer, config) -> Callable[[], None]:
    def work() -> None:
        model.train()
        training_step(model, batch, optimizer, config)

    return work


def _draw(model: StoryModel, prompts: list, config) -> Callable[[], None]:
    pipeline = StoryPipeline.from_components(model.parts, config.scheduler)
    pipeline.set_progress_bar_config(disable=True)

    def work() -> None:
        model.eval()
        pipeline.draw(prompts, **sampler_arguments(config))

    return work
