"""Reads a configuration file given with `config=FILE`; the original AR-LDM's are understood."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

__all__ = ["read_config_file"]

# A file that names no backbone is the original's, or written like it. What its keys leave open was
# decided in its code: this is how, where config.yaml has it otherwise.
ORIGINAL = {
    "backbone": "sd15",
    "cache_frames": False,
    "eta": 0.0,
    "first_frame_inference_steps": None,
    "gradient_clip_val": None,
    "num_stories": -1,
    "stochastic_depth": 0.1,
}


def read_config_file(path: str | Path) -> DictConfig:
    """The keys of a YAML file that need not have all of them; Hydra's own sections are left out.

    Raises:
        ValueError: the file cannot be read or is no mapping.
    """
    try:
        content = OmegaConf.load(path)
        if not isinstance(content, DictConfig):
            raise ValueError("it holds no keys")
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"config: {path} cannot be read ({reason}); mend it") from error
    hydras = [key for key in content if key == "defaults" or str(key).split("/")[0] == "hydra"]
    for key in hydras:
        del content[key]
    if "backbone" not in content:
        content = OmegaConf.merge(ORIGINAL, content)
    return content
