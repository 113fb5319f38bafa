"""One training step as the trainer does it, without a trainer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from models.training.story_model import StoryModel

__all__ = ["PlannedAdam", "training_step"]

BLOCK, SMALLEST = 256, 4096  # of bitsandbytes: numbers that share a scale; tensors kept in 32 bits


class PlannedAdam:
    """Holds what AdamW's two moments take; for memory only, it moves nothing."""

    def __init__(self, parameters: Sequence[nn.Parameter], bits: int) -> None:
        self.parameters = parameters
        self.state: list[Tensor] = []
        for parameter in parameters:
            for _moment in range(2):
                if bits == 32 or parameter.numel() < SMALLEST:
                    self.state.append(torch.empty_like(parameter))
                else:
                    self.state.append(torch.empty_like(parameter, dtype=torch.uint8))
                    scales = -(-parameter.numel() // BLOCK)
                    self.state.append(torch.empty(scales, device=parameter.device))

    def step(self) -> None:
        pass

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


def training_step(model: StoryModel, batch: dict, optimizer, config: DictConfig) -> Tensor:
    """Forward, backward, clipping and the optimiser's step, in the trainer's order; the loss."""
    model.log = lambda *args, **how: None
    loss = model.training_step(batch, 0)
    optimizer.zero_grad()  # after the forward pass: until here the last gradients live on
    loss.backward()
    if config.gradient_clip_val:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        nn.utils.clip_grad_norm_(trained, config.gradient_clip_val)
    optimizer.step()
    return loss.detach()
