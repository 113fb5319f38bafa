"""LPIPS between two pictures, with torchmetrics' network and a checked backbone file.

The file is torchvision's AlexNet, VGG-16 or SqueezeNet 1.1 (names such as features.0.weight; the
classifier's are not looked at). The weights of LPIPS's own layers come with torchmetrics.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.functional.image.lpips import _NoTrainLpips

from common.files import file_hash
from common.key_value_arguments import spelled
from evaluation.networks.features import Encoder, Network, device_of
from evaluation.networks.weights import LPIPS_BACKBONES, find_weights, in_short, load_weights
from evaluation.options import Options
from evaluation.samples import Samples, read_picture

__all__ = ["lpips_network"]


class _Lpips(nn.Module):
    """(N, 2, 3, H, W) in [-1, 1] -> (N, 1)."""

    def __init__(self, net: str, backbone: dict[str, Tensor]) -> None:
        super().__init__()
        # The public class would load its backbone from torchvision's own folder only.
        self.network = _NoTrainLpips(net=net, pnet_rand=True)
        own = self.network.net.state_dict()  # slice2.3.weight is features.3.weight in torchvision
        self.network.net.load_state_dict(
            {name: backbone["features." + name.split(".", 2 if "slices" in name else 1)[-1]]
             for name in own}
        )  # fmt: skip

    def forward(self, pairs: Tensor) -> Tensor:
        return self.network(pairs[:, 0], pairs[:, 1]).flatten(1)


def lpips_network(options: Options, samples: Samples | None = None) -> Network:
    """Distances of pairs of picture paths; `lpips_net` is alex, vgg or squeeze."""
    net, key = options.lpips_net, spelled("lpips_weights")
    path = find_weights(
        LPIPS_BACKBONES[net], options.lpips_weights, key, options.allow_other_weights
    )
    try:
        network = _Lpips(net, load_weights(path, key))
    except (KeyError, RuntimeError) as error:
        net_key = spelled("lpips_net")
        said = f"{key}={path} does not fit {net_key}={net}"
        raise ValueError(f"{said} ({in_short(error)})") from error
    network, sha256 = network.eval().to(device_of(options.device)), file_hash(path)
    distance = Encoder(f"lpips {net} {sha256}", 1, network, _load)
    return Network(net, path.name, sha256, {"distance": distance})


def _load(pair: tuple[Path, Path]) -> Tensor:
    pictures = [torch.from_numpy(read_picture(path).copy()) for path in pair]
    if pictures[0].shape != pictures[1].shape:
        raise ValueError(f"{pair[0]} and {pair[1]} differ in size: give frames of one size")
    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
