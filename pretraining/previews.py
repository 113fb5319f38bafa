"""A contact sheet a stage: real pictures above what the stage makes of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from common.files import replacing

__all__ = ["COLUMNS", "save_sheet"]

COLUMNS, GAP = 8, 4  # pictures side by side; pixels between them


def save_sheet(path: Path, real: Tensor, made: Tensor) -> None:
    """Write a PNG: uint8 `real` (N, 3, H, W), below each what was `made` of it."""
    count = min(COLUMNS, len(real))
    rows = torch.cat([one[:count].to("cpu", torch.uint8) for one in (real, made)])
    sheet = to_pil_image(make_grid(rows, count, padding=GAP, pad_value=255))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")
