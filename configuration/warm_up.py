"""How long the learning rate rises, which must end before training does."""

from __future__ import annotations

import math

from omegaconf import DictConfig

from configuration.rules import ConfigError
from models.main_process import say

__all__ = ["warmup_steps"]


def warmup_steps(config: DictConfig, steps_an_epoch: float) -> int:
    """Optimiser steps of warm-up; ConfigError if it would never end.

    `max_steps` may end training before that, as a trial of a long one, but not unsaid.
    """
    key = "warmup_epochs" if config.warmup_steps is None else "warmup_steps"
    steps = config[key] * (steps_an_epoch if key == "warmup_epochs" else 1)
    # An epoch takes its last stories too, however few.
    whole, most = config.max_epochs * math.ceil(steps_an_epoch), config.max_steps
    if steps and 0 < most < whole and steps >= most:
        say(
            f"{key} is {config[key]}, so the warm-up is not over when max_steps={most} ends "
            f"training: unless this is a trial, lower {key}"
        )
    elif steps and steps >= whole and not 0 < most < whole:
        raise ConfigError(
            f"{key} is {config[key]}, but training has {whole:,} optimiser steps: the warm-up "
            f"would never end; lower {key}"
        )
    return round(steps)
