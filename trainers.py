"""Trainers as the configuration asks for them: devices, checkpoints, logs and progress bars."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import (
    BasePredictionWriter,
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
    WeightAveraging,
)
from pytorch_lightning.utilities import rank_zero
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchvision.transforms.v2 import functional as F

from config import ConfigError, checkpoint_folder
from evaluation.samples import SamplesFolder
from models.previews import Previews

__all__ = ["ProgressBar", "SamplesWriter", "build_fit_trainer", "build_trainer"]

# The library recommends its makers' services at every start.
logging.getLogger(rank_zero.__name__).addFilter(lambda r: not r.getMessage().startswith("💡 Tip:"))


for beside_the_point in (
    "You're resuming from a checkpoint that ended before",  # training reads on where it was
    "Found .* in eval mode at the start of training",  # what is frozen, on purpose
    ".*LeafSpec.* is deprecated",  # between two libraries
):
    warnings.filterwarnings("ignore", beside_the_point)


class TimedCheckpoint(ModelCheckpoint):
    """Saves between optimiser steps only: a checkpoint has no place for half of one's gradients."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)


class ProgressBar(TQDMProgressBar):
    """Batches, rate and time left, loss and learning rate."""

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict:
        metrics = super().get_metrics(trainer, module)
        metrics.pop("v_num", None)
        if trainer.optimizers:
            metrics["lr"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.1e}"
        return metrics


class SamplesWriter(BasePredictionWriter):
    """Puts each predicted batch into a `SamplesFolder` as soon as it is drawn."""

    def __init__(self, folder: SamplesFolder) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder

    def write_on_batch_end(
        self, trainer, module, prediction, batch_indices, batch, batch_idx, dataloader_idx
    ) -> None:
        frames = prediction.frames.permute(0, 1, 3, 4, 2).cpu().numpy()
        weights = prediction.history_weights
        weights = [None] * len(frames) if weights is None else _rounded(weights)
        labels = batch["labels"] or [None] * len(frames)
        references = batch.get("frames") or [()] * len(frames)
        for i, story_id in enumerate(batch["story_id"]):
            captions = batch["captions"][i]
            # An own story's frames are the given one at most: nothing to compare with.
            reference = references[i] if len(references[i]) == len(captions) else ()
            if len({picture.shape for picture in reference}) > 1:  # metrics compare neighbours
                reference = [_resized(picture, frames.shape[2:4]) for picture in reference]
            self.folder.add(story_id, captions, frames[i], reference, labels[i], weights[i])


def _resized(picture: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """(H, W, 3) uint8 at another height and width."""
    resized = F.resize(torch.from_numpy(picture).permute(2, 0, 1), list(size), antialias=True)
    return resized.permute(1, 2, 0).numpy()


def _rounded(weights: Tensor) -> list[list[list[float]]]:
    # To four significant digits: 0 means out of sight, not small.
    return [[[float(f"{w:.4g}") for w in row] for row in story] for story in weights.tolist()]


def build_fit_trainer(config: DictConfig) -> pl.Trainer:
    """A trainer that writes `last.ckpt` and logs into the run's folder."""
    folder = checkpoint_folder(config)
    logger = {
        "tensorboard": lambda: pl.loggers.TensorBoardLogger(folder, name="logs"),
        "wandb": lambda: pl.loggers.WandbLogger(config.run_name, save_dir=folder),
        "csv": lambda: pl.loggers.CSVLogger(folder, name="logs"),
        "none": lambda: False,
    }[config.logger]
    callbacks = [*_callbacks(config), ProgressBar(refresh_rate=10)]
    if config.logger != "none":
        folder.mkdir(parents=True, exist_ok=True)
        callbacks.append(LearningRateMonitor("step"))
    return build_trainer(
        config,
        logger=logger(),
        callbacks=callbacks,
        max_epochs=config.max_epochs,
        max_steps=config.max_steps,
        gradient_clip_val=config.gradient_clip_val,
        accumulate_grad_batches=config.accumulate_grad_batches,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )


def _callbacks(config: DictConfig) -> list[Callback]:
    """Previews come before the average, whose weights they show and which then goes away."""
    folder, callbacks = checkpoint_folder(config), []
    if config.sample_every_n_epochs is not None:
        callbacks.append(Previews(folder / "previews", config.sample_every_n_epochs))
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
    return callbacks


def build_trainer(config: DictConfig, **how) -> pl.Trainer:
    """A trainer on the machine's devices that the configuration asks for."""
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
            enable_model_summary=False,
            **how,
        )
    except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
        keys = ("accelerator", "gpu_ids", "num_nodes", "strategy", "precision")
        asked = " ".join(f"{key}={config[key]}" for key in keys)
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"this machine cannot do {asked} ({reason}); change what that names, or set "
            f"accelerator, gpu_ids and strategy to auto"
        ) from error
