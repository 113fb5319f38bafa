"""DINO's and DINOv2's pictures as unit vectors, with timm.

`dino_weights` is a file in timm's layout (its hub's model.safetensors) or as published by Meta
(dinov2_vitb14_pretrain.pth, dino_vitbase16_pretrain.pth): names such as cls_token, pos_embed,
patch_embed.proj.weight, blocks.0.attn.qkv.weight, norm.weight; DINOv2's also mask_token and
blocks.0.ls1.gamma. timm's own filter fits positions to 224 pixels.
"""

from __future__ import annotations

from pathlib import Path

import timm
from huggingface_hub import hf_hub_download
from PIL import Image
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, center_crop, normalize, resize
from torchvision.transforms.functional import to_tensor as to_pixels

from common.files import file_hash
from common.key_value_arguments import spelled
from evaluation.networks.features import Encoder, Network, Unit, device_of
from evaluation.networks.weights import ask_hub, in_short, load_weights, require
from evaluation.options import Options
from evaluation.samples import Samples, read_picture

__all__ = ["dino_network"]

SIDE, SHORTER = 224, 256
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def dino_network(options: Options, samples: Samples | None = None) -> Network:
    """Class tokens (width) of pictures; `dino_model` is timm's name of the network."""
    name, key, name_key = options.dino_model, spelled("dino_weights"), spelled("dino_model")
    if not timm.is_model(name.partition(".")[0]):
        raise ValueError(f"{name_key}={name} is no network of timm: give one of its DINO names")
    network = timm.create_model(name, num_classes=0, **_size(name))
    if not isinstance(network, VisionTransformer):
        raise ValueError(
            f"{name_key}={name} is no vision transformer: give one of timm's DINO names"
        )
    path = _find(options.dino_weights, network.pretrained_cfg, key)
    weights = load_weights(path, key)
    try:
        network.load_state_dict(checkpoint_filter_fn(weights, network))
    except (RuntimeError, KeyError, ValueError) as error:
        said = f"{key}={path} does not fit {name_key}={name}"
        raise ValueError(f"{said} ({in_short(error)})") from error
    sha256 = file_hash(path)
    unit = Unit(network).eval().to(device_of(options.device))
    picture = Encoder(f"dino {name} {sha256}", network.num_features, unit, _prepare)
    return Network(f"{name}, Resize({SHORTER}) + CenterCrop({SIDE})", path.name, sha256,
                   {"picture": picture})  # fmt: skip


def _size(name: str) -> dict[str, int]:
    """The size, for networks whose own is another."""
    return {"img_size": SIDE} if name.startswith(("vit_", "test_vit")) else {}


def _find(given: str | None, published: dict, key: str) -> Path:
    """The file to load, from the hub's cache or the hub if none is given."""
    source, file = published.get("hf_hub_id"), "model.safetensors"
    where = f"{file} of https://huggingface.co/{source}"
    if given:
        return require(given, key, f"get {where}, or Meta's own file")
    try:
        ask_hub(source, [file])
        return Path(hf_hub_download(source, file))
    except Exception as error:  # the hub client raises many kinds
        raise FileNotFoundError(
            f"{where} cannot be downloaded ({in_short(error)}): without a network give {key}=FILE"
        ) from error


def _prepare(path: Path) -> Tensor:
    picture = resize(Image.fromarray(read_picture(path)), SHORTER, InterpolationMode.BICUBIC)
    return normalize(to_pixels(center_crop(picture, SIDE)), MEAN, DEVIATION)
