"""Noise schedules by name, set up from the diffusion model's own scheduler configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the checks of the configuration want the names only, and at once
    from diffusers import DDPMScheduler, SchedulerMixin

__all__ = ["LCM_STEPS", "SCHEDULERS", "sampling_scheduler", "training_schedule", "usable_samplers"]

# The settings upstream builds its two samplers with. The others take Karras et al.'s noise levels
# (arXiv 2206.00364, eq. 5): with those of Stable Diffusion's configuration, 20 steps of DPM++ ended
# 10 of 255 away from DDIM's limit, with these 0.7 (tests/models/test_samplers.py).
KARRAS = dict(use_karras_sigmas=True, timestep_spacing="linspace")
LCM_STEPS = 50  # of the teacher, among which the few are chosen: the published ones
SCHEDULERS = {  # name -> diffusers' class, its settings
    "ddim": ("DDIMScheduler", dict(clip_sample=False, set_alpha_to_one=True, steps_offset=0)),
    "pndm": ("PNDMScheduler", dict(skip_prk_steps=True, set_alpha_to_one=False, steps_offset=0)),
    "dpm++": ("DPMSolverMultistepScheduler", dict(algorithm_type="dpmsolver++", **KARRAS)),
    "sde-dpm++": (
        "DPMSolverMultistepScheduler",
        dict(algorithm_type="sde-dpmsolver++", **KARRAS),
    ),
    "unipc": ("UniPCMultistepScheduler", KARRAS),
    "euler": ("EulerDiscreteScheduler", KARRAS),
    "euler-a": ("EulerAncestralDiscreteScheduler", dict(timestep_spacing="linspace")),
    "lcm": ("LCMScheduler", dict(original_inference_steps=LCM_STEPS, set_alpha_to_one=True)),
}
NOISE_ONLY = ("pndm", "euler-a")  # cannot use a model that predicts pictures


def training_schedule(config: dict) -> DDPMScheduler:
    """The forward process of the model whose scheduler configuration is `config`."""
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(config, clip_sample=False)


def usable_samplers(config: Mapping) -> list[str]:
    """Those that can draw with what the model of that scheduler configuration predicts."""
    pictures = config.get("prediction_type", "epsilon") == "sample"
    return [name for name in SCHEDULERS if not (pictures and name in NOISE_ONLY)]


def sampling_scheduler(name: str, config: dict) -> SchedulerMixin:
    """The sampler called `name` over the betas and prediction type of `config`.

    Raises:
        ValueError: there is none of that name, or it cannot use what the model predicts.
    """
    if name not in SCHEDULERS:
        raise ValueError(f"scheduler: {name!r} is unknown; use one of {', '.join(SCHEDULERS)}")
    if name not in (usable := usable_samplers(config)):
        raise ValueError(
            f"scheduler: {name!r} cannot draw with a model that predicts "
            f"{config['prediction_type']!r}, as this one does; use one of {', '.join(usable)}"
        )
    import diffusers

    cls, settings = SCHEDULERS[name]
    return getattr(diffusers, cls).from_config(config, **settings)
