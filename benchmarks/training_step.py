"""One training step as the trainer does it, without a trainer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from models.story_batch import StoryBatch
from models.training.story_model import StoryModel

__all__ = ["training_step"]


def training_step(
    model: StoryModel,
    batch: StoryBatch,
    optimizer: torch.optim.Optimizer,
    config: DictConfig,
    forward: AbstractContextManager = nullcontext(),  # noqa: B008
) -> Tensor:
    """Forward, backward, clipping and the optimiser's step, in the trainer's order; the loss.

    forward: what the forward pass alone runs in, such as autocast.
    """
    model.log = lambda *args, **how: None
    with forward:
        loss = model.training_step(batch, 0)
    optimizer.zero_grad()  # after the forward pass: until here the last gradients live on
    loss.backward()
    if config.gradient_clip_val:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        nn.utils.clip_grad_norm_(trained, config.gradient_clip_val)
    optimizer.step()
    return loss.detach()
