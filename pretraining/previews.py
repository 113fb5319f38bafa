"""A contact sheet a stage: real pictures above what the stage makes of them."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from common.files import replacing

__all__ = ["COLUMNS", "save_sheet"]

COLUMNS, GAP = 8, 4  # pictures side by side; pixels between them


def save_sheet(path: Path, real: Tensor, made: Tensor) -> None:
    """Write a PNG: uint8 `real` (N, 3, H, W), below each what was `made` of it."""
    height, width = real.shape[-2:]
    count = min(COLUMNS, len(real))
    size = count * (width + GAP) + GAP, 2 * (height + GAP) + GAP
    sheet = Image.new("RGB", size, "white")
    for row, pictures in enumerate((real, made)):
        for column, picture in enumerate(pictures[:count]):
            array = picture.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            at = GAP + column * (width + GAP), GAP + row * (height + GAP)
            sheet.paste(Image.fromarray(array), at)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")
