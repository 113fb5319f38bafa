"""A running average of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

__all__ = ["RunningAverage", "running_average"]


class RunningAverage(WeightAveraging):
    """The average that `ema_decay` asks for, on the device that trains.

    Not the library's EMAWeightAveraging, whose sums make frozen weights drift.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=running_average(decay))

    @property
    def state_key(self) -> str:
        return WeightAveraging.__qualname__  # as in checkpoints from before

    def setup(self, trainer, module, stage: str) -> None:
        # The model is not there yet: its device now would have every step copy all weights to it.
        self._device = trainer.strategy.root_device
        super().setup(trainer, module, stage)


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
