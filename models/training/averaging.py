"""A running average of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

__all__ = ["running_average"]


def running_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], None]:
    """What `AveragedModel` takes: means keep `decay` of themselves a step.

    At first less, as in diffusers' `EMAModel`, or the weights of the start would be most of what a
    run of fewer than 1 / (1 - decay) steps comes to.
    """
    return partial(_move, decay)


@torch.no_grad()
def _move(
    decay: float, means: Sequence[Tensor], values: Sequence[Tensor], averaged: Tensor
) -> None:
    steps = averaged.item()
    torch._foreach_lerp_(means, values, 1 - min(decay, (1 + steps) / (10 + steps)))
