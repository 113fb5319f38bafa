"""Reads the files of `config=`: presets, files of one's own, and AR-LDM's own config.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from common.documents import check_yaml
from common.terminal import in_one_line

__all__ = [
    "FORK_KEYS",
    "PRESETS",
    "as_in_its_code",
    "is_original",
    "load_yaml",
    "read_config_file",
    "refuse_resolvers",
    "unknown_key",
    "unknown_keys",
]

PRESETS = Path(__file__).parents[1] / "presets"

# AR-LDM's config.yaml has these and a section for each of its data sets.
ORIGINAL_KEYS = frozenset((
    "mode", "gpu_ids", "batch_size", "num_workers", "num_cpu_cores", "seed", "ckpt_dir", "run_name",
    "dataset", "task", "init_lr", "warmup_epochs", "max_epochs", "train_model_file", "freeze_clip",
    "freeze_blip", "freeze_resnet", "test_model_file", "calculate_fid", "scheduler",
    "guidance_scale", "num_inference_steps", "sample_output_dir",
))  # fmt: skip
DATA_SECTIONS = frozenset(("pororo", "flintstones", "vistsis", "vistdii", "folder"))
ENOUGH = 15  # of ORIGINAL_KEYS: people delete and comment out some

FORK_KEYS = {  # key of a fork, or of programs like it, unlike ours -> what it is called here
    "freeze_text_encoder": "freeze_clip",
    "freeze_mm_encoder": "freeze_blip",
    "grad_accumulation_steps": "accumulate_grad_batches",
    "gradient_accumulation_steps": "accumulate_grad_batches",
    "accumulation_steps": "accumulate_grad_batches",
    "resolution": "sd15.image_size",
    "image_size": "sd15.image_size",
    "save_freq": "save_every_minutes, which counts minutes",
    "save_every": "save_every_minutes, which counts minutes",
    "lr": "init_lr",
    "learning_rate": "init_lr",
    "clip_grad": "gradient_clip_val",
    "max_grad_norm": "gradient_clip_val",
    "fp16": "precision=16-mixed",
    "bf16": "precision=bf16-mixed",
    "use_8bit_adam": "optimizer=adamw8bit",
    "use_lora": "tune=lora",
    "use_ema": "ema_decay=0.9999",
    "num_gpus": "gpu_ids",
    "devices": "gpu_ids",
    "ddim_steps": "num_inference_steps",
    "sample_steps": "num_inference_steps",
    "ddim_eta": "eta",
    "cfg_scale": "guidance_scale",
    "uncond_prob": "classifier_free_rate",
    "drop_rate": "classifier_free_rate",
    "resume_from_checkpoint": "train_model_file",
    "pretrained_model_name_or_path": "sd15.diffusion_model",
    "sd_path": "sd15.diffusion_model",
    "blip_path": "sd15.blip_model",
}


def read_config_file(path: str | Path) -> DictConfig:
    """The keys of a YAML file, which need not be all; those of `defaults` files beneath them.

    `path` is a file, or the name of a preset with or without its folder and `.yaml`. As in Hydra's
    files, `defaults` names files beside this one; what else Hydra alone reads is left out.

    Raises:
        ValueError: a file cannot be read, is no mapping, or is its own default.
    """
    return _read(_find(str(path)), ())


def load_yaml(path: Path) -> Any:
    """A YAML file as OmegaConf reads it; ValueError, OSError or a library's error if it cannot."""
    return deepcopy(_parsed(path.read_text(encoding="utf-8")))


@lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    check_yaml(text)
    content = OmegaConf.load(StringIO(text))
    refuse_resolvers(OmegaConf.to_container(content))
    return content


def refuse_resolvers(value: Any) -> None:
    """ValueError for a text such as ${oc.env:HOME}: a file of somebody else's must not read what
    is on this machine. ${key}, another key's value, stays."""
    if isinstance(value, str) and (found := re.search(r"\$\{[^}]*:", value)):
        raise ValueError(
            f"{value!r} calls a function in {found[0]}…}}; write what it stands for, or ${{key}}"
        )
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        refuse_resolvers(key)
        refuse_resolvers(inner)
    for inner in value if isinstance(value, list | tuple) else ():
        refuse_resolvers(inner)


def is_original(content: DictConfig) -> bool:
    """Whether a file is AR-LDM's config.yaml or a fork's, whatever keys of ours were added.

    It has most of AR-LDM's keys and a data set's section, and fewer keys that only we have: a copy
    of our own config.yaml has twice as many of those.
    """
    keys = set(map(str, content))
    shared, ours = keys & ORIGINAL_KEYS, keys - ORIGINAL_KEYS - DATA_SECTIONS
    return bool(keys & DATA_SECTIONS) and len(shared) >= ENOUGH and len(ours) < len(shared)


def as_in_its_code() -> DictConfig:
    """What AR-LDM's file leaves open: its preset, without what there stands for four GPUs."""
    forks = {"accumulate_grad_batches": 1, "folder": {"new_tokens_match": "exact"}}
    return OmegaConf.merge(_read(PRESETS / "arldm.yaml", ()), forks)


def unknown_key(path: Sequence[str], rules: Any, prefix: str = "") -> tuple[str, str] | None:
    """(key, remedy) if `path`, through sections to a key, leads nowhere: ["tiny", "image_size"]."""
    head, *rest = path
    if isinstance(rules, dict) and head in rules:
        return unknown_key(rest, rules[head], f"{prefix}{head}.") if rest else None
    if head in FORK_KEYS and not prefix:
        return head, f"here it is {FORK_KEYS[head]}"
    if near := get_close_matches(head, rules, n=1) if isinstance(rules, dict) else []:
        return prefix + head, f"did you mean {prefix}{near[0]}?"
    return prefix + head, "see config.yaml for all keys"


def unknown_keys(values: Mapping, rules: dict, prefix: str = "") -> list[tuple[str, str]]:
    """(key, remedy) of all keys that are not in `rules`."""
    found = []
    for key, value in values.items():
        section = isinstance(value, Mapping)
        if strange := unknown_key([str(key)], rules, prefix):
            if section and not prefix and {"hdf5_file", "max_length", "new_tokens"} & set(value):
                strange = (strange[0], "for your own data set take dataset=folder, section folder")
            found.append(strange)
        elif section and isinstance(rules[key], dict):
            found += unknown_keys(value, rules[key], f"{prefix}{key}.")
    return found


def _find(name: str) -> Path:
    """The file that is meant; itself if there is none."""
    preset = PRESETS / f"{name.removeprefix('presets/').removesuffix('.yaml')}.yaml"
    return preset if not Path(name).is_file() and preset.is_file() else Path(name)


def _read(path: Path, above: tuple[Path, ...]) -> DictConfig:
    try:
        if path in above:
            raise ValueError("it names itself in defaults")
        content = load_yaml(path)
        if not isinstance(content, DictConfig):
            raise ValueError("it holds no keys")
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = in_one_line(error)
        known = [file.stem for file in PRESETS.glob("*.yaml")]
        near = [] if path.is_file() else get_close_matches(path.stem, known, n=1)
        remedy = f"did you mean config=presets/{near[0]}.yaml?" if near else "mend it"
        raise ValueError(f"config: {path} cannot be read ({reason}); {remedy}") from error
    defaults = content.pop("defaults", None) or []
    for key in [key for key in content if str(key).split("/")[0] == "hydra"]:
        del content[key]
    defaults = [defaults] if isinstance(defaults, str) else defaults
    names = [name for name in defaults if isinstance(name, str) and name != "_self_"]
    files = (path.with_name(f"{name}.yaml") for name in names)
    return OmegaConf.merge(*(_read(file, (*above, path)) for file in files), content)
