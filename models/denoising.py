"""One frame from noise to clean latents, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature

import torch
from diffusers import SchedulerMixin, UNet2DConditionModel
from torch import Tensor

from models.conditioning import Context

__all__ = ["calls", "denoise", "pass_over"]


def denoise(
    unet: UNet2DConditionModel,
    scheduler: SchedulerMixin,
    noise: Tensor,
    context: Context,
    steps: int,
    scales: tuple[float, float | None],
    interval: Sequence[float] | None,
    eta: float,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    stepped: Callable[[int, int, Tensor], Tensor],
) -> Tensor:
    """Latents (B, c, h, w) of `noise` of the same shape.

    Args:
        context: B rows, or as many again without conditions before them, and with the caption
            alone between.
        scales: of the guidance by captions and history, and by history alone.
        interval: shares of the steps with guidance; None: all.
        stepped: called with number, timestep and latents of every step; what it returns goes on.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    extra = _extra_step_arguments(scheduler, generator, eta)
    guided, conditional_only = context, context.split(len(latents))[-1]
    rows = len(context.states) // len(latents)
    first, last = (0, 1) if interval is None else interval
    for i, t in enumerate(scheduler.timesteps):
        guide = rows > 1 and first <= i / len(scheduler.timesteps) < last
        seen = guided if guide else conditional_only
        model_input = torch.cat([latents] * rows) if guide else latents
        model_input = scheduler.scale_model_input(model_input, t)
        output = unet(model_input, t, **seen.unet_arguments()).sample
        if guide:
            output = _guide(output.chunk(rows), *scales)
        latents = stepped(i, int(t), scheduler.step(output, t, latents, **extra).prev_sample)
    return latents


def pass_over(scheduler: SchedulerMixin, noise: Tensor, steps: int, eta: float, generator) -> None:
    """Take from the generator what denoising a frame takes."""
    scheduler.set_timesteps(steps, device=noise.device)
    extra = _extra_step_arguments(scheduler, generator, eta)
    for t in scheduler.timesteps:
        scheduler.scale_model_input(noise, t)  # some keep count
        scheduler.step(torch.zeros_like(noise), t, noise, **extra)


def calls(scheduler: SchedulerMixin, steps: int) -> int:
    """How often the U-Net is asked: some samplers need a few more calls than steps."""
    scheduler.set_timesteps(steps)
    return len(scheduler.timesteps)


def _extra_step_arguments(scheduler: SchedulerMixin, generator, eta: float) -> dict:
    """The arguments of `scheduler.step` that only some schedulers take."""
    accepted = signature(scheduler.step).parameters
    extra = {"eta": eta, "generator": generator}
    return {name: value for name, value in extra.items() if name in accepted}


def _guide(outputs: Sequence[Tensor], scale: float, history_scale: float | None) -> Tensor:
    """Classifier-free guidance; of three outputs, apart for the caption and the history."""
    unconditional, conditional = outputs[0], outputs[1]
    guided = unconditional + scale * (conditional - unconditional)
    return guided if len(outputs) == 2 else guided + history_scale * (outputs[2] - conditional)
