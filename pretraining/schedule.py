"""A loop of a fixed number of steps: Muon + AdamW, warm-up, linear decay, EMA, progress bar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from common.terminal import tqdm
from pretraining.muon import Muon

__all__ = ["fit"]

_WARMUP_STEPS = 50
_DECAY_FROM = 0.4  # share of the run after which the learning rate falls linearly to 0


def _warm_average(mean: torch.Tensor, value: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """EMA whose decay grows to 0.998, so that the random start is soon forgotten."""
    decay = min(0.998, (1 + count.item()) / (10 + count.item()))
    return torch.lerp(value, mean, decay)


def _optimizers(model: nn.Module, lr: float, matrix_lr: float | None) -> list:
    """Muon for transformer layers' matrices if `matrix_lr` is given, AdamW for the rest."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hidden = matrix_lr is not None and parameter.ndim == 2 and "layer" in name
            (matrices if hidden else others).append(parameter)
    optimizers = [
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
    ]
    if matrices:
        optimizers.append(Muon(matrices, lr=matrix_lr))
    return optimizers


def fit(
    model: nn.Module,
    loss_fn: Callable[[], torch.Tensor],
    steps: int,
    lr: float,
    description: str,
    matrix_lr: float | None = None,
) -> None:
    """Minimise `loss_fn()` over what trains in `model`, and leave the EMA of it there."""
    optimizers = _optimizers(model, lr, matrix_lr)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda s: min((s + 1) / _WARMUP_STEPS, (steps - s) / (steps * (1 - _DECAY_FROM)), 1.0),
        )
        for optimizer in optimizers
    ]
    parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    average = torch.optim.swa_utils.AveragedModel(model, avg_fn=_warm_average)
    smooth = None
    bar = tqdm(range(steps), desc=description, mininterval=5.0)
    for _ in bar:
        loss = loss_fn()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        average.update_parameters(model)
        smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
        bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
    model.load_state_dict(average.module.state_dict())
