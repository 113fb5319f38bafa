"""The Inception network of FID, and how this field feeds it.

torchvision's Inception v3 with three changes makes the network that TensorFlow published in 2015:
average pooling that leaves the padding out, max pooling in the last block, 1008 classes. So the
published file (pytorch-fid's release; names as torchvision's, such as
Mixed_5b.branch1x1.conv.weight and fc.weight, 1008 rows) loads strictly. (torchmetrics has the
network only with the torch-fidelity package, and resizes pictures another way.)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.models import inception as tv

from common.files import file_hash
from common.key_value_arguments import spelled
from evaluation.networks.features import Encoder, Network, device_of
from evaluation.networks.weights import INCEPTION, find_weights, load_into, load_weights
from evaluation.options import Options
from evaluation.samples import Samples, read_picture

__all__ = ["fid_inception", "inception_at_64", "inception_at_native_size", "prepare"]

SIDE, WIDTH = 299, 2048


class _BlockA(tv.InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_mean_of_neighbours(x))]


class _BlockC(tv.InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_mean_of_neighbours(x))]


class _BlockE(tv.InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        last = self.branch_pool.conv.in_channels == 2048
        pooled = F.max_pool2d(x, 3, 1, 1) if last else _mean_of_neighbours(x)
        return [*super()._forward(x)[:-1], self.branch_pool(pooled)]


def _mean_of_neighbours(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def fid_inception() -> nn.Module:
    """(N, 3, 299, 299) in [-1, 1] -> pool3 features (N, 2048) in eval mode; weights undefined."""
    blocks = [tv.BasicConv2d, _BlockA, tv.InceptionB, _BlockC, tv.InceptionD, _BlockE]
    return tv.Inception3(
        num_classes=1008,
        aux_logits=False,
        inception_blocks=[*blocks, tv.InceptionAux],
        init_weights=False,
    )


def inception_at_64(options: Options, samples: Samples | None = None) -> Network:
    """Pool3 features of pictures squashed to 64x64 before, as in fid@64."""
    return _inception(options, 64)


def inception_at_native_size(options: Options, samples: Samples | None = None) -> Network:
    """Pool3 features of pictures as they are."""
    return _inception(options, None)


def _inception(options: Options, first_side: int | None) -> Network:
    key = spelled("inception_weights")
    path = find_weights(INCEPTION, options.inception_weights, key, options.allow_other_weights)
    network = fid_inception()
    said = f"{key}={path} does not fit FID's Inception"
    load_into(network, load_weights(path, key), said)
    network.fc = nn.Identity()
    network.eval().to(  # channels last is a third quicker on processors
        device_of(options.device), memory_format=torch.channels_last
    )
    sha256 = file_hash(path)
    load = partial(prepare, first_side=first_side)
    features = Encoder(f"inception {sha256} side {first_side}", WIDTH, network, load)
    return Network("Inception", path.name, sha256, {"features": features})


def prepare(path: Path, first_side: int | None) -> Tensor:
    """(3, 299, 299) in [-1, 1].

    PIL squashes to `first_side` (bilinear with antialiasing, 8 bits); then bilinear to 299 without.
    """
    picture = read_picture(path)
    if first_side:
        size = (first_side, first_side)
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
    pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * pixels[0] - 1
