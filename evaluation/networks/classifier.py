"""The classifier behind character_f1, frame_accuracy and background_accuracy.

torchvision's Inception v3 with one output per character (sigmoid > 0.5) and one per background
(the largest), at 299 pixels, as in the field. `python -m evaluation.classifier` trains one.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from torchvision.models.inception import Inception3
from torchvision.transforms.functional import normalize, to_tensor

from common.files import file_hash
from evaluation.command_line import spelled
from evaluation.networks.features import Encoder, Network, device_of
from evaluation.networks.weights import load_weights
from evaluation.options import Options
from evaluation.samples import Samples, read_picture

__all__ = ["SIDE", "build_inception", "classifier_network", "prepare"]

SIDE = 299  # of the field
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def build_inception(rows: int, auxiliary: bool) -> Inception3:
    """PyTorch's own initial values: torchvision's (deviation 0.1 everywhere) learn far slower."""
    return Inception3(rows, aux_logits=auxiliary, transform_input=True, init_weights=False)


def classifier_network(options: Options, samples: Samples | None = None) -> Network | None:
    """Logits (C + P) of pictures.

    A file that the training here wrote says its own names; another state dict of torchvision's
    Inception v3 takes those of the samples, in order. Without samples only the file is looked for.
    """
    key, path = spelled("classifier"), Path(options.classifier)
    if not path.is_file():
        raise FileNotFoundError(f"{key}={path} does not exist: train one, or name its file")
    if samples is None:
        return None
    weights = load_weights(path, key)
    about = {"known_error": None, "image_size": SIDE}
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            about |= {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    about = {**(samples.vocabulary or {}), **about}
    rows, side = len(weights.get("fc.weight", ())), about["image_size"]
    characters, places = (about.get(key) or [] for key in ("characters", "places"))
    if not characters or rows not in (len(characters), len(characters) + len(places)):
        raise ValueError(
            f"{key}={path} has {rows} outputs for {len(characters)} characters and "
            f"{len(places)} backgrounds: give the label_vocabulary.json it was trained with"
        )
    network = build_inception(rows, any(name.startswith("AuxLogits") for name in weights))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{key}={path} does not fit Inception v3 ({error})") from error
    network.eval().to(device_of(options.device), memory_format=torch.channels_last)
    sha256 = file_hash(path)
    logits = Encoder(f"classifier {sha256}", rows, network, partial(prepare, side=side))
    return Network(
        "classifier" if side == SIDE else f"classifier at {side} instead of {SIDE} pixels",
        path.name,
        sha256,
        {"logits": logits},
        about["known_error"],
        {"characters": characters, "places": places if rows > len(characters) else []},
    )


def prepare(path: Path, side: int = SIDE) -> Tensor:
    """(3, side, side), squashed (PIL, bilinear) and normalised as ImageNet is."""
    picture = Image.fromarray(read_picture(path)).resize((side, side), Image.Resampling.BILINEAR)
    return normalize(to_tensor(picture), MEAN, DEVIATION)
