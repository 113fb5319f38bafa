"""What every key of the configuration may be, in code and in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from common.vistorybench import LANGUAGES, SPLITS
from datasets.specs import SPECS
from models.schedulers import SCHEDULERS
from models.training.optimizer import OPTIMIZERS
from models.training.tuning import LORA_LAYERS, TUNE

__all__ = ["BACKBONES", "DATASETS", "RULES", "ConfigError"]


class ConfigError(ValueError):
    """A key of the configuration is wrong; the message names it, its value and the remedy."""


Rule = tuple[Callable[[Any], bool], str]  # what must hold, in code and in words


def one_of(*choices: str | int | None) -> Rule:
    said = ", ".join("null" if choice is None else str(choice) for choice in choices)
    return lambda v: v in choices, f"one of {said}"


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
PLACE: Rule = (
    lambda v: TEXT[0](v) and not v.startswith(("/", "~")) and not {"..", "."} & set(v.split("/")),
    "a text, the name of a folder within ckpt_dir",
)
TEXT_OR_NULL: Rule = (lambda v: v is None or TEXT[0](v), "a text or null")
WORDS: Rule = (
    lambda v: isinstance(v, list) and all(isinstance(w, str) and w for w in v),
    "a list of words",
)
GPU_IDS: Rule = (
    lambda v: (
        v == "auto"
        or (type(v) is int and v > 0)
        or (isinstance(v, list) and v and all(type(i) is int and i >= 0 for i in v))
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
INTERVAL: Rule = (
    lambda v: (
        v is None or (isinstance(v, list) and len(v) == 2 and all(map(_SHARE, v)) and v[0] < v[1])
    ),
    "null, or two shares of the steps, the lower first, such as [0.2, 0.8]",
)
_SHARE = number(0, 1)[0]
_SIDE = number(64, 2048, whole=True)
SIZE: Rule = (
    lambda v: _SIDE[0](v) or (isinstance(v, list) and len(v) == 2 and all(map(_SIDE[0], v))),
    f"{_SIDE[1]}, or two, [height, width]",
)
_OF_A_CHARACTER = {"word", "class_word", "pictures"}
CHARACTERS: Rule = (
    lambda v: (
        isinstance(v, list)
        and all(
            isinstance(one, dict)
            and one.keys() >= _OF_A_CHARACTER
            and one.keys() <= _OF_A_CHARACTER | {"caption", "pronoun"}
            and all(TEXT[0](value) for value in one.values())
            for one in v
        )
    ),
    "a list of characters, each {word: …, class_word: …, pictures: FOLDER}, and, if you like, "
    "caption and pronoun; all are texts",
)

DATASETS = tuple(SPECS)
BACKBONES = ("tiny", "sd15")
_COUNT = number(1, whole=True, none=True)
WINDOW: Rule = (lambda v: v == "all" or _COUNT[0](v), f"all, or {_COUNT[1]}")
_DATASET_RULES = {
    "hdf5_file": TEXT,
    "crop": one_of("squash", "shorter_side"),
    "max_length": number(4, 512, whole=True),
    "new_tokens": WORDS,
    "new_tokens_match": one_of("exact", "whole_word"),
    "clip_embedding_tokens": number(1, whole=True, none=True),
    "blip_embedding_tokens": number(1, whole=True, none=True),
}
_CROPPED = {"independent_crops": BOOL}
_BACKBONE_RULES = {
    "diffusion_model": TEXT,
    "blip_model": TEXT,
    "image_size": SIZE,
}
RULES: dict[str, Any] = {  # of every key: a rule, or the rules of the keys of a section
    "mode": one_of("train", "sample"),
    "task": one_of("visualization", "continuation"),
    "dataset": one_of(*DATASETS),
    "backbone": one_of(*BACKBONES),
    "seed": number(0, 2**32 - 1, whole=True),
    "run_name": PLACE,
    "accelerator": one_of("auto", "cpu", "gpu", "mps"),
    "gpu_ids": GPU_IDS,
    "num_nodes": number(1, whole=True),
    "strategy": TEXT,
    "precision": one_of(32, "bf16-mixed", "16-mixed"),
    "num_workers": number(0, 256, whole=True),
    "num_cpu_cores": CORES,
    "cache_frames": BOOL,
    "cache_latents": BOOL,
    "latent_draws": number(1, whole=True, none=True),
    "batch_size": number(1, whole=True),
    "optimizer": one_of(*OPTIMIZERS),
    "optimizer_in_backward": BOOL,
    "init_lr": number(0, 1),
    "unet_lr_scale": number(0),
    "weight_decay": number(0),
    "warmup_epochs": number(0),
    "warmup_steps": number(0, whole=True, none=True),
    "max_epochs": number(1, whole=True),
    "max_steps": COUNT_OR_ALL,
    "gradient_clip_val": number(0, none=True),
    "accumulate_grad_batches": number(1, whole=True),
    "max_skipped_steps": number(0, whole=True),
    "classifier_free_rate": number(0, 1),
    "new_characters": CHARACTERS,
    "prior_stories": one_of("auto", "data", "drawn", "none"),
    "causal_story": {
        "spatial_window": WINDOW,
        "adapter_width": number(1, whole=True, none=True),
        "blocks": WORDS,
        "history_window": number(1, whole=True, none=True),
        "history_weights": BOOL,
    },
    "distill": one_of(None, "lcm"),
    "teacher_guidance_scale": number(0, none=True),
    "teacher_steps": number(1, 1000, whole=True),
    "tune": one_of(*TUNE),
    "lora_rank": number(1, whole=True),
    "decoder_steps": number(0, whole=True),
    "lora_layers": one_of(*LORA_LAYERS),
    "base_model_file": TEXT_OR_NULL,
    "freeze_clip": BOOL,
    "freeze_blip": BOOL,
    "freeze_resnet": BOOL,
    "history_slots": number(2, 100, whole=True),
    "stochastic_depth": number(0, 0.9),
    "gradient_checkpointing": BOOL,
    "frames_per_micro_batch": number(1, whole=True, none=True),
    "half_frozen_weights": BOOL,
    "float8_frozen_weights": BOOL,
    "half_trained_weights": BOOL,
    "ema_decay": number(0, 0.999999, none=True),
    "ckpt_dir": TEXT,
    "save_every_minutes": number(0, none=True),
    "save_best": BOOL,
    "train_model_file": TEXT_OR_NULL,
    "resume": one_of("auto", "never"),
    "logger": one_of("tensorboard", "wandb", "csv", "none"),
    "keep_every_n_epochs": number(1, whole=True, none=True),
    "sample_every_n_epochs": number(1, whole=True, none=True),
    "sample_every_n_steps": number(1, whole=True, none=True),
    "test_model_file": TEXT_OR_NULL,
    "calculate_fid": BOOL,
    "metrics": WORDS,
    "evaluation": {
        "judge": TEXT_OR_NULL,
        "classifier": TEXT_OR_NULL,
        "background_classifier": TEXT_OR_NULL,
        "classifier_crop": one_of(None, "squash", "centre"),
        "inception_weights": TEXT_OR_NULL,
        "imagenet_inception": TEXT_OR_NULL,
        "clip_model": TEXT,
        "clip_weights": TEXT,
        "clip_l14_model": TEXT,
        "clip_l14_weights": TEXT,
        "dino_model": TEXT,
        "dino_weights": TEXT_OR_NULL,
        "lpips_net": one_of("alex", "vgg", "squeeze"),
        "lpips_weights": TEXT_OR_NULL,
        "csd_weights": TEXT_OR_NULL,
        "aesthetic_head": TEXT_OR_NULL,
        "aesthetic_encoder": TEXT,
        "detector": TEXT_OR_NULL,
        "benchmark": TEXT_OR_NULL,
        "allow_other_weights": BOOL,
        "papers": TEXT_OR_NULL,
        "cache": TEXT,
    },
    "sample_output_dir": TEXT,
    "story": TEXT_OR_NULL,
    "frames_per_part": number(2, whole=True, none=True),
    "vistorybench": {
        "split": one_of(*SPLITS),
        "language": one_of(*LANGUAGES),
        "caption": TEXT,
    },
    "num_stories": COUNT_OR_ALL,
    "scheduler": one_of(*SCHEDULERS),
    "num_inference_steps": number(1, 1000, whole=True),
    "first_frame_inference_steps": number(1, 1000, whole=True, none=True),
    "guidance_scale": number(0),
    "guidance_interval": INTERVAL,
    "history_guidance_scale": number(0, none=True),
    "negative_prompt": TEXT_OR_NULL,
    "eta": number(0, 1),
    "use_history": BOOL,
    "history_frames": number(1, 100, whole=True, none=True),
    "keep_first_frame": BOOL,
    "lora_files": WORDS,
    "lora_scale": number(-10, 10),
    "redraw": {
        "frame": number(0, whole=True, none=True),
        "story": TEXT_OR_NULL,
        "rest": BOOL,
        "candidates": number(1, 100, whole=True),
        "scorer": TEXT_OR_NULL,
        "choose": number(1, 100, whole=True, none=True),
    },
    **dict.fromkeys(BACKBONES, _BACKBONE_RULES),
    **{
        name: _DATASET_RULES | (_CROPPED if spec.crop == "shorter_side" else {})
        for name, spec in SPECS.items()
    },
    "cartoon": {
        **_DATASET_RULES,
        "hdf5_file": TEXT_OR_NULL,
        "data_dir": TEXT,
        "stories": dict.fromkeys(("train", "val", "test"), number(1, whole=True)),
        "story_length": number(1, 100, whole=True),
        "strangers": number(0, 2000, whole=True),
        "world": one_of("small", "wide"),
    },
}
