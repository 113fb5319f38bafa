"""How weights lie in memory, on which speed and the last bit of results depend."""

from __future__ import annotations

import torch

__all__ = ["lay_out"]


def lay_out(part: torch.nn.Module, channels_last: bool) -> None:
    """Weights where they are fast: convolutions' channels last, all of them aligned in memory.

    Weights mapped from a file lie anywhere in memory, where some kernels round differently.
    """
    last = torch.channels_last
    for parameter in part.parameters():
        if channels_last and parameter.ndim == 4:  # 1x1 convolutions get its strides, too
            wanted = torch.empty(parameter.shape, device="meta", memory_format=last).stride()
            if parameter.stride() != wanted:
                parameter.data = parameter.data.clone(memory_format=last)
        if not parameter.is_meta and parameter.device.type == "cpu" and parameter.data_ptr() % 64:
            parameter.data = parameter.data.clone()
