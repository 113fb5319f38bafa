"""Weights that a training which went wrong has ruined."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["not_finite"]


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that hold NaN or infinity."""
    return sorted(
        name
        for name, tensor in state.items()
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor)
    )


def _is_finite(tensor: Tensor) -> bool:
    numbers = tensor.float() if tensor.itemsize == 1 else tensor  # no extremes in 8 bits
    return bool(torch.stack(torch.aminmax(numbers)).isfinite().all())  # they pass NaN on
