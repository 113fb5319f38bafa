"""Random weights where FID's own would lie: they keep pictures apart."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from evaluation.networks.inception import fid_inception

__all__ = ["write_inception"]


def write_inception(path: Path) -> nn.Module:
    """Save weights as `path`; the network that has them."""
    torch.manual_seed(0)
    network = fid_inception().eval()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            nn.init.normal_(value, 0, value[0].numel() ** -0.5 if value.ndim > 1 else 1)
        if name.endswith(("running_var", "bn.weight")):
            nn.init.ones_(value)
    torch.save(network.state_dict(), path)
    return network
