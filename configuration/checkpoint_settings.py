"""What a checkpoint says about how it was trained, which drawing with it goes by.

Keys that make the model are always the checkpoint's. Others that it brings along, where its data
and its pretrained parts lie and how it is to be sampled, are defaults: the command line, a file of
`config=` and what was changed in config.yaml since the training are stronger.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from common.terminal import as_word
from configuration.files import refuse_resolvers
from configuration.rules import ConfigError

__all__ = [
    "EXTRA_SAMPLER_KEYS", "SAMPLER_KEYS", "inherit", "read_settings", "refuse_contradictions",
]  # fmt: skip

MODEL = (
    "backbone", "tune", "lora_rank", "lora_layers", "history_slots", "new_characters",
    "decoder_steps",
)  # fmt: skip
WORDS = ("max_length", "new_tokens", "new_tokens_match")  # of the data set's section
SAMPLER_KEYS = (
    "scheduler", "num_inference_steps", "first_frame_inference_steps", "guidance_scale", "eta",
    "use_history",
)  # fmt: skip
EXTRA_SAMPLER_KEYS = (  # which manifests say where they are on
    "guidance_interval", "history_guidance_scale", "negative_prompt", "history_frames",
    "keep_first_frame",
)  # fmt: skip
DEFAULTS = ("dataset", "task", "base_model_file", *SAMPLER_KEYS, *EXTRA_SAMPLER_KEYS)


def read_settings(checkpoint: Path) -> dict | None:
    """`config` and `config_file` of a checkpoint, as `KeepConfiguration` put them there.

    None if it has none, as foreign ones, or cannot be read, which is explained later.
    """
    from models.checkpoints.safe_loading import read_content  # takes seconds, as torch does

    try:
        content = read_content(checkpoint, mmap=True)
        found = {key: content[key] for key in ("config", "config_file")}
        found = {key: OmegaConf.to_container(OmegaConf.create(dict(v))) for key, v in found.items()}
    except Exception:  # torch.load raises many kinds
        return None
    try:
        refuse_resolvers(found)
        for key in MODEL:
            if any(key not in config for config in found.values()):
                raise ValueError(f"{key} is not said: take the commit that wrote it")
    except ValueError as error:
        raise ConfigError(f"{checkpoint}, in its settings: {error}") from error
    return found


def inherit(file: DictConfig, settings: dict) -> DictConfig:
    """The keys that a trained model brings along; `file` is config.yaml as it is now."""
    trained, then = (OmegaConf.create(settings[key]) for key in ("config", "config_file"))
    found = OmegaConf.create({})
    backbone, data = trained.backbone, trained.dataset
    words = (f"{data}.{word}" for word in WORDS)
    add_ons = (f"causal_story.{key}" for key in file.causal_story)
    for key in (*MODEL, *add_ons, f"{backbone}.image_size", *words):
        _copy(key, trained, found)
    sections = [f"{name}.{key}" for name in (backbone, data) for key in trained[name]]
    for key in (*DEFAULTS, *sections):
        if OmegaConf.select(file, key) == OmegaConf.select(then, key):  # not edited since
            _copy(key, trained, found)
    return found


def refuse_contradictions(
    config: DictConfig, file: DictConfig, settings: dict, checkpoint: Path
) -> None:
    """ConfigError if `config` asks for another model than `checkpoint` is; takes over its words.

    Stories of another data set can be drawn, in the words that the model knows.
    """
    from models.causal_story.add_ons import in_use  # takes seconds, as torch does

    trained = OmegaConf.create(settings["config"])
    for key in (*MODEL, f"{trained.backbone}.image_size"):
        _compare(key, OmegaConf.select(config, key), OmegaConf.select(trained, key), checkpoint)
    asked, was = (in_use(OmegaConf.to_container(one.causal_story)) for one in (config, trained))
    for key in {**was, **asked}:
        _compare(f"causal_story.{key}", asked.get(key), was.get(key), checkpoint)
    for word in WORDS:
        key, was = f"{config.dataset}.{word}", trained[trained.dataset].get(word)
        now = OmegaConf.select(config, key)
        if config.dataset == trained.dataset or now != OmegaConf.select(file, key):
            _compare(key, now, was, checkpoint)
        OmegaConf.update(config, key, was)


def _copy(key: str, source: DictConfig, target: DictConfig) -> None:
    OmegaConf.update(target, key, OmegaConf.select(source, key))


def _compare(key: str, now: object, was: object, checkpoint: Path) -> None:
    if now != was:
        raise ConfigError(
            f"{checkpoint} was trained with {key}={as_word(was)}, but the configuration has "
            f"{key}={as_word(now)}; set {key} as it was in training, or give another checkpoint"
        )
