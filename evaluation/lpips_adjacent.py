"""LPIPS between two pictures, with torchmetrics' network and a checked backbone file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.functional.image.lpips import _NoTrainLpips

from evaluation.features import Encoder
from evaluation.options import option
from evaluation.samples import read_picture
from evaluation.weights import file_hash, load_weights


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


def lpips_encoder(net: str, path: Path, key: str, device: str) -> Encoder:
    """Distances of pairs of picture paths; `net` is alex, vgg or squeeze."""
    try:
        network = _Lpips(net, load_weights(path, key))
    except (KeyError, RuntimeError) as error:
        net_key = option("lpips_net")
        raise ValueError(f"{key}={path} does not fit {net_key}={net} ({error})") from error
    return Encoder(f"lpips {net} {file_hash(path)}", 1, network.eval().to(device), _load)


def _load(pair: tuple[Path, Path]) -> Tensor:
    pictures = [torch.from_numpy(read_picture(path).copy()) for path in pair]
    if pictures[0].shape != pictures[1].shape:
        raise ValueError(f"{pair[0]} and {pair[1]} differ in size: give frames of one size")
    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
