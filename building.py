"""Builds data, parts, model and trainer as the configuration says; `main.py` puts them to work.

What only these parts can find wrong with a configuration is said here, before long work starts.
"""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from config import ConfigError, checkpoint_folder
from datasets.cartoon.build import WORLD_SEED, ensure_cartoon_file
from datasets.data_module import StoryDataModule
from datasets.specs import SPECS
from datasets.story_hdf5 import StoryFile, validate_story_file
from models.checkpoint import load_weights
from models.components import Components, load_components
from models.frames import downscale
from models.story_model import StoryModel

__all__ = [
    "HISTORY_SLOTS",
    "build_data",
    "build_fit_trainer",
    "build_model",
    "build_parts",
    "build_trainer",
    "open_stories",
    "resume",
]

HISTORY_SLOTS = 5  # earlier frames a frame can tell apart: the size of the papers' time table


def open_stories(config: DictConfig, split: str) -> StoryFile:
    """A split of the data set, cheaply checked; the cartoon world is drawn on first use."""
    data, text_key = config[config.dataset], SPECS[config.dataset].text_key
    path = data.hdf5_file
    if path is None:
        path = ensure_cartoon_file(data.data_dir, dict(data.stories), WORLD_SEED, processes=2)
    validate_story_file(path, (split,), (text_key,))
    if split == "train" and len(StoryFile(path, "val", text_key)):
        validate_story_file(path, ("val",), (text_key,))
    stories = StoryFile(path, split, text_key)
    if stories.pictures_per_story > HISTORY_SLOTS:
        raise ConfigError(
            f"{config.dataset}.hdf5_file: {path} has {stories.pictures_per_story} pictures a "
            f"story; build it with at most {HISTORY_SLOTS}"
        )
    return stories


def build_parts(config: DictConfig) -> Components:
    """The pretrained parts of the backbone, fitted to the data set's captions."""
    data, backbone = config[config.dataset], config[config.backbone]
    parts = load_components(
        **backbone,
        max_length=data.max_length,
        new_tokens=data.new_tokens,
        history_slots=HISTORY_SLOTS,
    )
    size, step = backbone.image_size, downscale(parts.vae)
    only = getattr(parts.vae, "decoder_image_size", size)  # some autoencoders have one size
    if size % step or size != only:
        wanted = f"{only}" if size != only else f"a multiple of {step}"
        raise ConfigError(
            f"{config.backbone}.image_size is {size}, which {backbone.diffusion_model} cannot "
            f"draw; set it to {wanted}"
        )
    return parts


def build_data(
    config: DictConfig, parts: Components, path: Path, predict_stories: list[int] | None = None
) -> StoryDataModule:
    """Loaders over a story file; `predict_stories` are the test stories to draw."""
    return StoryDataModule(
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        seed=config.seed,
        path=path,
        spec=SPECS[config.dataset],
        task=config.task,
        image_size=parts.image_size,
        history_transform=parts.history_transform,
        clip_tokenizer=parts.clip_tokenizer,
        blip_tokenizer=parts.blip_tokenizer,
        max_length=parts.max_length,
        cache_frames=config.cache_frames,
        predict_stories=predict_stories,
    )


def build_model(config: DictConfig, parts: Components, steps_an_epoch: float) -> StoryModel:
    """The model to train."""
    return StoryModel(
        parts,
        init_lr=config.init_lr,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup_epochs * steps_an_epoch),
        classifier_free_rate=config.classifier_free_rate,
        freeze_clip=config.freeze_clip,
        freeze_blip=config.freeze_blip,
        freeze_resnet=config.freeze_resnet,
    )


def resume(model: StoryModel, config: DictConfig) -> None:
    """Put the weights of `train_model_file` into `model`; refuse one that is trained already.

    The trainer reads the file again, for all the rest, but would not say what does not fit.
    """
    path = config.train_model_file
    load_weights(model, path)
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    for limit, behind in (("max_epochs", "epoch"), ("max_steps", "global_step")):
        if behind not in state:
            raise ConfigError(
                f"train_model_file: {path} holds weights but not how far they were trained; give "
                f"a checkpoint that main.py wrote"
            )
        if 0 < config[limit] <= state[behind]:
            raise ConfigError(
                f"{limit} is {config[limit]}, which counts what {path} has behind it, "
                f"{state[behind]}; raise {limit}"
            )


def build_fit_trainer(config: DictConfig) -> pl.Trainer:
    """A trainer that writes `last.ckpt` and logs into the run's folder."""
    folder = checkpoint_folder(config)
    # Without versions: last.ckpt is the last one, also when a run of this name was there before.
    callbacks = [
        ModelCheckpoint(folder, save_last=True, save_top_k=0, enable_version_counter=False),
        TQDMProgressBar(refresh_rate=10),
    ]
    logger = {
        "tensorboard": lambda: pl.loggers.TensorBoardLogger(folder, name="logs"),
        "csv": lambda: pl.loggers.CSVLogger(folder, name="logs"),
        "none": lambda: False,
    }[config.logger]()
    if logger:
        callbacks.append(LearningRateMonitor("step"))
    return build_trainer(
        config,
        logger=logger,
        callbacks=callbacks,
        max_epochs=config.max_epochs,
        max_steps=config.max_steps,
        gradient_clip_val=config.gradient_clip_val,
        accumulate_grad_batches=config.accumulate_grad_batches,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )


def build_trainer(config: DictConfig, **how) -> pl.Trainer:
    """A trainer on the machine's devices that the configuration asks for."""
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=config.gpu_ids if config.gpu_ids == "auto" else list(config.gpu_ids),
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
        raise ConfigError(f"this machine cannot do {asked} ({reason}); set them to auto") from error
