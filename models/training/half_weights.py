"""Weights in fewer bits: frozen ones, which autocast casts at every use, and ones that train.

A step of a weight that trains is mostly smaller than half of bfloat16's distance to the next
number, and would be lost. Rounded at random, up or down by what is left over, it is right on
average (stochastic rounding, Gupta et al. 2015, arXiv 1502.02551, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["cast_weights", "rounded_at_random"]


def cast_weights(module: nn.Module, dtype: torch.dtype, trained: bool) -> None:
    """Cast matrices and kernels that train, or those that do not; to 16 bits their biases too.

    Not BLIP's first, off which it reads the type of pictures, nor a tuned decoder, which is saved.
    """
    for name, layer in module.named_modules():
        if name.endswith("patch_embedding") or ".tuned." in name:
            continue
        if isinstance(layer, nn.Linear | nn.Conv2d):
            for parameter in layer.parameters(recurse=False):
                if parameter.requires_grad == trained and parameter.ndim > (dtype.itemsize == 1):
                    parameter.data = parameter.data.to(dtype)


def rounded_at_random(values: Tensor) -> Tensor:
    """float32 -> bfloat16, one of the two nearest, on average the value itself."""
    bits = values.view(torch.int32)
    noise = torch.randint_like(bits, 1 << 16)  # of the bits that bfloat16 lacks
    return ((bits + noise) & -(1 << 16)).view(torch.float32).to(torch.bfloat16)
