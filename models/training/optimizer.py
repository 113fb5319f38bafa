"""The optimisers training can use, by name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the checks of the configuration want the names only, and at once
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

__all__ = ["OPTIMIZERS", "build_optimizer", "step_in_backward"]


def build_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter] | Iterable[dict],
    lr: float,
    weight_decay: float,
    fused: bool,
) -> torch.optim.Optimizer:
    """AdamW over `parameters`, or groups of them, its two moments in 32 or 8 bits.

    Args:
        fused: one kernel for all tensors where PyTorch has one (several times faster on CPUs).
            It takes scaled gradients as they are, so not together with a scaler and clipping.

    Raises:
        ValueError: `adamw8bit` without bitsandbytes.
    """
    return OPTIMIZERS[name](list(parameters), lr, weight_decay, fused)


def step_in_backward(optimizer: torch.optim.Optimizer) -> list[RemovableHandle]:
    """Let `optimizer` move each parameter within the backward pass, once its gradient is whole.

    The gradient is freed at once, so that never all of them are held; `optimizer.step()` then finds
    none and does nothing. A step comes out the same to the bit. Its state stays where it was: what
    is saved either way can be taken up either way. Weights in bfloat16 are moved in 32 bits and
    rounded back at random. Nothing may look at all gradients together
    (clipping by their norm, a scaler) nor add to them later (accumulation, other devices).

    Returns:
        Handles of the hooks; remove them when training is over.
    """
    if any(map(_is_half, (p for group in optimizer.param_groups for p in group["params"]))):
        _keep_moments(optimizer)
    return [
        parameter.register_post_accumulate_grad_hook(partial(_step_alone, optimizer, index))
        for index, group in enumerate(optimizer.param_groups)
        for parameter in group["params"]
    ]


def _is_half(parameter):
    return parameter.is_floating_point() and parameter.element_size() < 4


def _keep_moments(optimizer):
    """Let moments that are loaded stay in 32 bits, which PyTorch casts to their weights' type."""
    loaded = {}

    def restore(optimizer):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for index, values in loaded.items():
            mine = optimizer.state[parameters[index]]
            mine |= {k: v.to(mine[k].device, copy=True) for k, v in values.items() if k in mine}
        loaded.clear()

    optimizer.register_load_state_dict_pre_hook(lambda _, saved: loaded.update(saved["state"]))
    optimizer.register_load_state_dict_post_hook(restore)


def _step_alone(optimizer, index, parameter):
    half = _is_half(parameter)
    moved = _in_full(optimizer, parameter) if half else parameter
    groups = optimizer.param_groups  # its state names parameters, not places in groups
    optimizer.param_groups = [{**groups[index], "params": [moved]}]
    try:
        optimizer.step()
    finally:
        optimizer.param_groups = groups
    parameter.grad = None
    if half:
        from models.training.half_weights import rounded_at_random

        optimizer.state[parameter] = optimizer.state.pop(moved)
        parameter.data.copy_(rounded_at_random(moved.data))


def _in_full(optimizer, parameter):
    """A copy in 32 bits that has its gradient and its place in the optimiser's state."""
    from torch import nn

    full = nn.Parameter(parameter.data.float())
    full.grad = parameter.grad.float()
    parameter.grad = None
    if parameter in optimizer.state:
        optimizer.state[full] = optimizer.state.pop(parameter)
    return full


def _adamw(parameters, lr, weight_decay, fused):
    import torch

    settings = {"lr": lr, "weight_decay": weight_decay}
    if fused:
        try:
            return torch.optim.AdamW(parameters, fused=True, **settings)
        except RuntimeError:  # this kind of device has none
            pass
    return torch.optim.AdamW(parameters, **settings)


def _adamw8bit(parameters, lr, weight_decay, fused):
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ValueError(
            f"optimizer is adamw8bit, which needs bitsandbytes ({error}); pip install "
            f"bitsandbytes, or set optimizer=adamw"
        ) from error
    return AdamW8bit(parameters, lr=lr, weight_decay=weight_decay)


OPTIMIZERS = {"adamw": _adamw, "adamw8bit": _adamw8bit}
