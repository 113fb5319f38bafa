"""CLIP's pictures and captions as unit vectors, with open_clip; cosines are not times 100."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.factory import _find_checkpoint_in_dir
from PIL import Image, ImageOps
from torch import Tensor, nn

from common.documents import parse_json
from common.files import file_hash
from common.key_value_arguments import spelled
from common.model_folders import refuse_code
from evaluation.networks.features import Encoder, Network, device_of
from evaluation.networks.weights import ask_hub, in_short, settings_hash
from evaluation.options import Options
from evaluation.samples import Samples, read_picture

__all__ = ["clip_l14_network", "clip_network", "crop_name"]

FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class _Tower(nn.Module):
    def __init__(self, clip: nn.Module, part: str) -> None:
        super().__init__()
        self.clip, self.part = clip, part

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(getattr(self.clip, self.part)(x), dim=-1)


def clip_network(options: Options, samples: Samples | None = None) -> Network:
    """Encoders of pictures and captions, by `clip_model` and `clip_weights`."""
    return _network(options, "clip_model", "clip_weights")


def clip_l14_network(options: Options, samples: Samples | None = None) -> Network:
    """The same by `clip_l14_model`, which VinaBench and ViStoryBench take."""
    return _network(options, "clip_l14_model", "clip_l14_weights")


def _network(options: Options, model_option: str, weights_option: str) -> Network:
    """model: an open_clip name, or `local-dir:FOLDER` that holds open_clip_config.json and weights.
    weights: one of open_clip's tags, or a file. A picture may be part of one, see `crop_name`.
    """
    model_key, weights_key = spelled(model_option), spelled(weights_option)
    model, weights = getattr(options, model_option), getattr(options, weights_option)
    device = device_of(options.device)
    if model.startswith("hf-hub:"):
        raise ValueError(
            f"{model_key}={model} is not fetched here; run hf download "
            f"{model.removeprefix('hf-hub:')} --local-dir FOLDER, and give "
            f"{model_key}=local-dir:FOLDER"
        )
    own = model.startswith("local-dir:")  # it brings its weights
    tag = None if own else weights
    try:
        _ask_for(model, tag)
        _refuse_code(model)
        clip, _, transform = open_clip.create_model_and_transforms(
            model, pretrained=tag, device=device, require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(model)
        sha256 = _hash(model, tag)
    except Exception as error:  # open_clip and the hub client raise many kinds
        said = in_short(error)
        file = "" if own else f"{weights_key}=FILE{_source(model, weights)}, or "
        raise ValueError(
            f"{model_key}={model} with {weights_key}={weights} cannot be loaded ({said}): without "
            f"a network give {file}{model_key}=local-dir:FOLDER"
        ) from error
    clip.eval()
    with torch.inference_mode():
        width = clip.encode_text(tokenizer(["a"]).to(device)).shape[1]
    title = model if own else f"{model} {weights}"
    file = Path(model.removeprefix("local-dir:"), "open_clip_config.json")
    made = f"{model} {settings_hash(file.read_text('utf-8'))}" if own else model
    towers = {
        "picture": ("clip-image", _Tower(clip, "encode_image"), partial(_prepare, transform)),
        "text": ("clip-text", _Tower(clip, "encode_text"), partial(_tokenise, tokenizer)),
    }
    encoders = {
        name: Encoder(f"{key} {made} {sha256}", width, tower, prepare)
        for name, (key, tower, prepare) in towers.items()
    }
    return Network(title, Path(title).name, sha256, encoders)


def crop_name(box: Sequence[float], mirrored: bool = False) -> str:
    """What (path, crop_name(…)) names: the part of a picture in a box of shares of its sides,
    (left, top, right, bottom), left and right exchanged if `mirrored`."""
    return json.dumps([*map(float, box), mirrored])


def _prepare(transform, item: Path | tuple[Path, str]) -> Tensor:
    if not isinstance(item, tuple):
        return transform(Image.fromarray(read_picture(item)))
    picture = Image.fromarray(read_picture(item[0]))
    *box, mirrored = json.loads(item[1])
    left, top, right, bottom = (
        int(share * side) for share, side in zip(box, picture.size * 2, strict=True)
    )
    picture = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return transform(ImageOps.mirror(picture) if mirrored else picture)


def _tokenise(tokenizer, caption: str) -> Tensor:
    return tokenizer([caption])[0]


def _hash(model: str, weights: str | None) -> str:
    if weights is None:
        # open_clip's own choice among several; it has no other name
        return file_hash(_find_checkpoint_in_dir(Path(model.partition(":")[2])))
    if not Path(weights).is_file():  # a tag: open_clip has just downloaded it, or found it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights = open_clip.download_pretrained(open_clip.get_pretrained_cfg(model, weights))
    return file_hash(weights)


def _ask_for(model: str, tag: str | None) -> None:
    known = open_clip.get_pretrained_cfg(model, tag) if tag and not Path(tag).is_file() else {}
    if name := ((known or {}).get("hf_hub") or "").rstrip("/"):
        ask_hub(name, FILES)


def _refuse_code(model: str) -> None:
    """ValueError if the model's settings have code run, or name a model on the hub to be fetched.

    open_clip hands what a folder says of its tokenizer to a library that runs code if asked to.
    """
    if not model.startswith("local-dir:"):
        return
    folder = Path(model.removeprefix("local-dir:"))
    refuse_code(folder)
    config = parse_json((folder / "open_clip_config.json").read_bytes())
    text = config.get("model_cfg", {}).get("text_cfg", {}) if isinstance(config, dict) else {}
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if text.get(key) and not Path(text[key]).is_dir():
            raise ValueError(f"its {key} {text[key]!r} is no folder, and would be fetched")


def _source(model: str, weights: str) -> str:
    """Where the file is to be had; OpenAI's address holds the hash of its own."""
    found = open_clip.get_pretrained_cfg(model, weights) or {}
    hub, url = found.get("hf_hub", "").rstrip("/"), found.get("url") or ""
    where = [f"{FILES[0]} of https://huggingface.co/{hub}"] if hub else []
    folder = url.split("/")[-2] if url.count("/") > 2 else ""
    if len(folder) == 64:
        where.append(f"{url.rpartition('/')[2]}, SHA-256 {folder[:16]}…, from {url}")
    return f" ({' or '.join(where)})" if where else ""
