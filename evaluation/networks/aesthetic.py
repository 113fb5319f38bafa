"""Aesthetic Predictor 2.5: five linear layers on SigLIP's pooled unit vector, a score from 1 to 10.

The head's file (aesthetic_predictor_v2_5.pth) holds scoring_head.0, .2, .4, .6 and .8, each weight
and bias, from SigLIP's width over 1024, 128, 64 and 16 to 1; between them only dropout. The encoder
is transformers' SiglipVisionModel, from a folder with google/siglip-so400m-patch14-384 or the hub.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, SiglipVisionModel
from transformers.utils import cached_file

from common.files import file_hash
from common.key_value_arguments import spelled
from evaluation.networks.features import Encoder, Network, device_of
from evaluation.networks.weights import (
    ask_hub,
    in_short,
    load_into,
    load_weights,
    require,
    settings_hash,
)
from evaluation.options import Options
from evaluation.samples import Samples, read_picture

__all__ = ["Predictor", "aesthetic_network", "build_head"]

WIDTH = 1152  # of the published encoder's vectors
SOURCE = "aesthetic_predictor_v2_5.pth of github.com/discus0434/aesthetic-predictor-v2-5"


class Predictor(nn.Module):
    """Pixels as the encoder takes them -> scores (N, 1)."""

    def __init__(self, encoder: SiglipVisionModel, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(F.normalize(self.encoder(pixel_values=pixels).pooler_output, dim=-1))


def build_head(width: int) -> nn.Sequential:
    """Vectors (N, width) -> (N, 1)."""
    sizes, layers = [width, 1024, 128, 64, 16, 1], []
    for one, two in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(one, two), nn.Identity()]
    return nn.Sequential(*layers)


def aesthetic_network(options: Options, samples: Samples | None = None) -> Network:
    """Scores (1) of pictures."""
    key, encoder_key = spelled("aesthetic_head"), spelled("aesthetic_encoder")
    path, source = require(options.aesthetic_head, key, f"get {SOURCE}"), options.aesthetic_encoder
    weights = load_weights(path, key)
    weights = {name.removeprefix("scoring_head."): value for name, value in weights.items()}
    wide = weights["0.weight"].shape[-1] if "0.weight" in weights else WIDTH
    head = build_head(wide)
    load_into(head, weights, f"{key}={path} does not fit the layers of Aesthetic Predictor 2.5")
    try:
        if not Path(source).is_dir():
            ask_hub(source, ["model.safetensors"])
        encoder = SiglipVisionModel.from_pretrained(source, trust_remote_code=False)
        processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        encoder_hash = file_hash(cached_file(source, "model.safetensors"))
    except Exception as error:  # transformers and the hub client raise many kinds
        raise ValueError(
            f"{encoder_key}={source} cannot be loaded ({in_short(error)}): give the folder of a "
            "SigLIP"
        ) from error
    if wide != encoder.config.hidden_size:
        raise ValueError(
            f"{key}={path} takes vectors of {wide}, but {encoder_key}={source} gives "
            f"{encoder.config.hidden_size}: give the two that belong together"
        )
    network = Predictor(encoder, head).eval().to(device_of(options.device))
    sha256 = file_hash(path)
    made = settings_hash(encoder.config.to_json_string(), processor.to_json_string())
    key = f"aesthetic {sha256} {made} {encoder_hash}"
    score = Encoder(key, 1, network, partial(_prepare, processor))
    title = f"SigLIP {encoder_hash[:8]}"
    return Network(title, path.name, sha256, {"score": score})


def _prepare(processor, path: Path) -> Tensor:
    picture = Image.fromarray(read_picture(path))
    return processor(images=picture, return_tensors="pt").pixel_values[0]
