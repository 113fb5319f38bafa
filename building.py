"""Builds data, parts and model as the configuration says; `main.py` puts them to work.

What only these parts can find wrong with a configuration is said here, before long work starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from config import ConfigError, checkpoint_folder
from datasets.cartoon.build import WORLD_SEED, ensure_cartoon_file
from datasets.data_module import StoryDataModule
from datasets.specs import SPECS
from datasets.story_hdf5 import StoryFile, validate_story_file
from models.caption_tokenizer import LEGACY
from models.causal_story import add_causal_story, in_use
from models.checkpoint import check_add_ons, load_base, read_tokenization, read_weights
from models.components import Components, load_components, load_scheduler_config
from models.file_kinds import file_kind
from models.frames import downscale
from models.latent_cache import LatentCache
from models.progress import mend_progress
from models.schedulers import sampling_scheduler
from models.story_model import StoryModel
from models.tuning import add_lora, parameters_by_part

__all__ = [
    "HISTORY_SLOTS",
    "add_add_ons",
    "build_data",
    "build_model",
    "build_parts",
    "check_scheduler",
    "check_weights_file",
    "open_stories",
    "resume",
    "sampling_arguments",
    "trainable_table",
]

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
SAMPLER_KEYS = (
    "scheduler", "num_inference_steps", "first_frame_inference_steps", "guidance_scale", "eta",
    "use_history",
)  # fmt: skip
HISTORY_SLOTS = 5  # earlier frames a frame can tell apart: the size of the papers' time table


def check_weights_file(key: str, path: str | Path | None) -> None:
    """ConfigError if `path`, the value of `key`, is no file of weights: told before long work."""
    try:
        if path is not None:
            file_kind(path)
    except ValueError as error:
        raise ConfigError(f"{key}: {path} {error}") from error


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
    """The parts of the backbone, fitted to the data set's captions, with the add-ons asked for."""
    data, backbone = config[config.dataset], config[config.backbone]
    tokenization = choose_tokenization(config)
    with _naming_section(config.backbone):
        parts = load_components(**backbone, **tokenization, history_slots=HISTORY_SLOTS)
    for name in ("clip", "blip"):
        key = f"{name}_embedding_tokens"
        if data[key] is not None and data[key] != (
            size := len(getattr(parts, f"{name}_tokenizer"))
        ):
            raise ConfigError(
                f"{config.dataset}.{key} is {data[key]}, but the tokenizer of backbone="
                f"{config.backbone} comes to {size} with {config.dataset}.new_tokens; set it to "
                f"null, or use the backbone it was counted for"
            )
    size, step = backbone.image_size, downscale(parts.vae)
    only = getattr(parts.vae, "decoder_image_size", size)  # some autoencoders have one size
    if size % step or size != only:
        wanted = f"{only}" if size != only else f"a multiple of {step}"
        raise ConfigError(
            f"{config.backbone}.image_size is {size}, which {backbone.diffusion_model} cannot "
            f"draw; set it to {wanted}"
        )
    add_add_ons(parts, config)
    return parts


def choose_tokenization(config: DictConfig) -> dict:
    """How captions become tokens, by the names that `load_components` takes.

    As the configuration says; only for a checkpoint that does not say how its new words were
    matched, as they were at that time.

    Raises:
        ValueError: the checkpoint to go on from was trained with other words.
    """
    data = OmegaConf.to_container(config[config.dataset])
    chosen = {key: data[key] for key in ("new_tokens", "new_tokens_match", "max_length")}
    goes_on = config.train_model_file
    if config.mode == "sample":
        goes_on = config.test_model_file or checkpoint_folder(config) / "last.ckpt"
    path = goes_on or config.base_model_file
    if not path:
        return chosen
    theirs = read_tokenization(path)
    if theirs["new_tokens_match"] == LEGACY:
        chosen["new_tokens_match"] = LEGACY
        if chosen["new_tokens"]:
            rank_zero_only(print)(
                f"{path} is from before {config.dataset}.new_tokens_match: its new words are "
                f"found as they were then, in any case and inside other words too"
            )
    if not chosen["new_tokens"]:
        theirs.pop("new_tokens_match")  # there is nothing to match
    if not goes_on:
        theirs.pop("max_length", None)  # what is tuned may read longer captions
    check_add_ons(
        {f"{config.dataset}.{key}": value for key, value in theirs.items()},
        {f"{config.dataset}.{key}": chosen[key] for key in theirs},
        path,
    )
    return chosen


def add_add_ons(parts: Components, config: DictConfig, load: bool = True) -> None:
    """Causal-Story's add-ons and LoRA, and the weights that tuning starts from if `load`."""
    used = in_use(OmegaConf.to_container(config.causal_story))
    parts.add_ons = {} if config.tune == "all" else {"tune": config.tune}
    parts.add_ons |= {f"causal_story.{key}": value for key, value in used.items()}
    add_causal_story(parts.unet, parts.conditioner, **used)
    if load and config.base_model_file and (config.mode == "train" or config.tune != "all"):
        load_base(parts, config.base_model_file)
    if config.tune == "lora":
        parts.add_ons["lora_rank"] = config.lora_rank
        add_lora(parts.unet, config.lora_rank)


def check_scheduler(config: DictConfig) -> None:
    """Refuse a sampler that cannot use what the diffusion model predicts."""
    with _naming_section(config.backbone):
        settings = load_scheduler_config(config[config.backbone].diffusion_model)
    sampling_scheduler(config.scheduler, settings)


@contextmanager
def _naming_section(section: str) -> Iterator[None]:
    """Messages about missing files begin with a key of `section`; put the section before it."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{section}.{error}") from error


def build_data(
    config: DictConfig, parts: Components, path: Path, predict_stories: list[int] | None = None
) -> StoryDataModule:
    """Loaders over a story file; `predict_stories` are the test stories to draw."""
    data, spec = config[config.dataset], SPECS[config.dataset]
    cached = config.cache_latents and config.mode == "train"
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
        cache_frames=config.cache_frames,
        independent_crops=data.get("independent_crops", False),
        predict_stories=predict_stories,
        latents=LatentCache(parts.vae, path, parts.image_size, vision, spec.text_key)
        if cached
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
        sampling=sampling_arguments(config),
    )


def trainable_table(model: StoryModel) -> str:
    """What trains, part by part."""
    counts = parameters_by_part(model)
    lines = [f"{'part':32}{'trains':>14}{'of':>14}"]
    for part, (trains, numbers) in counts.items():
        lines.append(f"{part:32}{trains:14,}{numbers:14,}")
    sums = (sum(column) for column in zip(*counts.values(), strict=True))
    return "\n".join([*lines, "{:32}{:14,}{:14,}".format("all", *sums)])


def sampling_arguments(config: DictConfig) -> dict:
    """What `StoryModel` takes as `sampling`."""
    arguments = {key: config[key] for key in SAMPLER_KEYS}
    return {**arguments, "task": config.task, "seed": config.seed}


def resume(model: StoryModel, config: DictConfig) -> str | None:
    """Check `train_model_file` against `model`; what the trainer is to restore, or None.

    Files that Lightning cannot take up give their weights only, such as the original's: its
    optimiser numbers other parameters.
    """
    path = config.train_model_file
    content = read_weights(model, path)
    model.load_state_dict(content["state_dict"])  # what is cached before training depends on them
    if not (content["as_saved"] and {"loops", "optimizer_states"} <= content.keys()):
        original = content["upstream"]
        why = "an AR-LDM checkpoint" if original else "whose training cannot be taken up"
        rank_zero_only(print)(f"Training starts at step 0 from the weights of {path}, {why}")
        return None
    for what, done in mend_progress(content).items():
        limit = f"max_{what}"
        if 0 < config[limit] <= done:
            raise ConfigError(
                f"{limit} is {config[limit]}, which counts what {path} has behind it, {done}; "
                f"raise {limit}"
            )
    return path
