"""Trains what the configuration describes: `python main.py`."""

from __future__ import annotations

import logging
import math
import os
import signal
import warnings
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.utilities import rank_zero
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from building import (
    HALF,
    build_parts,
    check_weights_file,
    drawing_precision,
    find_devices,
    open_stories,
    own_stories,
    sampler_arguments,
    story_spec,
)
from common.files import held, remove_leftovers
from common.terminal import as_word, in_one_line, setting
from configuration import (
    ConfigError,
    checkpoint_folder,
    plain,
    read_file,
    write_config,
)
from configuration.checks import NEEDS_GPU
from configuration.resuming import changed_since, find_start
from configuration.warm_up import warmup_steps
from datasets.data_module import StoryDataModule
from datasets.new_characters import AUTO, NewCharacter, resized
from datasets.shared_memory import workers_that_fit
from datasets.specs import SPECS
from datasets.story_dataset import to_target
from datasets.story_hdf5 import StoryFile
from models.checkpoints.checkpoint import check_base, read_weights
from models.checkpoints.run_folder import BEST, KEPT, LAST, NON_FINITE, PREVIOUS
from models.checkpoints.training_state import check_training_state
from models.checkpoints.writer import CheckpointWriter, check_room, checkpoint_size
from models.components import Components
from models.frames import sides
from models.main_process import is_main_process, say
from models.training.averaging import RunningAverage
from models.training.callbacks import (
    BestCheckpoint,
    KeepConfiguration,
    KeptCheckpoint,
    LastCheckpoint,
    TimedCheckpoint,
)
from models.training.distillation import DistilledStoryModel
from models.training.fitting_words import fitting_words, start_words
from models.training.latent_cache import LatentCache
from models.training.loggers import build_logger
from models.training.previews import Previews
from models.training.report import TrainingReport, trainable_table
from models.training.stopping import StopAtNonFinite, StopOnSignal
from models.training.story_model import StoryModel
from models.training.tuned_decoder import tune_decoder
from new_characters import NEW_STORIES, learnt_pictures, read_characters, write_stories

__all__ = ["build_model", "train"]

# The library recommends its makers' services at every start.
logging.getLogger(rank_zero.__name__).addFilter(lambda r: not r.getMessage().startswith("💡 Tip:"))


for beside_the_point in (
    "You're resuming from a checkpoint that ended before",  # training reads on where it was
    "Checkpoint directory .* exists and is not empty",  # its config.yaml lies there
    "The dirpath has changed from",  # a run's folder may be moved, see BestCheckpoint
    "Found .* in eval mode at the start of training",  # what is frozen, on purpose
    ".*LeafSpec.* is deprecated",  # between two libraries
):
    warnings.filterwarnings("ignore", beside_the_point)


def train(config: DictConfig) -> Path:
    """Train and return the path of the last checkpoint."""
    for key in ("train_model_file", "base_model_file"):
        check_weights_file(key, config[key])
    folder, characters = checkpoint_folder(config), read_characters(config)
    if not is_main_process():
        return _train(config, folder, characters)
    with held(folder / ".lock", f"run_name: {folder} is"):
        kept = _kept_checkpoints(range(1 + config.max_epochs))
        written = (LAST, PREVIOUS, BEST, NON_FINITE, "config.yaml", NEW_STORIES, *kept)
        if left := remove_leftovers(folder, written):
            print(f"{folder}: removed {', '.join(left)}, left by a training that was killed")
        return _train(config, folder, characters)


def _kept_checkpoints(epochs: Iterable[int]) -> list[str]:
    return [f"{KEPT.format(epoch=epoch)}.ckpt" for epoch in epochs]


def _train(config: DictConfig, folder: Path, characters: list[NewCharacter]) -> Path:
    start, asked = find_start(config), config
    if config.base_model_file:  # before stories are made to train it with
        check_base(config.base_model_file)
    config = OmegaConf.merge(config, {"train_model_file": start and str(start)})
    trainer = build_trainer(asked, start)
    if characters:
        path = write_stories(config, characters, folder)
        stories = StoryFile(path, "train", SPECS[config.dataset].text_key)
    else:
        stories = open_stories(config, "train")
    _check_validation(config, stories.path)
    pl.seed_everything(config.seed, workers=True)
    parts = build_parts(config)
    if characters and config.decoder_steps and not start:  # before weights have fewer bits
        size = sides(parts.image_size)
        pictures = learnt_pictures(characters, stories, max(size))
        new, old = (to_target(rows, size) for rows in pictures)
        device = trainer.strategy.root_device
        tune_decoder(parts.vae, new, old, config.decoder_steps, config.seed, device)
    batches = len(stories) / config.batch_size / trainer.world_size
    model = build_model(config, parts, batches / config.accumulate_grad_batches)
    if not start:
        with drawing_precision(config.precision, parts.unet.device):
            _find_starts(model, config, characters)
    done = resume(model, config) if start else None
    if done and (limit := next((k for k, n in done.items() if 0 < config[k] <= n), None)):
        if asked.train_model_file and Path(asked.train_model_file) == start:
            raise ConfigError(
                f"{limit} is {config[limit]}, which counts what {start} has behind it, "
                f"{done[limit]}; raise {limit}"
            )
        say(f"{start} is there, {limit}={config[limit]} is reached: raise it to train for longer")
        return start
    if trainer.is_global_zero:
        moment, averaged = 1 if config.optimizer == "adamw8bit" else 4, config.ema_decay is not None
        size = checkpoint_size(model, config.tune, moment, averaged)
        names = [LAST, PREVIOUS] + [BEST] * config.save_best
        if (n := config.keep_every_n_epochs) and config.max_steps == -1:
            behind = (done or {}).get("max_epochs", 0)
            names += _kept_checkpoints(range(n * (behind // n + 1), config.max_epochs + 1, n))
        check_room(folder, names, size)
        if start == folder / PREVIOUS and (folder / LAST).exists():
            os.replace(folder / LAST, folder / "damaged.ckpt")  # not to become the one before
        print(f"{trainable_table(model)}\nTraining on {len(stories)} stories of {stories.path}")
    frames = min(stories.pictures_per_story, config.history_slots)
    story_bytes = 12 * frames * (math.prod(sides(parts.image_size)) + 224**2)  # two pictures
    workers, why = workers_that_fit(config.num_workers, config.batch_size * story_bytes)
    if why:
        say(why)
    data = build_data(config, parts, stories.path, workers)
    try:
        trainer.fit(model, data, ckpt_path=start if done else None, weights_only=True)
    except Exception:  # Lightning's other processes would wait for this one, or complain for pages
        if (launcher := trainer.strategy.launcher) is not None:
            launcher.kill(signal.SIGKILL)
        raise
    finally:  # if validation fails, Lightning leaves the readers of training stories at work
        trainer.fit_loop.teardown()
    if not (folder / LAST).exists():  # nothing was left to train of another run's checkpoint
        trainer.save_checkpoint(folder / LAST)
    if trainer.is_global_zero:
        print(_summary(trainer, folder, stories))
    return folder / LAST


def _check_validation(config: DictConfig, path: Path) -> None:
    """ConfigError for what only validation gives, where there are no stories for it."""
    if len(StoryFile(path, "val", SPECS[config.dataset].text_key)):
        return
    for key, asked, off in (
        ("save_best", config.save_best, "save_best=false"),
        ("sample_every_n_epochs", config.sample_every_n_epochs,
         "sample_every_n_steps=100 with a story=FILE"),
        ("sample_every_n_steps", config.sample_every_n_steps and not config.story, "story=FILE"),
    ):  # fmt: skip
        if asked:
            raise ConfigError(
                f"{key} is {as_word(config[key])}, but {path} has no validation stories; build it "
                f"with some, or give {off}"
            )


def _find_starts(model: StoryModel, config: DictConfig, characters: Sequence[NewCharacter]) -> None:
    """Start the words of characters that no class word was given for."""
    size, starts = sides(model.parts.image_size), {}
    for one, told in zip(characters, config.new_characters, strict=True):
        if told.class_word != AUTO:
            continue
        pictures = np.stack([resized(picture, max(size)) for picture in one.pictures])
        frames = to_target(torch.from_numpy(pictures).permute(0, 3, 1, 2), size)
        say(f"new_characters: looking for words that the pictures of {one.word!r} fit")
        starts[one.word] = fitting_words(
            model, frames, lambda word, one=one: [one.called(c, word) for c in one.captions]
        )
        say(f"new_characters: {one.word!r} starts as {', '.join(starts[one.word])} together")
    start_words(model.parts, starts)


def _summary(trainer: pl.Trainer, folder: Path, stories: StoryFile) -> str:
    """What was trained, where it is, and how to draw with it."""
    draw = f"python main.py mode=sample {setting('test_model_file', folder / LAST)}"
    if not _has_tests(stories):
        draw += " story=FILE"  # one's own
    trained = trainer.progress_bar_callback.summary(len(stories))
    return f"{trained}\n{folder / LAST}: the last; draw with it: {draw}"


def _has_tests(stories: StoryFile) -> bool:
    """Whether there are stories that mode=sample can draw of itself."""
    try:
        return len(StoryFile(stories.path, "test", stories.text_key)) > 0
    except ValueError:  # a file of other programs may lack them; training does not read them
        return False


def build_data(
    config: DictConfig, parts: Components, path: Path, workers: int = 0
) -> StoryDataModule:
    """Loaders over a story file."""
    data, spec = config[config.dataset], story_spec(config)
    latents = None
    if config.cache_latents:
        vision = None
        if config.freeze_blip or config.tune != "all":
            vision = (parts.conditioner.vision_encoder, parts.history_transform)
        crop = None if spec == SPECS[config.dataset] else spec.crop
        apart = f"{config.dataset}.independent_crops"
        keys = ("latent_draws", "seed", "dataset", apart) if config.latent_draws else ()
        views = {key: OmegaConf.select(config, key) for key in keys}
        how = {"crop": crop, "views": {key: v for key, v in views.items() if v is not None}}
        latents = LatentCache(parts.vae, path, parts.image_size, vision, spec.text_key, **how)
    return StoryDataModule(
        batch_size=config.batch_size,
        num_workers=workers,
        seed=config.seed,
        path=path,
        spec=spec,
        task=config.task,
        image_size=parts.image_size,
        history_transform=parts.history_transform,
        clip_tokenizer=parts.clip_tokenizer,
        blip_tokenizer=parts.blip_tokenizer,
        max_length=parts.max_length,
        window=config.history_slots,
        cache_frames=config.cache_frames,
        independent_crops=data.get("independent_crops", False),
        draws=config.latent_draws,
        latents=latents,
    )


def build_model(config: DictConfig, parts: Components, steps_an_epoch: float) -> StoryModel:
    """The model to train."""
    kind = StoryModel
    if config.distill:
        teacher = {"guidance_scale": config.teacher_guidance_scale}
        kind = partial(DistilledStoryModel, **teacher, teacher_steps=config.teacher_steps)
    return kind(
        parts,
        optimizer=config.optimizer,
        optimizer_in_backward=config.optimizer_in_backward,
        init_lr=config.init_lr,
        unet_lr_scale=config.unet_lr_scale,
        weight_decay=config.weight_decay,
        warmup_steps=warmup_steps(config, steps_an_epoch),
        classifier_free_rate=config.classifier_free_rate,
        freeze_clip=config.freeze_clip,
        freeze_blip=config.freeze_blip,
        freeze_resnet=config.freeze_resnet,
        tune=config.tune,
        frozen_dtype=HALF[config.precision] if config.half_frozen_weights else torch.float32,
        float8_frozen_weights=config.float8_frozen_weights,
        trained_dtype=torch.bfloat16 if config.half_trained_weights else torch.float32,
        stochastic_depth=config.stochastic_depth,
        gradient_checkpointing=config.gradient_checkpointing,
        frames_per_micro_batch=config.frames_per_micro_batch,
    )


def resume(model: StoryModel, config: DictConfig) -> dict[str, int] | None:
    """Load the weights of `train_model_file`; what its training has behind it, as max_epochs and
    max_steps, or None if the trainer cannot take it up.

    That is so of the original's: its optimiser numbers other parameters.

    Raises:
        ValueError: of another model or optimiser, or damaged.
    """
    path = config.train_model_file
    content = read_weights(model, path)
    model.load_state_dict(content["state_dict"])  # what is cached before training depends on them
    if not (content["as_saved"] and {"loops", "optimizer_states"} <= content.keys()):
        why = "an AR-LDM checkpoint" if content["upstream"] else "whose training cannot be taken up"
        say(f"Training starts at step 0 from the weights of {path}, {why}")
        return None
    done = check_training_state(content, model, config.optimizer, path)
    changed = changed_since(config, content)
    say(
        f"{path} has {done['epochs']} epochs and {done['steps']} steps behind it"
        + (f"; from here on {changed}" if changed else "")
    )
    return {f"max_{what}": count for what, count in done.items()}


def build_trainer(config: DictConfig, start: Path | None = None) -> pl.Trainer:
    """A trainer on the devices asked for; it writes into the folder of the run.

    start: the checkpoint that it goes on from.
    """
    if config.precision == "16-mixed" and find_devices(config)[0].type == "cpu":
        raise ConfigError(NEEDS_GPU)  # which accelerator=auto has not found
    folder = checkpoint_folder(config)
    devices = config.gpu_ids
    if OmegaConf.is_list(devices):  # on the CPU so many processes, which have no numbers
        devices = len(devices) if config.accelerator == "cpu" else list(devices)
    logger = build_logger(config.logger, folder, config.run_name)
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=devices,
            num_nodes=config.num_nodes,
            strategy=config.strategy,
            precision=config.precision,
            logger=logger,
            callbacks=_callbacks(config, folder, start),
            plugins=_plugins(config),
            default_root_dir=folder,  # where Lightning would look for states that SLURM left
            max_epochs=config.max_epochs,
            max_steps=config.max_steps,
            gradient_clip_val=config.gradient_clip_val,
            accumulate_grad_batches=config.accumulate_grad_batches,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ImportError, TypeError, ValueError, RuntimeError) as error:
        keys = ("accelerator", "gpu_ids", "num_nodes", "strategy", "precision")
        asked = " ".join(f"{key}={config[key]}" for key in keys)
        reason = in_one_line(error)
        raise ConfigError(
            f"this machine cannot do {asked} ({reason}); change what that names, or set "
            f"accelerator, gpu_ids and strategy to auto"
        ) from error


def _plugins(config: DictConfig) -> list:
    """How checkpoints are written, and SLURM without Lightning's requeueing (`StopOnSignal` has
    it)."""
    # DeepSpeed writes a folder, in its own way.
    plugins: list = [] if config.strategy.startswith("deepspeed") else [CheckpointWriter()]
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def _callbacks(config: DictConfig, folder: Path, start: Path | None) -> list[Callback]:
    """Previews come before the average, whose weights they show and which then goes away."""
    write = partial(write_config, config, folder / "config.yaml")
    callbacks: list[Callback] = [
        KeepConfiguration(plain(config), plain(read_file()), write),
        StopAtNonFinite(folder, config.max_skipped_steps),
    ]
    every = config.sample_every_n_epochs, config.sample_every_n_steps
    if any(every):
        shown = own_stories(config) if config.story else None
        how = config.scheduler, sampler_arguments(config)
        callbacks.append(Previews(folder / "previews", *every, *how, shown))
    if config.ema_decay is not None:
        callbacks.append(RunningAverage(config.ema_decay))
    # Without versions: last.ckpt is the last one, also when a run of this name was there before.
    how = {"dirpath": folder, "enable_version_counter": False}
    if config.save_best:  # first, as last.ckpt is to say which was the best
        callbacks.append(BestCheckpoint(start, **how))
    if n := config.keep_every_n_epochs:
        each = {"every_n_epochs": n, "save_top_k": -1, "auto_insert_metric_name": False}
        callbacks.append(KeptCheckpoint(filename=KEPT, **each, **how))
    # Epochs that last no minute need no checkpoint each.
    last = LastCheckpoint(60 * min(1, config.save_every_minutes or 0), **how)
    callbacks.append(last)
    if config.save_every_minutes is not None:  # and within epochs
        often = timedelta(minutes=config.save_every_minutes)
        callbacks.append(TimedCheckpoint(filename="last", train_time_interval=often, **how))
    callbacks.append(StopOnSignal(folder, last, config.resume != "never"))
    return [*callbacks, TrainingReport()]
