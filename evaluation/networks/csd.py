"""CSD's style of pictures as unit vectors (Somepalli et al., arXiv 2404.01292).

The file holds OpenAI's CLIP ViT-L/14 tower under `backbone.` (conv1.weight, class_embedding,
positional_embedding, ln_pre, transformer.resblocks.0.attn.in_proj_weight, ln_post, …) and the two
projections `last_layer_style` and `last_layer_content`, (1024, 768) each: at the top
(csd_vit-large.pth, as ViStoryBench loads it), or under `model_state_dict` with `module.` before
each name (CSD's checkpoint.pth). It is open_clip's vision tower with the style as its projection.
"""

from __future__ import annotations

import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, normalize, resize

from common.files import file_hash
from common.key_value_arguments import spelled
from evaluation.networks.features import Encoder, Network, Unit, device_of
from evaluation.networks.weights import in_short, load_weights, require
from evaluation.options import Options
from evaluation.samples import Samples, read_picture

__all__ = ["csd_network"]

SIDE, HEAD = 224, 64
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def csd_network(options: Options, samples: Samples | None = None) -> Network:
    key = spelled("csd_weights")
    path = require(options.csd_weights, key, "get csd_vit-large.pth, named in ViStoryBench")
    weights = load_weights(path, key)
    weights = weights.get("model_state_dict", weights)
    weights = {name.removeprefix("module."): value for name, value in weights.items()}
    try:
        tower = _tower(weights)
    except (KeyError, RuntimeError, ValueError, AttributeError) as error:
        raise ValueError(f"{key}={path} does not fit CSD's ViT ({in_short(error)})") from error
    network, sha256 = Unit(tower).eval().to(device_of(options.device)), file_hash(path)
    width = tower.proj.shape[1]
    picture = Encoder(f"csd {sha256}", width, network, _prepare)
    return Network(f"CSD, squashed to {SIDE}", path.name, sha256, {"picture": picture})


def _tower(weights: dict[str, Tensor]) -> VisionTransformer:
    """A ViT of the weights' own size."""
    backbone = {
        name.removeprefix("backbone."): value
        for name, value in weights.items()
        if name.startswith("backbone.")
    }
    patches, style = backbone["conv1.weight"], weights["last_layer_style"]
    side = round((len(backbone["positional_embedding"]) - 1) ** 0.5) * patches.shape[-1]
    if side != SIDE:
        raise ValueError(f"it reads pictures of {side} pixels, not {SIDE}")
    layers = 1 + max(int(n.split(".")[2]) for n in backbone if n.startswith("transformer.res"))
    width = len(patches)
    with torch.device("meta"):
        tower = VisionTransformer(
            SIDE, patches.shape[-1], width, layers, max(width // HEAD, 1), 4.0,
            output_dim=style.shape[1], act_layer=QuickGELU,
        )  # fmt: skip
    tower.load_state_dict({**backbone, "proj": style}, assign=True)
    return tower.float()


def _prepare(path) -> Tensor:
    pixels = torch.from_numpy(read_picture(path).copy()).permute(2, 0, 1).float() / 255
    return normalize(resize(pixels, [SIDE, SIDE], InterpolationMode.BICUBIC), MEAN, DEVIATION)
