"""The classifier behind character_f1, frame_accuracy and background_accuracy.

torchvision's Inception v3 at 299 pixels, as in the field. `python -m evaluation.classifier` trains
one with an output per character (sigmoid > 0.5) and per background (the largest). StoryGPT-V's
published files (classifier_char.pt, 7 or 9 outputs; classifier_bg.pt, 323) are state dicts of the
stock class too (names such as Conv2d_1a_3x3.conv.weight, AuxLogits.fc.weight, fc.weight), one for
characters and one for backgrounds; each answer counts where its sigmoid exceeds 0.5.
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
from torchvision.transforms.functional import center_crop, normalize, resize, to_tensor

from common.files import file_hash
from common.key_value_arguments import spelled
from evaluation.networks.features import Encoder, Network, device_of
from evaluation.networks.weights import (
    IMAGENET_INCEPTION,
    find_weights,
    load_into,
    load_weights,
    require,
)
from evaluation.options import Options
from evaluation.samples import Samples, read_picture

__all__ = [
    "SIDE", "background_network", "build_inception", "character_network", "imagenet_network",
    "prepare",
]  # fmt: skip

SIDE = 299  # of the field
ABOUT = ("characters", "places", "known_error", "image_size")  # what our own files tell
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def build_inception(rows: int, auxiliary: bool) -> Inception3:
    """PyTorch's own initial values: torchvision's (deviation 0.1 everywhere) learn far slower."""
    return Inception3(rows, aux_logits=auxiliary, transform_input=True, init_weights=False)


def character_network(options: Options, samples: Samples | None = None) -> Network | None:
    """Logits of pictures, (C) or (C + P), from the file of `classifier`.

    A file that the training here wrote says its own names; another state dict of torchvision's
    Inception v3 takes those of the samples, in order. Without samples only the file is read.
    """
    return _network(options, samples, "classifier", ("characters", "places"))


def background_network(options: Options, samples: Samples | None = None) -> Network | None:
    """Logits (P) of pictures from the file of `background_classifier`, or what else there is."""
    if options.background_classifier is None:
        return character_network(options, samples)
    return _network(options, samples, "background_classifier", ("places",))


def imagenet_network(options: Options, samples: Samples | None = None) -> Network:
    """ImageNet's 1000 logits, as ViStoryBench's Inception score has them."""
    key = spelled("imagenet_inception")
    path = find_weights(
        IMAGENET_INCEPTION, options.imagenet_inception, key, options.allow_other_weights
    )
    network = _inception(path, key, options.device)
    network.transform_input = False
    sha256, load = file_hash(path), partial(prepare, crop="centre")
    encoder = Encoder(f"imagenet-inception {sha256}", network.fc.out_features, network, load)
    return Network("torchvision's Inception v3", path.name, sha256, {"features": encoder})


def _network(
    options: Options, samples: Samples | None, option: str, kinds: tuple[str, ...]
) -> Network | None:
    key = spelled(option)
    path = require(getattr(options, option), key, "train one, or name its file")
    network = _inception(path, key, options.device)
    if samples is None:
        return None
    about, told = {"known_error": None, "image_size": SIDE}, {}
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            kept = file.metadata() or {}
            told = {key: json.loads(kept[key]) for key in ABOUT if key in kept}
    about |= {**(samples.vocabulary or {}), **told}
    rows, side = network.fc.out_features, about["image_size"]
    names = {kind: (about.get(kind) or []) if kind in kinds else []
             for kind in ("characters", "places")}  # fmt: skip
    counts = [len(names[kind]) for kind in kinds]
    if not counts[0] or rows not in (counts[0], sum(counts)):
        words = " and ".join(
            f"{count} {'backgrounds' if kind == 'places' else kind}"
            for kind, count in zip(kinds, counts, strict=True)
        )
        raise ValueError(
            f"{key}={path} has {rows} outputs for {words}: give the label_vocabulary.json it was "
            "trained with"
        )
    sha256, crop = file_hash(path), options.classifier_crop or ("squash" if told else "centre")
    load = partial(prepare, side=side, crop=crop)
    squashed = crop == "squash"
    logits = Encoder(f"classifier {sha256} {crop}", rows, network, load)
    title = f"classifier, {'squashed' if squashed else 'Resize + CenterCrop'}, at {side}"
    if rows == len(names["characters"]):
        names["places"] = []
    return Network(
        title + (f" instead of {SIDE} pixels" if side != SIDE else " pixels"),
        path.name,
        sha256,
        {"logits": logits},
        about["known_error"],
        names,
        one_place=bool(told),
    )


def _inception(path: Path, key: str, device: str) -> Inception3:
    """torchvision's, with as many answers as the file has."""
    weights = load_weights(path, key)
    rows = len(weights["fc.weight"]) if "fc.weight" in weights else 1
    network = build_inception(rows, any(name.startswith("AuxLogits") for name in weights))
    load_into(network, weights, f"{key}={path} does not fit Inception v3")
    return network.eval().to(device_of(device), memory_format=torch.channels_last)


def prepare(path: Path, side: int = SIDE, crop: str = "squash") -> Tensor:
    """(3, side, side), normalised as ImageNet is.

    squash: both sides to `side` (PIL, bilinear); centre: the shorter side, and its middle.
    """
    picture = Image.fromarray(read_picture(path))
    if crop == "squash":
        picture = picture.resize((side, side), Image.Resampling.BILINEAR)
    else:
        picture = center_crop(resize(picture, side), side)
    return normalize(to_tensor(picture), MEAN, DEVIATION)
