"""Finds weight files and checks their hashes, so that a number never comes from the wrong network.

A file is looked for where the user says, then in PyTorch's own download folder; last it is
downloaded. A hash that differs from the published one is refused unless the user allows it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from textwrap import shorten

import torch
from huggingface_hub import model_info, try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import (
    AlexNet_Weights,
    Inception_V3_Weights,
    SqueezeNet1_1_Weights,
    VGG16_Weights,
)

from common.files import file_hash
from common.key_value_arguments import spelled
from common.terminal import in_one_line

__all__ = [
    "IMAGENET_INCEPTION", "INCEPTION", "LPIPS_BACKBONES", "Published", "ask_hub", "find_weights",
    "in_short", "load_into", "load_weights", "require", "settings_hash",
]  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A published weight file and its SHA-256, whose first digits its name ends in.

    Of one whose whole SHA-256 nobody has written down, these digits are what is known.
    """

    url: str
    whole_sha256: str | None = None

    @property
    def sha256(self) -> str:
        return self.whole_sha256 or self.name.rpartition("-")[2].partition(".")[0]

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


INCEPTION = Published(
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
IMAGENET_INCEPTION = Published(Inception_V3_Weights.DEFAULT.url)
LPIPS_BACKBONES = {
    "alex": Published(
        AlexNet_Weights.DEFAULT.url,
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "vgg": Published(
        VGG16_Weights.DEFAULT.url,
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    "squeeze": Published(
        SqueezeNet1_1_Weights.DEFAULT.url,
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    ),
}


def find_weights(
    published: Published, given: str | os.PathLike | None, key: str, allow_other: bool = False
) -> Path:
    """The file to load; `key` is the option that names it. FileNotFoundError or ValueError."""
    default = Path(torch.hub.get_dir(), "checkpoints", published.name)
    path = Path(given) if given else default
    hint = f"get {published.name} (SHA-256 {published.sha256}) from {published.url}"
    if given:
        require(path, key, f"{hint}, or leave {key} out")
    elif not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(published.url, str(path), published.sha256)
        except (OSError, RuntimeError) as error:  # no network, or a damaged download
            raise FileNotFoundError(
                f"{published.name} is not in {default.parent} and cannot be downloaded ({error}): "
                f"{hint} and give {key}=FILE"
            ) from error
    found = file_hash(path)
    if not found.startswith(published.sha256) and not allow_other:
        raise ValueError(
            f"{key}={path} has SHA-256 {found}, but {published.name} from {published.url} "
            f"has {published.sha256}: give that file, or set "
            f"{spelled('allow_other_weights')}=true"
        )
    return path


def require(path: str | os.PathLike, key: str, hint: str, folder: bool = False) -> Path:
    """The path of a file, or of a folder; FileNotFoundError ends in the hint if there is none."""
    path = Path(path)
    if not (path.is_dir() if folder else path.is_file()):
        wrong = f"is no {'folder' if folder else 'file'}" if path.exists() else "does not exist"
        raise FileNotFoundError(f"{key}={path} {wrong}: {hint}")
    return path


def ask_hub(name: str, files: Sequence[str]) -> None:
    """Fail at once where a download will: the hub's client would retry for half a minute."""
    if not any(isinstance(try_to_load_from_cache(name, file), str) for file in files):
        model_info(name, timeout=10)


def load_weights(path: str | os.PathLike, key: str) -> dict[str, Tensor]:
    """A state dict from a safetensors or PyTorch file; never unpickles anything else."""
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{key}={path} cannot be read as weights ({error})") from error
    except Exception as error:  # torch.load's own, for what it will not unpickle, is a page long
        reason = type(error).__name__
        raise ValueError(f"{key}={path} is not a plain file of weights ({reason})") from error
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise ValueError(f"{key}={path} holds no tensors by name: give a state dict")
    return weights


def load_into(network: nn.Module, weights: Mapping[str, Tensor], said: str, **how) -> None:
    """Load all of them; ValueError begins with `said` and names the first that do not fit."""
    try:
        network.load_state_dict(weights, **how)
    except RuntimeError as error:
        raise ValueError(f"{said} ({in_short(error)})") from error


def in_short(error: Exception) -> str:
    """What an error says; of the pages of a library its beginning."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    said = in_one_line(error)
    return said if len(said) <= 320 else shorten(said, 160, placeholder=" …")


def settings_hash(*texts: str) -> str:
    """What tells a network's settings from others, in the key of what it gave."""
    return sha256("\0".join(texts).encode()).hexdigest()[:16]
