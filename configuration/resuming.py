"""Which checkpoint a training goes on from, by `resume`, `train_model_file` and its folder."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from common.terminal import as_word, setting
from configuration.checkpoint_settings import read_settings
from configuration.checks import checkpoint_folder
from configuration.composition import read_file
from configuration.rules import ConfigError
from models.checkpoints.run_folder import LAST, last_good

__all__ = ["changed_since", "find_start"]

# What makes a run another one; the sections of its backbone and its data set as well.
_SAME = (
    "task", "dataset", "backbone", "tune", "lora_rank", "lora_layers", "base_model_file",
    "causal_story", "seed", "optimizer", "freeze_clip", "freeze_blip", "freeze_resnet",
    "history_slots", "new_characters", "prior_stories", "decoder_steps",
    "distill",
)  # fmt: skip
# What may change on the way, and from there on is as it is now; what gives the same result, such as
# gradient_checkpointing, is not said.
_MAY_CHANGE = (
    "init_lr", "unet_lr_scale", "weight_decay", "warmup_epochs", "warmup_steps", "max_epochs",
    "max_steps", "batch_size", "accumulate_grad_batches", "gradient_clip_val",
    "classifier_free_rate", "stochastic_depth", "ema_decay", "precision", "float8_frozen_weights",
    "half_trained_weights", "cache_latents", "latent_draws", "max_skipped_steps",
)  # fmt: skip


def find_start(config: DictConfig) -> Path | None:
    """The checkpoint to go on from, or to take weights from; None to start anew.

    With resume=auto a run goes on from its own last good checkpoint, if it has one. The file of
    `train_model_file` comes first if it is one of the run's own, and otherwise starts a run.

    Raises:
        ConfigError: the folder of the run holds another one, or what this one is made from.
    """
    folder, given = checkpoint_folder(config), config.train_model_file
    never = config.resume == "never"
    for key in ("base_model_file", *(["train_model_file"] if never else [])):
        if config[key] and _is_in(folder, config[key]) and (folder / LAST).exists():
            raise ConfigError(
                f"{key}: {config[key]} lies in {folder}, where this training writes its own; give "
                f"the training another run_name"
            )
    if never or (given and _is_in(folder, given)):
        return given and Path(given)
    own = last_good(folder)
    if own is None:
        return given and Path(given)
    theirs = read_settings(own)
    if theirs is None:
        raise ConfigError(
            f"run_name: {folder} holds a training that does not say its settings; go on with it by "
            f"{setting('train_model_file', own)}, train in its place with resume=never, or choose "
            f"another name"
        )
    was, usual = OmegaConf.create(theirs["config"]), read_file()
    keys = [*_SAME, *(["train_model_file"] if given else [])]
    keys += ["teacher_guidance_scale", "teacher_steps"] if config.distill else []
    keys += [f"{part}.{key}" for part in (config.backbone, config.dataset) for key in config[part]]
    for key in keys:
        default, now = (OmegaConf.select(one, key) for one in (usual, config))
        then = OmegaConf.select(was, key, default=default)  # for keys that are newer than the run
        if then != now and not key.endswith(".data_dir"):
            raise ConfigError(
                f"run_name: {folder} holds a training with {key}={as_word(then)}, now it is "
                f"{as_word(now)}; choose another run_name, or set {key} as it was, or train in its "
                f"place with resume=never"
            )
    return own


def changed_since(config: DictConfig, content: dict) -> str:
    """What goes on otherwise than in the training that a checkpoint's `content` is from."""
    was = OmegaConf.create(content.get("config") or {})
    pairs = [(key, OmegaConf.select(was, key), config[key]) for key in _MAY_CHANGE if key in was]
    return ", ".join(f"{k} {as_word(old)} -> {as_word(new)}" for k, old, new in pairs if old != new)


def _is_in(folder: Path, path: str) -> bool:
    return Path(path).resolve().parent == folder.resolve()
