"""Questions about weights: has a training gone wrong ruined them, do two models have the same?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["not_finite", "weights_hash"]


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


def weights_hash(state: Mapping[str, Tensor], *texts: str, signed_zeros: bool = True) -> str:
    """SHA-256 of `texts` and of the tensors' names, types, shapes and values.

    signed_zeros: tell -0 from 0; a running average of what stands still makes one the other.
    """
    digest = hashlib.sha256("".join(texts).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        if not signed_zeros and values.is_floating_point():
            numbers = values.float() if values.itemsize == 1 else values  # no sums in 8 bits
            values = (numbers + 0.0).to(values.dtype)
        digest.update(values.view(torch.uint8).numpy())  # NumPy knows no bfloat16
    return digest.hexdigest()
