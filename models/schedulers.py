"""Noise schedules by name, set up from the diffusion model's own scheduler configuration."""

from __future__ import annotations

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

__all__ = ["SCHEDULERS", "sampling_scheduler", "training_schedule"]

# The settings upstream builds its two samplers with; the others are the library's own.
SCHEDULERS = {
    "ddim": (DDIMScheduler, dict(clip_sample=False, set_alpha_to_one=True, steps_offset=0)),
    "pndm": (PNDMScheduler, dict(skip_prk_steps=True, set_alpha_to_one=False, steps_offset=0)),
    "dpm++": (DPMSolverMultistepScheduler, dict(algorithm_type="dpmsolver++")),
    "unipc": (UniPCMultistepScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
}


def training_schedule(config: dict) -> DDPMScheduler:
    """The forward process of the model whose scheduler configuration is `config`."""
    return DDPMScheduler.from_config(config, clip_sample=False)


def sampling_scheduler(name: str, config: dict):
    """The sampler called `name` over the betas and prediction type of `config`.

    Raises:
        ValueError: there is none of that name, or it cannot use what the model predicts.
    """
    if name not in SCHEDULERS:
        raise ValueError(f"scheduler: {name!r} is unknown; use one of {', '.join(SCHEDULERS)}")
    kind = config.get("prediction_type", "epsilon")
    if name == "pndm" and kind == "sample":
        raise ValueError(
            f"scheduler: 'pndm' cannot draw with a model that predicts {kind!r}, as this one "
            f"does; use one of {', '.join(other for other in SCHEDULERS if other != name)}"
        )
    cls, settings = SCHEDULERS[name]
    return cls.from_config(config, **settings)
