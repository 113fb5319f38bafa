"""Composes `config.yaml` with the command line and checks every key before any work starts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from config_file import (
    as_in_its_code,
    is_original,
    read_config_file,
    unknown_key,
    unknown_keys,
)
from evaluation.metrics.table import own_story_metrics

__all__ = ["ConfigError", "checkpoint_folder", "load_config"]


class ConfigError(ValueError):
    """A key of the configuration is wrong; the message names it, its value and the remedy."""


Rule = tuple[Callable[[Any], bool], str]  # what must hold, in code and in words


def one_of(*choices: str) -> Rule:
    return lambda v: v in choices, f"one of {', '.join(choices)}"


def number(low: float, high: float | None = None, whole: bool = False, none: bool = False) -> Rule:
    def holds(v: Any) -> bool:
        if v is None:
            return none
        kinds = (int,) if whole else (int, float)
        if not isinstance(v, kinds) or isinstance(v, bool) or not math.isfinite(v):
            return False
        return low <= v and (high is None or v <= high)

    limits = f"of at least {low:,}" if high is None else f"from {low:,} to {high:,}"
    return holds, f"a {'whole ' if whole else ''}number {limits}" + (" or null" if none else "")


BOOL: Rule = (lambda v: isinstance(v, bool), "true or false")
TEXT: Rule = (lambda v: isinstance(v, str) and bool(v.strip()), "a text")
TEXT_OR_NULL: Rule = (lambda v: v is None or TEXT[0](v), "a text or null")
WORDS: Rule = (
    lambda v: isinstance(v, list) and all(isinstance(w, str) and w for w in v),
    "a list of words",
)
GPU_IDS: Rule = (
    lambda v: (
        v == "auto"
        or (type(v) is int and v > 0)
        or (isinstance(v, list) and v and all(type(i) is int for i in v))
    ),
    "auto, a number of devices, or a list of their numbers such as [0]",
)
CORES: Rule = (
    lambda v: v is None or (type(v) is int and (v == -1 or v > 0)),
    "a whole number above 0, or -1 or null for PyTorch's own choice",
)
COUNT_OR_ALL: Rule = (
    lambda v: type(v) is int and (v == -1 or v > 0),
    "a whole number above 0, or -1 for no limit",
)

DATASETS = ("cartoon", "folder", "pororo", "flintstones", "vistsis", "vistdii")
BACKBONES = ("tiny", "sd15")
_COUNT = number(1, whole=True, none=True)
WINDOW: Rule = (lambda v: v == "all" or _COUNT[0](v), f"all, or {_COUNT[1]}")
_DATASET_RULES = {
    "hdf5_file": TEXT,
    "max_length": number(4, 512, whole=True),
    "new_tokens": WORDS,
    "new_tokens_match": one_of("exact", "whole_word"),
    "clip_embedding_tokens": number(1, whole=True, none=True),
    "blip_embedding_tokens": number(1, whole=True, none=True),
}
_BACKBONE_RULES = {
    "diffusion_model": TEXT,
    "blip_model": TEXT,
    "image_size": number(64, 2048, whole=True),
}
RULES: dict[str, Any] = {  # of every key: a rule, or the rules of the keys of a section
    "mode": one_of("train", "sample"),
    "task": one_of("visualization", "continuation"),
    "dataset": one_of(*DATASETS),
    "backbone": one_of(*BACKBONES),
    "seed": number(0, 2**32 - 1, whole=True),
    "run_name": TEXT,
    "accelerator": one_of("auto", "cpu", "gpu", "mps"),
    "gpu_ids": GPU_IDS,
    "num_nodes": number(1, whole=True),
    "strategy": TEXT,
    "precision": (
        lambda v: v == 32 or v in ("32-true", "bf16-mixed", "16-mixed"),
        "one of 32, bf16-mixed, 16-mixed",
    ),
    "num_workers": number(0, 256, whole=True),
    "num_cpu_cores": CORES,
    "cache_frames": BOOL,
    "cache_latents": BOOL,
    "batch_size": number(1, whole=True),
    "optimizer": one_of("adamw", "adamw8bit"),
    "init_lr": number(0, 1),
    "weight_decay": number(0),
    "warmup_epochs": number(0),
    "warmup_steps": number(0, whole=True, none=True),
    "max_epochs": number(1, whole=True),
    "max_steps": COUNT_OR_ALL,
    "gradient_clip_val": number(0, none=True),
    "accumulate_grad_batches": number(1, whole=True),
    "classifier_free_rate": number(0, 1),
    "causal_story": {
        "spatial_window": WINDOW,
        "spatial_variant": one_of("window", "released"),
        "adapter_width": number(1, whole=True, none=True),
        "blocks": WORDS,
        "history_window": number(1, whole=True, none=True),
        "history_weights": BOOL,
    },
    "tune": one_of("all", "attention", "adapter", "lora"),
    "lora_rank": number(1, whole=True),
    "base_model_file": TEXT_OR_NULL,
    "freeze_clip": BOOL,
    "freeze_blip": BOOL,
    "freeze_resnet": BOOL,
    "stochastic_depth": number(0, 0.9),
    "gradient_checkpointing": BOOL,
    "frames_per_micro_batch": number(1, whole=True, none=True),
    "half_frozen_weights": BOOL,
    "ema_decay": number(0, 1, none=True),
    "ckpt_dir": TEXT,
    "save_every_minutes": number(0, none=True),
    "save_best": BOOL,
    "train_model_file": TEXT_OR_NULL,
    "logger": one_of("tensorboard", "wandb", "csv", "none"),
    "sample_every_n_epochs": number(1, whole=True, none=True),
    "test_model_file": TEXT_OR_NULL,
    "calculate_fid": BOOL,
    "metrics": WORDS,
    "evaluation": {
        "judge": TEXT_OR_NULL,
        "classifier": TEXT_OR_NULL,
        "inception_weights": TEXT_OR_NULL,
        "clip_model": TEXT,
        "clip_weights": TEXT,
        "lpips_net": one_of("alex", "vgg", "squeeze"),
        "lpips_weights": TEXT_OR_NULL,
        "allow_other_weights": BOOL,
        "papers": TEXT_OR_NULL,
        "cache": TEXT,
    },
    "sample_output_dir": TEXT,
    "story": TEXT_OR_NULL,
    "num_stories": COUNT_OR_ALL,
    "scheduler": one_of("ddim", "pndm", "dpm++", "unipc", "euler"),
    "num_inference_steps": number(1, 1000, whole=True),
    "first_frame_inference_steps": number(1, 1000, whole=True, none=True),
    "guidance_scale": number(0),
    "eta": number(0, 1),
    "use_history": BOOL,
    "storyboard_stories": number(1, whole=True),
    **dict.fromkeys(BACKBONES, _BACKBONE_RULES),
    **dict.fromkeys(DATASETS, _DATASET_RULES),
    "cartoon": {
        **_DATASET_RULES,
        "hdf5_file": TEXT_OR_NULL,
        "data_dir": TEXT,
        "stories": dict.fromkeys(("train", "val", "test"), number(1, whole=True)),
    },
    **dict.fromkeys(("vistsis", "vistdii"), {**_DATASET_RULES, "independent_crops": BOOL}),
}


def load_config(overrides: Sequence[str] = (), folder: Path | None = None) -> DictConfig:
    """The checked configuration; `overrides` are `key=value` words of the command line.

    `config=FILE` among them lays a file or preset over config.yaml, beneath the other words; of
    several the last is on top.

    Raises:
        ConfigError: an unknown key, an impossible value, a missing file, a bad combination.
    """
    folder = (folder or Path(__file__).parent).resolve()
    words = [word.lstrip("+") for word in overrides]  # Hydra's mark of a new key: there is none
    files = [word.removeprefix("config=") for word in words if word.startswith("config=")]
    words = [word for word in words if not word.startswith("config=")]
    _check_words(words)
    given = [_read(path) for path in files]
    originals = [path for path, content in zip(files, given, strict=True) if is_original(content)]
    try:
        shipped = OmegaConf.load(folder / "config.yaml")
        beneath = [as_in_its_code()] if originals else []
        with initialize(None, version_base="1.3"):
            ConfigStore.instance().store("config", OmegaConf.merge(shipped, *beneath, *given))
            config = compose("config", overrides=words)
        _translate(config)
        if config.get("story") and not any(word.startswith("calculate_fid=") for word in words):
            # Where a file asks for them, it means the test stories.
            config.calculate_fid, config.evaluation.papers = False, None
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{folder / 'config.yaml'} cannot be read with {words} ({reason}); mend what it names"
        ) from error
    _refuse_unknown(unknown_keys(values, RULES))
    _check_values(values, RULES)
    _check_files(config)
    _check_combinations(config)
    if originals and os.environ.get("LOCAL_RANK", "0") == "0":
        print(
            f"config={' and '.join(originals)}: an AR-LDM file; what it leaves open is as in its "
            f"code (presets/arldm.yaml)"
        )
    return config


def _read(path: str) -> DictConfig:
    """A file of `config=`, its keys checked first: what they miss must not look like a merge."""
    try:
        content = read_config_file(path)
        _refuse_unknown(unknown_keys(OmegaConf.to_container(content), RULES), path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return content


def _translate(config: DictConfig) -> None:
    """Values as AR-LDM's forks and older Lightning write them, into ours."""
    if config.get("gpu_ids") == [] and config.get("accelerator") in ("auto", "cpu"):
        config.gpu_ids, config.accelerator = 1, "cpu"
    elif config.get("gpu_ids") == -1:
        config.gpu_ids = "auto"
    written = {"16": "16-mixed", "bf16": "bf16-mixed", "32": 32}
    config.precision = written.get(str(config.get("precision")), config.get("precision"))
    for name in DATASETS:
        section = config.get(name)
        if isinstance(section, DictConfig) and section.get("new_tokens", ()) is None:
            section.new_tokens = []


def checkpoint_folder(config: DictConfig) -> Path:
    """Where this run's checkpoints and logs are."""
    return Path(config.ckpt_dir) / config.run_name


def _check_words(words: Sequence[str]) -> None:
    """Words of the command line: known keys, one value each."""
    for word in words:
        if "=" not in word:
            raise ConfigError(f"{word!r} is not of the form key=value, such as mode=sample")
    keys = [word.partition("=")[0] for word in words]
    _refuse_unknown([found for key in keys if (found := unknown_key(key.split("."), RULES))])
    for key, word in zip(keys, words, strict=True):
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException as error:
            raise ConfigError(
                f"{word!r} cannot be understood; put a value with special characters in two pairs "
                f"of quotes: '{key}=\"...\"'"
            ) from error
        if override.is_sweep_override():
            raise ConfigError(
                f"{word!r} gives {key} several values; give one, a list as {key}=[a,b], or a text "
                f"with commas in two pairs of quotes"
            )


def _refuse_unknown(keys: Sequence[tuple[str, str]], path: str | None = None) -> None:
    where = f"{path}: " if path else ""
    if len(keys) == 1:
        ((key, remedy),) = keys
        raise ConfigError(f"{where}{key!r} is not a key of the configuration; {remedy}")
    if keys:
        told = ", ".join(f"{key!r} ({remedy})" for key, remedy in keys)
        raise ConfigError(f"{where}{len(keys)} keys are not of the configuration: {told}")


def _check_values(values: dict, rules: dict, prefix: str = "") -> None:
    for key, value in values.items():
        rule = rules[key]
        if isinstance(rule, dict) and isinstance(value, dict):
            _check_values(value, rule, f"{prefix}{key}.")
        elif isinstance(rule, dict) or not rule[0](value):
            wanted = f"a section of {', '.join(rule)}" if isinstance(rule, dict) else rule[1]
            shown = json.dumps(value, ensure_ascii=False)
            raise ConfigError(f"{prefix}{key} is {shown}; it must be {wanted}")
    for key in rules:
        if key not in values:
            raise ConfigError(f"{prefix}{key} is missing from config.yaml; put it back")


def _check_files(config: DictConfig) -> None:
    keys = ["train_model_file"] if config.mode == "train" else ["test_model_file", "story"]
    if config.mode == "train" or config.tune != "all":
        keys.append("base_model_file")
    for key in keys:
        path = None if config[key] is None else Path(config[key])
        # A checkpoint may be a folder, which is told what it is when it is read.
        if path and not (path.is_file() or (path.is_dir() and key != "story")):
            raise ConfigError(f"{key}: there is no file {config[key]}; give a path that exists")
    for key in ("ckpt_dir", "sample_output_dir"):
        if Path(config[key]).is_file():
            raise ConfigError(f"{key}: {config[key]} is a file; give the name of a folder")
    data = config[config.dataset]
    needs_data = config.mode == "train" or config.story is None
    if needs_data and data.hdf5_file is not None and not Path(data.hdf5_file).is_file():
        raise ConfigError(
            f"{config.dataset}.hdf5_file: there is no file {data.hdf5_file}; build it with "
            f"data_script/ (see its README) or set {config.dataset}.hdf5_file to where it is"
        )
    if config.mode == "sample" and config.test_model_file is None:
        last = checkpoint_folder(config) / "last.ckpt"
        if not last.exists():
            raise ConfigError(
                f"test_model_file is null and run {config.run_name!r} has no checkpoint {last}; "
                f"train first with python main.py, or set test_model_file"
            )


def _check_combinations(config: DictConfig) -> None:
    if config.init_lr == 0:
        raise ConfigError("init_lr is 0; training needs a rate above 0")
    if config.guidance_scale != 1 and config.classifier_free_rate == 0:
        raise ConfigError(
            f"guidance_scale is {config.guidance_scale} but classifier_free_rate is 0, so nothing "
            f"unconditional is ever trained; set guidance_scale=1 or a rate such as 0.1"
        )
    if config.precision == "16-mixed" and config.accelerator == "cpu":
        raise ConfigError("precision is 16-mixed, which needs a GPU; use bf16-mixed or 32")
    if config.tune != "all" and config.base_model_file is None:
        raise ConfigError(
            f"tune is {config.tune}, which starts from a trained model, but base_model_file is "
            f"null; set base_model_file to that model's checkpoint, or tune=all"
        )
    if config.tune == "adapter" and config.causal_story.adapter_width is None:
        raise ConfigError(
            "tune is adapter, but causal_story.adapter_width is null, so that there is none; set "
            "it, to 64 say"
        )
    added = config.causal_story
    if added.spatial_variant != "window" and added.spatial_window is None:
        raise ConfigError(
            f"causal_story.spatial_variant is {added.spatial_variant}, but spatial_window is null, "
            f"so that there is no mask; set causal_story.spatial_window=32"
        )
    if added.spatial_variant == "released" and added.spatial_window == "all":
        raise ConfigError(
            "causal_story.spatial_variant is released, whose mask depends on a window, but "
            "spatial_window is all; set causal_story.spatial_window=32, as in the released code"
        )
    if not added.blocks or len(set(added.blocks)) < len(added.blocks):
        raise ConfigError(
            f"causal_story.blocks is {list(added.blocks)}; name at least one place, none twice, "
            f"such as [mid]"
        )
    training, whole = config.mode == "train", config.precision in (32, "32-true")
    if training and whole and config.half_frozen_weights:
        raise ConfigError(
            f"half_frozen_weights is true, but nothing is computed in half precision with "
            f"precision={config.precision}; set half_frozen_weights=false or precision=bf16-mixed"
        )
    if training and config.logger == "wandb" and find_spec("wandb") is None:
        raise ConfigError(
            "logger is wandb, but the package wandb is not installed; pip install wandb, or set "
            "logger=tensorboard"
        )
    if config.mode == "sample" and config.calculate_fid and config.story is not None:
        raise ConfigError(
            "calculate_fid is true, but there are no real pictures to compare a story of your own "
            "with; set calculate_fid=false"
        )
    own = own_story_metrics()
    if config.mode == "sample" and config.story is not None and set(config.metrics) - set(own):
        raise ConfigError(
            f"metrics is {list(config.metrics)}, but a story of your own has neither real pictures "
            f"nor labels; choose among {', '.join(sorted(own))}"
        )
    endless = config.warmup_steps is None and config.warmup_epochs >= config.max_epochs
    if config.max_steps == -1 and endless:
        raise ConfigError(
            f"warmup_epochs is {config.warmup_epochs} and max_epochs {config.max_epochs}: the "
            f"warm-up would never end; lower warmup_epochs"
        )
