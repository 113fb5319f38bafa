"""Trains what the configuration describes: `python main.py`."""

from __future__ import annotations

import logging
import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    WeightAveraging,
)
from pytorch_lightning.utilities import rank_zero
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.optim.swa_utils import get_ema_multi_avg_fn

from building import build_parts, check_weights_file, open_stories, sampler_arguments
from configuration import (
    ConfigError,
    checkpoint_folder,
    plain,
    read_file,
    write_config,
)
from datasets.data_module import StoryDataModule
from datasets.specs import SPECS
from models.checkpoints.checkpoint import read_weights
from models.checkpoints.progress import mend_progress
from models.components import Components
from models.conditioning import HISTORY_SLOTS
from models.main_process import say
from models.training.callbacks import KeepConfiguration, ProgressBar, TimedCheckpoint
from models.training.latent_cache import LatentCache
from models.training.previews import Previews
from models.training.story_model import StoryModel
from models.training.tuning import parameters_by_part

__all__ = ["HALF", "build_model", "train"]

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

# The library recommends its makers' services at every start.
logging.getLogger(rank_zero.__name__).addFilter(lambda r: not r.getMessage().startswith("💡 Tip:"))


for beside_the_point in (
    "You're resuming from a checkpoint that ended before",  # training reads on where it was
    "Found .* in eval mode at the start of training",  # what is frozen, on purpose
    ".*LeafSpec.* is deprecated",  # between two libraries
):
    warnings.filterwarnings("ignore", beside_the_point)


def train(config: DictConfig) -> Path:
    """Train and return the path of the last checkpoint."""
    for key in ("train_model_file", "base_model_file"):
        check_weights_file(key, config[key])
    trainer = build_trainer(config)
    stories = open_stories(config, "train")
    pl.seed_everything(config.seed, workers=True)
    parts = build_parts(config)
    batches = len(stories) / config.batch_size / trainer.world_size
    model = build_model(config, parts, batches / config.accumulate_grad_batches)
    checkpoint = resume(model, config) if config.train_model_file else None
    if trainer.is_global_zero:
        print(f"{trainable_table(model)}\nTraining on {len(stories)} stories of {stories.path}")
    data = build_data(config, parts, stories.path)
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    return checkpoint_folder(config) / "last.ckpt"


def build_data(config: DictConfig, parts: Components, path: Path) -> StoryDataModule:
    """Loaders over a story file."""
    data, spec = config[config.dataset], SPECS[config.dataset]
    frozen = (parts.conditioner.vision_encoder, parts.history_transform)
    vision = frozen if config.freeze_blip or config.tune != "all" else None
    return StoryDataModule(
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        seed=config.seed,
        path=path,
        spec=spec,
        task=config.task,
        image_size=parts.image_size,
        history_transform=parts.history_transform,
        clip_tokenizer=parts.clip_tokenizer,
        blip_tokenizer=parts.blip_tokenizer,
        max_length=parts.max_length,
        window=HISTORY_SLOTS,
        cache_frames=config.cache_frames,
        independent_crops=data.get("independent_crops", False),
        latents=LatentCache(parts.vae, path, parts.image_size, vision, spec.text_key)
        if config.cache_latents
        else None,
    )


def build_model(config: DictConfig, parts: Components, steps_an_epoch: float) -> StoryModel:
    """The model to train."""
    warmup = config.warmup_steps
    if warmup is None:
        warmup = round(config.warmup_epochs * steps_an_epoch)
    elif config.max_steps == -1 and warmup >= config.max_epochs * steps_an_epoch:
        raise ConfigError(
            f"warmup_steps is {warmup}, but training has {config.max_epochs * steps_an_epoch:,.0f} "
            f"optimiser steps: the warm-up would never end; lower warmup_steps"
        )
    return StoryModel(
        parts,
        optimizer=config.optimizer,
        optimizer_in_backward=config.optimizer_in_backward,
        init_lr=config.init_lr,
        weight_decay=config.weight_decay,
        warmup_steps=warmup,
        classifier_free_rate=config.classifier_free_rate,
        freeze_clip=config.freeze_clip,
        freeze_blip=config.freeze_blip,
        freeze_resnet=config.freeze_resnet,
        tune=config.tune,
        frozen_dtype=HALF[config.precision] if config.half_frozen_weights else torch.float32,
        stochastic_depth=config.stochastic_depth,
        gradient_checkpointing=config.gradient_checkpointing,
        frames_per_micro_batch=config.frames_per_micro_batch,
    )


def trainable_table(model: StoryModel) -> str:
    """What trains, part by part."""
    counts = parameters_by_part(model)
    lines = [f"{'part':32}{'trains':>14}{'of':>14}"]
    for part, (trains, numbers) in counts.items():
        lines.append(f"{part:32}{trains:14,}{numbers:14,}")
    sums = (sum(column) for column in zip(*counts.values(), strict=True))
    return "\n".join([*lines, "{:32}{:14,}{:14,}".format("all", *sums)])


def resume(model: StoryModel, config: DictConfig) -> str | None:
    """Check `train_model_file` against `model`; what the trainer is to restore, or None.

    Files that Lightning cannot take up give their weights only, such as the original's: its
    optimiser numbers other parameters.
    """
    path = config.train_model_file
    content = read_weights(model, path)
    model.load_state_dict(content["state_dict"])  # what is cached before training depends on them
    if not (content["as_saved"] and {"loops", "optimizer_states"} <= content.keys()):
        why = "an AR-LDM checkpoint" if content["upstream"] else "whose training cannot be taken up"
        say(f"Training starts at step 0 from the weights of {path}, {why}")
        return None
    for what, done in mend_progress(content).items():
        limit = f"max_{what}"
        if 0 < config[limit] <= done:
            raise ConfigError(
                f"{limit} is {config[limit]}, which counts what {path} has behind it, {done}; "
                f"raise {limit}"
            )
    return path


def build_trainer(config: DictConfig) -> pl.Trainer:
    """A trainer on the devices asked for; it writes into the folder of the run."""
    folder = checkpoint_folder(config)
    devices = config.gpu_ids
    if OmegaConf.is_list(devices):  # on the CPU so many processes, which have no numbers
        devices = len(devices) if config.accelerator == "cpu" else list(devices)
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=devices,
            num_nodes=config.num_nodes,
            strategy=config.strategy,
            precision=config.precision,
            logger=_logger(config, folder),
            callbacks=_callbacks(config, folder),
            max_epochs=config.max_epochs,
            max_steps=config.max_steps,
            gradient_clip_val=config.gradient_clip_val,
            accumulate_grad_batches=config.accumulate_grad_batches,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
        keys = ("accelerator", "gpu_ids", "num_nodes", "strategy", "precision")
        asked = " ".join(f"{key}={config[key]}" for key in keys)
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"this machine cannot do {asked} ({reason}); change what that names, or set "
            f"accelerator, gpu_ids and strategy to auto"
        ) from error


def _logger(config: DictConfig, folder: Path):
    if config.logger == "none":
        return False
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "tensorboard": lambda: pl.loggers.TensorBoardLogger(folder, name="logs"),
        "wandb": lambda: pl.loggers.WandbLogger(config.run_name, save_dir=folder),
        "csv": lambda: pl.loggers.CSVLogger(folder, name="logs"),
    }[config.logger]()


def _callbacks(config: DictConfig, folder: Path) -> list[Callback]:
    """Previews come before the average, whose weights they show and which then goes away."""
    write = partial(write_config, config, folder / "config.yaml")
    callbacks: list[Callback] = [KeepConfiguration(plain(config), plain(read_file()), write)]
    if config.sample_every_n_epochs is not None:
        every, scheduler = config.sample_every_n_epochs, config.scheduler
        sampling = sampler_arguments(config)
        callbacks.append(Previews(folder / "previews", every, scheduler, sampling))
    if config.ema_decay is not None:
        # Not the library's EMAWeightAveraging, whose sums make frozen weights drift.
        average = get_ema_multi_avg_fn(config.ema_decay)
        callbacks.append(WeightAveraging(use_buffers=False, multi_avg_fn=average))
    # Without versions: last.ckpt is the last one, also when a run of this name was there before.
    how = {"dirpath": folder, "enable_version_counter": False}
    callbacks.append(ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **how))
    if config.save_every_minutes is not None:  # and within epochs
        often = timedelta(minutes=config.save_every_minutes)
        callbacks.append(TimedCheckpoint(filename="last", train_time_interval=often, **how))
    if config.save_best:
        callbacks.append(ModelCheckpoint(filename="best", monitor="val_loss", **how))
    if config.logger != "none":
        callbacks.append(LearningRateMonitor("step"))
    return [*callbacks, ProgressBar(refresh_rate=10)]
