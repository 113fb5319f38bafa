"""A training loop that can be cut off: Muon + AdamW, warm-up, linear decay, EMA, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from common.files import replacing
from common.terminal import tqdm
from models.training.averaging import running_average
from pretraining.muon import Muon

__all__ = ["Plan", "fit"]

_WARMUP_STEPS = 50
_EMA_DECAY = 0.998
_DECAY_FROM = 0.4  # share of the run after which the learning rate falls linearly to 0
_SAVE_SECONDS = 120  # how often the state is written
_SHOW_STEPS = 10  # how often the loss is read, which a GPU has to be waited for


@dataclass(frozen=True)
class Plan:
    """How long to train: `steps` of `batch_size` examples, or as many as `seconds` hold if given.

    state: file in which a run that is cut off leaves what it needs to go on; None: none.
    """

    steps: int
    batch_size: int = 1
    seconds: float | None = None
    state: Path | None = None


def _optimizers(model: nn.Module, lr: float, matrix_lr: float) -> list:
    """Muon for matrices and convolutions of layers and blocks, AdamW for the rest."""
    inner, others = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            within = parameter.ndim >= 2 and ("layer" in name or "block" in name)
            (inner if within else others).append(parameter)
    optimizers = [
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
    ]
    if inner:
        optimizers.append(Muon(inner, lr=matrix_lr))
    return optimizers


def fit(
    model: nn.Module,
    loss_fn: Callable[[], Tensor],
    plan: Plan,
    lr: float,
    matrix_lr: float,
    description: str,
) -> int:
    """Minimise `loss_fn()` over what trains in `model`, leave the EMA of it there; steps taken.

    All chance in `loss_fn` has to be PyTorch's, whose state is kept with the rest.
    """
    optimizers = _optimizers(model, lr, matrix_lr)
    rates = [group["lr"] for o in optimizers for group in o.param_groups]
    parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=running_average(_EMA_DECAY))
    parts = {"model": model, "average": average}
    parts |= {str(n): optimizer for n, optimizer in enumerate(optimizers)}
    step, before, smooth = 0, 0.0, None
    if plan.state and plan.state.exists():
        step, before = _read_state(plan.state, parts)
    groups = [group for o in optimizers for group in o.param_groups]  # others than before reading
    start = saved = time.monotonic()
    with tqdm(total=plan.steps, initial=step, desc=description, mininterval=5.0) as bar:
        while True:
            spent = before + time.monotonic() - start
            done = step / plan.steps if plan.seconds is None else spent / plan.seconds
            if done >= 1:
                break
            factor = min((step + 1) / _WARMUP_STEPS, (1 - done) / (1 - _DECAY_FROM), 1.0)
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * factor
            loss = loss_fn()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            average.update_parameters(model)
            step += 1
            loss = loss.detach()
            smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
            if plan.seconds is not None:  # what the bar counts to
                bar.total = max(step, round(step * plan.seconds / (spent + 1e-9)))
            if step % _SHOW_STEPS == 0:
                bar.set_postfix(loss=f"{smooth.item():.4f}", refresh=False)
            bar.update()
            if plan.state and time.monotonic() - saved > _SAVE_SECONDS:
                saved = time.monotonic()
                _write_state(plan.state, parts, step, before + saved - start)
    model.load_state_dict(average.module.state_dict())
    return step


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _write_state(path: Path, parts: dict, step: int, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {"step": step, "seconds": seconds, "random": torch.get_rng_state()}
    if (device := _device(parts["model"])).type != "cpu":
        state["device_random"] = torch.get_device_module(device).get_rng_state()
    with replacing(path) as temporary:
        torch.save(state, temporary)


def _read_state(path: Path, parts: dict) -> tuple[int, float]:
    """Put what `_write_state` wrote into `parts`; the steps and seconds behind it."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    if "device_random" in state and (device := _device(parts["model"])).type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device_random"])
    return state["step"], state["seconds"]
