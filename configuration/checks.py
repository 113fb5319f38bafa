"""Checks of a composed configuration: values, files, combinations."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from common.accents import without_accents
from common.files import is_address
from common.terminal import as_word
from configuration.rules import RULES, ConfigError
from evaluation.metrics.table import named_metrics, own_story_metrics
from models.checkpoints.run_folder import LAST, last_good
from models.schedulers import LCM_STEPS

__all__ = ["NEEDS_GPU", "check", "checkpoint_folder", "checkpoint_to_draw_with"]

NEEDS_GPU = "precision is 16-mixed, which needs a GPU; use bf16-mixed or 32"

# Keys that are off -> what is not done then, and what is said of it alone, as unsaid.
_IDLE = {
    "redraw.frame": ("nothing is drawn again", {
        "redraw.story": None, "redraw.candidates": 1, "redraw.scorer": None, "redraw.choose": None,
    }),
    "new_characters": ("there are none", {"prior_stories": "auto"}),
    "distill": ("nobody teaches", {"teacher_guidance_scale": None}),
}  # fmt: skip


def check(config: DictConfig, values: dict, needs_stories: bool = True) -> None:
    """ConfigError unless every key of `config`, whose plain `values` are given, can be used."""
    _check_values(values, RULES)
    _check_files(config, needs_stories)
    _check_combinations(config)


def checkpoint_folder(config: DictConfig) -> Path:
    """Where this run's checkpoints and logs are."""
    return Path(config.ckpt_dir) / config.run_name


def checkpoint_to_draw_with(config: DictConfig) -> Path | None:
    """The file that is asked for, or the run's last good one; None if it has none."""
    if config.test_model_file is not None:
        return Path(config.test_model_file)
    return last_good(checkpoint_folder(config))


def _check_values(values: dict, rules: dict, prefix: str = "") -> None:
    for key, value in values.items():
        rule = rules[key]
        if isinstance(rule, dict) and isinstance(value, dict):
            _check_values(value, rule, f"{prefix}{key}.")
        elif isinstance(rule, dict) or not rule[0](value):
            wanted = f"a section of {', '.join(rule)}" if isinstance(rule, dict) else rule[1]
            shown = json.dumps(value, ensure_ascii=False)
            if type(value) is int and wanted.startswith("a text"):
                wanted += f", such as '{prefix}{key}=\"{value}\"'"
            raise ConfigError(f"{prefix}{key} is {shown}; it must be {wanted}")
    for key in rules:
        if key not in values:
            raise ConfigError(f"{prefix}{key} is missing from config.yaml; put it back")


def _check_files(config: DictConfig, needs_stories: bool) -> None:
    keys = ["train_model_file" if config.mode == "train" else "test_model_file", "story"]
    if config.mode == "train" or config.tune != "all":
        keys.append("base_model_file")
    for key in keys:
        path = None if config[key] is None else Path(config[key])
        # A checkpoint may be a folder, which is told what it is when it is read; stories may be a
        # benchmark's.
        folder = path and path.is_dir() and (key != "story" or any(path.glob("*/story.json")))
        if path and not (path.is_file() or folder):
            raise ConfigError(f"{key}: there is no file {config[key]}; give a path that exists")
    for key in ("ckpt_dir", "sample_output_dir"):
        if is_address(config[key]):
            raise ConfigError(
                f"{key}: {config[key]} is an address on the net; give a folder of this machine"
            )
        if Path(config[key]).is_file():
            raise ConfigError(f"{key}: {config[key]} is a file; give the name of a folder")
    data = config[config.dataset]
    told = config.story is not None or config.redraw.frame is not None  # or drawn already
    needs_data = needs_stories and (config.mode == "train" or not told)
    if config.mode == "train" and config.new_characters:
        needs_data = config.prior_stories == "data"
        _check_characters(config)
    if needs_data and data.hdf5_file is not None and not Path(data.hdf5_file).is_file():
        raise ConfigError(
            f"{config.dataset}.hdf5_file: there is no file {data.hdf5_file}; build it with "
            f"data_script/ (see its README) or set {config.dataset}.hdf5_file to where it is"
        )
    if config.mode == "sample" and checkpoint_to_draw_with(config) is None:
        raise ConfigError(
            f"test_model_file is null and run {config.run_name!r} has no checkpoint "
            f"{checkpoint_folder(config) / LAST}; train first with python main.py, or set "
            f"test_model_file"
        )


def _check_characters(config: DictConfig) -> None:
    if config.base_model_file is None:
        raise ConfigError(
            "new_characters are learnt by a trained model, but base_model_file is null; set "
            "base_model_file to that model's checkpoint"
        )
    words = [without_accents(one.word) for one in config.new_characters]
    for one, word in zip(config.new_characters, words, strict=True):
        if not re.fullmatch(r"[^\W_]+", one.word.lower()) or words.count(word) > 1:
            raise ConfigError(
                f"new_characters: word is {one.word!r}; give one word of letters and digits for "
                f"each, all of them different, not only in accents, which BLIP does not read"
            )
        if not Path(one.pictures).is_dir():
            raise ConfigError(
                f"new_characters: there is no folder {one.pictures} with pictures of {one.word!r}; "
                f"give a path that exists"
            )


def _need(config: DictConfig, switch: str, *needs: tuple[str, object, str]) -> None:
    """Refuse a switch that is on where another key is not as needed: (key, value, why)."""
    for key, needed, why in needs:
        if config[key] != needed:
            raise ConfigError(
                f"{switch} is true, but {key} is {as_word(config[key])}; set {key}="
                f"{as_word(needed)}, which {why}, or {switch}=false"
            )


def _check_idle(config: DictConfig) -> None:
    """Refuse what does nothing as long as another key is off."""
    training = ("new_characters", "distill") if config.mode == "train" else ()
    for switch in ("redraw.frame", *training):
        why, others = _IDLE[switch]
        if (on := OmegaConf.select(config, switch)) is not None and on != []:
            continue
        for key, unsaid in others.items():
            if (value := OmegaConf.select(config, key)) != unsaid:
                raise ConfigError(
                    f"{key} is {as_word(value)}, but {switch} is {as_word(on)}, so that {why}; set "
                    f"{switch}, or {key}={as_word(unsaid)}"
                )


def _check_combinations(config: DictConfig) -> None:
    if config.init_lr == 0:
        raise ConfigError("init_lr is 0; training needs a rate above 0")
    if config.guidance_scale != 1 and config.classifier_free_rate == 0:
        raise ConfigError(
            f"guidance_scale is {config.guidance_scale} but classifier_free_rate is 0, so nothing "
            f"unconditional is ever trained; set guidance_scale=1 or a rate such as 0.1"
        )
    scales = config.guidance_scale, config.history_guidance_scale
    if config.mode == "sample" and all(scale in (1, None) for scale in scales):
        for key in ("negative_prompt", "guidance_interval"):
            if config[key] is not None:
                raise ConfigError(
                    f"{key} is {as_word(config[key])}, but with guidance_scale=1 nothing is "
                    f"guided; raise that, to 2 say, or set {key}=null"
                )
    if config.precision == "16-mixed" and config.accelerator == "cpu":
        raise ConfigError(NEEDS_GPU)
    if config.tune != "all" and config.base_model_file is None:
        raise ConfigError(
            f"tune is {config.tune}, which starts from a trained model, but base_model_file is "
            f"null; set base_model_file to that model's checkpoint, or tune=all"
        )
    if config.mode == "train" and config.distill:
        if config.base_model_file is None:
            raise ConfigError(
                f"distill is {config.distill}, which starts from a trained model, but "
                f"base_model_file is null; set base_model_file to that model's checkpoint"
            )
        if config.new_characters:
            raise ConfigError(
                "distill and new_characters are both set; learn the characters first, with "
                "tune=all, and distill what comes of it"
            )
    steps = max(config.num_inference_steps, config.first_frame_inference_steps or 0)
    if config.scheduler == "lcm" and steps > LCM_STEPS:
        raise ConfigError(
            f"scheduler is lcm, which has at most {LCM_STEPS} steps, but {steps} are asked for; "
            f"lower num_inference_steps and first_frame_inference_steps, to 4 say"
        )
    if config.tune == "adapter" and config.causal_story.adapter_width is None:
        raise ConfigError(
            "tune is adapter, but causal_story.adapter_width is null, so that there is none; set "
            "it, to 64 say"
        )
    _check_idle(config)
    if config.redraw.scorer and config.redraw.candidates == 1:
        raise ConfigError(
            "redraw.scorer chooses among candidates, but redraw.candidates is 1; set it to 4 say"
        )
    if (config.history_frames or 1) > config.history_slots:
        raise ConfigError(
            f"history_frames is {config.history_frames}, but the model tells history_slots="
            f"{config.history_slots} earlier frames apart; set history_frames to that or fewer"
        )
    if config.tune == "words" and not config.new_characters:
        raise ConfigError(
            "tune is words, but new_characters is empty, so that there are none; name some, or set "
            "tune to what is to train"
        )
    added = config.causal_story
    if not added.blocks or len(set(added.blocks)) < len(added.blocks):
        raise ConfigError(
            f"causal_story.blocks is {list(added.blocks)}; name at least one place, none twice, "
            f"such as [mid]"
        )
    training, whole = config.mode == "train", config.precision == 32
    if training and config.latent_draws and not config.cache_latents:
        raise ConfigError(
            f"latent_draws is {config.latent_draws}, but cache_latents is false; set that to true, "
            f"or latent_draws=null for new draws in every epoch"
        )
    if training and whole and config.half_frozen_weights:
        raise ConfigError(
            f"half_frozen_weights is true, but nothing is computed in half precision with "
            f"precision={config.precision}; set half_frozen_weights=false or precision=bf16-mixed"
        )
    if training and config.float8_frozen_weights:
        if config.tune == "all":
            raise ConfigError(
                "float8_frozen_weights is true, but with tune=all they would be saved rounded; set "
                "tune=lora, whose checkpoints hold what trains, or float8_frozen_weights=false"
            )
        _need(
            config, "float8_frozen_weights",
            ("half_frozen_weights", True, "says the same of the rest"),
            ("ema_decay", None, "has no average, which 8 bits would not move"),
        )  # fmt: skip
    if training and config.half_trained_weights:
        _need(
            config, "half_trained_weights",
            ("precision", "bf16-mixed", "computes with such weights"),
            ("optimizer_in_backward", True, "moves them one at a time, in 32 bits"),
            ("ema_decay", None, "has no average, which bfloat16 would not move"),
            ("tune", "all", "trains more than a few weights"),
        )  # fmt: skip
    if training and config.optimizer_in_backward:
        for key, used, why in (
            ("gradient_clip_val", config.gradient_clip_val, "the norm of all gradients"),
            ("accumulate_grad_batches", config.accumulate_grad_batches > 1, "their sum"),
            ("precision", config.precision == "16-mixed", "whether one of them overflowed"),
        ):
            if used:
                remedy = {"precision": "bf16-mixed", "gradient_clip_val": "null"}.get(key, 1)
                raise ConfigError(
                    f"optimizer_in_backward is true, which frees each gradient at once, but {key} "
                    f"is {config[key]}, which needs {why}; set {key}={remedy}, or "
                    f"optimizer_in_backward=false"
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
    if config.mode == "sample" and config.story is not None:
        own = own_story_metrics(config.evaluation.benchmark is not None)
        try:
            asked = named_metrics(list(config.metrics))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if others := [one for one in asked if one not in own]:
            raise ConfigError(
                f"metrics is {list(config.metrics)}, but a story of your own has neither real "
                f"pictures nor labels, which {others[0]} needs; choose among "
                f"{', '.join(sorted(own))}"
            )
    endless = config.warmup_steps is None and config.warmup_epochs >= config.max_epochs
    if config.max_steps == -1 and endless:
        raise ConfigError(
            f"warmup_epochs is {config.warmup_epochs} and max_epochs {config.max_epochs}: the "
            f"warm-up would never end; lower warmup_epochs"
        )
