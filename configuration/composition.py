"""Composes config.yaml, the files laid over it, what a checkpoint says, and the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from common.files import replacing
from common.terminal import as_quoted_word, in_one_line
from configuration.checkpoint_settings import inherit, read_settings, refuse_contradictions
from configuration.checks import check, checkpoint_to_draw_with
from configuration.files import (
    PRESETS,
    as_in_its_code,
    is_original,
    load_yaml,
    read_config_file,
    refuse_resolvers,
    unknown_key,
    unknown_keys,
)
from configuration.rules import DATASETS, RULES, ConfigError

__all__ = [
    "FILE", "file_words", "lay_over", "load_config", "load_to_draw", "parse_words", "plain",
    "read_file", "write_config",
]  # fmt: skip

FILE = Path(__file__).parents[1] / "config.yaml"
READING = (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError)


def load_config(
    overrides: Sequence[str] = (), file: Path = FILE, needs_stories: bool = True
) -> DictConfig:
    """The checked configuration; `overrides` are the words of the command line.

    These are Hydra's `key=value`, and `config=FILE`, which lays a file or preset over `file`,
    beneath the other words; of several files the last is on top. To draw, what a trained model
    brings along comes from its checkpoint. Without `needs_stories` the data set, or what is said of
    a story, need not be there.

    Raises:
        ConfigError: an unknown key, an impossible value, a missing file, a bad combination.
    """
    # Hydra's marks of keys that are new: there are none here.
    words = [word.lstrip("+") for word in overrides if not word.startswith("config=")]
    parse_words(words)
    shipped, layers = read_file(file), lay_over(file_words(overrides))
    config = _compose([shipped, *layers], words)
    checkpoint = _checkpoint(config)
    if checkpoint and (settings := read_settings(checkpoint)):
        inherited = inherit(shipped, settings)
        config = _compose([shipped, inherited, *layers], words)
        refuse_contradictions(config, shipped, settings, checkpoint)
    elif base := _start(config, "base_model_file"):
        settings = read_settings(base)
        _refuse_distilled("base_model_file", base, settings)
        if config.distill or config.new_characters:
            config = _compose([shipped, *_on_base(config, shipped, settings, layers, words)], words)
    if not config.distill and (start := _start(config, "train_model_file")):
        _refuse_distilled("train_model_file", start, read_settings(start))
    check(config, OmegaConf.to_container(config), needs_stories)
    return config


def load_to_draw(
    checkpoint: str | os.PathLike, base_model_file: str | None = None, *words: str
) -> DictConfig:
    """What a checkpoint draws with, without stories; `base_model_file`: what it was tuned from,
    where that is not where it was."""
    files = {"test_model_file": checkpoint, "base_model_file": base_model_file}
    told = [as_quoted_word(key, file) for key, file in files.items() if file]
    return load_config(["mode=sample", *told, *words], needs_stories=False)


def _refuse_distilled(key: str, path: Path, settings: dict | None) -> None:
    if settings and settings["config"].get("distill"):
        raise ConfigError(
            f"{key}: {path} was distilled to draw in few steps, which further training would undo; "
            f"give what it was distilled from"
        )


def _on_base(
    config: DictConfig,
    shipped: DictConfig,
    settings: dict | None,
    layers: list[DictConfig],
    words: list[str],
) -> list[DictConfig]:
    """`layers` with what a base's `settings` say beneath them, and the preset of what it learns."""
    inherited = OmegaConf.create({})
    if settings:
        inherited = inherit(shipped, settings)
        inherited.merge_with({k: config[k] for k in ("base_model_file", "new_characters")})
    of_base = _compose([shipped, inherited, *layers], words)
    if not config.distill:
        preset = read_config_file(str(PRESETS / f"new-characters-{of_base.backbone}.yaml"))
        return [inherited, preset, *layers]
    preset = read_config_file(str(PRESETS / f"distill-{of_base.backbone}.yaml"))
    guidance = _compose([shipped, inherited, *layers], []).guidance_scale
    preset = OmegaConf.merge({"teacher_guidance_scale": guidance}, preset)
    if any(layer.get("distill") for layer in layers):  # a distillation's own settings
        return [inherited, preset, *layers]
    return [inherited, *layers, preset]  # the files say how the base was trained


def read_file(file: Path = FILE) -> DictConfig:
    """config.yaml alone."""
    try:
        return load_yaml(file)
    except READING as error:
        reason = in_one_line(error)
        raise ConfigError(f"{file} cannot be read ({reason}); mend it") from error


def file_words(overrides: Iterable[str]) -> list[str]:
    """The files that `config=` names."""
    return [word.removeprefix("config=") for word in overrides if word.startswith("config=")]


def lay_over(paths: Sequence[str]) -> list[DictConfig]:
    """The contents of `config=` files, the last on top; beneath, what an original leaves open."""
    given = []
    for path in paths:
        try:
            given.append(read_config_file(path))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        # Said here: what a file misses must not look like a merge.
        _refuse_unknown(unknown_keys(OmegaConf.to_container(given[-1]), RULES), path)
    originals = [path for path, content in zip(paths, given, strict=True) if is_original(content)]
    if originals and os.environ.get("LOCAL_RANK", "0") == "0":
        print(
            f"config={' and '.join(originals)}: an AR-LDM file; what it leaves open is as in its "
            f"code (presets/arldm.yaml)"
        )
    return [as_in_its_code(), *given] if originals else given


def plain(config: DictConfig) -> dict:
    """Numbers, texts, lists and dicts, as a checkpoint keeps them."""
    return OmegaConf.to_container(config, resolve=True)


def write_config(config: DictConfig, path: Path) -> None:
    """Save a configuration as YAML that `config=` takes."""
    with replacing(path) as temporary:
        OmegaConf.save(config, temporary)


def _compose(layers: Sequence[DictConfig], words: Sequence[str]) -> DictConfig:
    try:
        GlobalHydra.instance().clear()  # within a sweep Hydra has one already
        # Any folder: the configuration is in the store. Without one Hydra looks who calls it.
        with initialize_config_dir(str(Path(__file__).parent), version_base="1.3"):
            ConfigStore.instance().store("config", OmegaConf.merge(*layers))
            config = compose("config", overrides=list(words))
        _translate(config)
        if config.get("story") and not any(word.startswith("calculate_fid=") for word in words):
            # Where a file asks for them, it means the test stories.
            config.calculate_fid, config.evaluation.papers = False, None
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except READING as error:
        reason = in_one_line(error)
        raise ConfigError(
            f"the configuration cannot be read with {list(words)} ({reason}); mend what it names"
        ) from error
    _refuse_unknown(unknown_keys(values, RULES))
    return config


def _checkpoint(config: DictConfig) -> Path | None:
    """What is drawn with, if it is there."""
    if config.get("mode") != "sample":
        return None
    try:
        path = checkpoint_to_draw_with(config)
    except TypeError:  # keys that are no text, which the checks will refuse
        return None
    return path if path and path.is_file() else None


def _start(config: DictConfig, key: str) -> Path | None:
    """What training starts from, if it is there."""
    path = config.get(key)
    if config.get("mode") != "train" or not isinstance(path, str) or not Path(path).is_file():
        return None
    return Path(path)


def _translate(config: DictConfig) -> None:
    """Values as AR-LDM's forks and older Lightning write them, into ours."""
    if config.get("gpu_ids") == [] and config.get("accelerator") in ("auto", "cpu"):
        config.gpu_ids, config.accelerator = 1, "cpu"
    elif config.get("gpu_ids") == -1:
        config.gpu_ids = "auto"
    written = {"16": "16-mixed", "bf16": "bf16-mixed", "32": 32, "32-true": 32}
    config.precision = written.get(str(config.get("precision")), config.get("precision"))
    for name in DATASETS:
        section = config.get(name)
        if isinstance(section, DictConfig) and section.get("new_tokens", ()) is None:
            section.new_tokens = []


def parse_words(words: Sequence[str], sweep: bool = False) -> list[Override]:
    """Words of the command line as Hydra understands them; one value for each key unless `sweep`.

    Raises:
        ConfigError: an unknown key, another form.
    """
    for word in words:
        if "=" not in word:
            raise ConfigError(f"{word!r} is not of the form key=value, such as mode=sample")
    ours = [word for word in words if not word.startswith("hydra.")]
    keys = [word.partition("=")[0] for word in ours]
    _refuse_unknown([found for key in keys if (found := unknown_key(key.split("."), RULES))])
    parsed = []
    for key, word in zip(keys, ours, strict=True):
        try:
            refuse_resolvers(word)
            parsed.append(OverridesParser.create().parse_override(word))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        except HydraException as error:
            value, what, such = word.partition("=")[2], "a value", '"..."'
            if value.startswith("["):  # quotes around all of it would make one text of it
                what, such = "each text in it", '[{word: "..."}]' if "{" in value else '["..."]'
            raise ConfigError(
                f"{word!r} cannot be understood; put {what} with special characters in two pairs "
                f"of quotes: '{key}={such}'"
            ) from error
        if parsed[-1].is_sweep_override() and not sweep:
            raise ConfigError(
                f"{word!r} gives {key} several values; give one, a list as {key}=[a,b], a text "
                f"with commas in two pairs of quotes, or start a run for each with -m"
            )
    return parsed


def _refuse_unknown(keys: Sequence[tuple[str, str]], path: str | None = None) -> None:
    where = f"{path}: " if path else ""
    if len(keys) == 1:
        ((key, remedy),) = keys
        raise ConfigError(f"{where}{key!r} is not a key of the configuration; {remedy}")
    if keys:
        told = ", ".join(f"{key!r} ({remedy})" for key, remedy in keys)
        raise ConfigError(f"{where}{len(keys)} keys are not of the configuration: {told}")
