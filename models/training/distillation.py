"""Latent consistency distillation: a trained model learns to draw in a few steps (2310.04378)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from models.components import Components
from models.conditioning import Context
from models.schedulers import LCM_STEPS, sampling_scheduler
from models.story_batch import StoryBatch
from models.training.half_weights import cast_weights
from models.training.story_model import StoryModel
from models.training.tuning import has_lora

__all__ = ["DistilledStoryModel"]

HUBER = 1e-3  # c of the pseudo-Huber distance sqrt(d² + c²) - c: below it squared, above it linear


class DistilledStoryModel(StoryModel):
    """Trains the U-Net of `parts` to tell, from any noise level, where its former self would end.

    The teacher, the U-Net as it is now, takes one DDIM step from x_t to x_s, guided at a fixed
    scale; the student's answers at both must agree. At x_0 it answers with x_0 itself. The
    conditioner is frozen: both see the same captions and history.

    Args:
        guidance_scale: the teacher's, which the student draws as if with, in one pass.
        teacher_steps: how many of its steps lead from noise to a picture. Fewer are less exact,
            but what is learnt at the end of them reaches the beginning sooner.
        how: as `StoryModel` takes it. With LoRA the teacher is the U-Net without it, and no copy.
    """

    def __init__(
        self,
        parts: Components,
        guidance_scale: float = 1.0,
        teacher_steps: int = LCM_STEPS,
        **how: Any,
    ) -> None:
        teacher = None if has_lora(parts.unet) else _Teacher(deepcopy(parts.unet))
        parts.conditioner.requires_grad_(False)
        # These would leave token tables to train.
        super().__init__(parts, **{**how, "freeze_clip": False, "freeze_blip": False})
        self.frozen_encoders = list(self.conditioner.encoders)
        self.teacher, self.guidance_scale = teacher, guidance_scale
        self.jump = self.schedule.config.num_train_timesteps // teacher_steps
        frozen = how.get("frozen_dtype", torch.float32)
        if teacher is not None and frozen != torch.float32:
            cast_weights(teacher, frozen, trained=False)
        self.boundary = sampling_scheduler("lcm", parts.scheduler_config)

    def _draws(self, latents: Tensor, generator: torch.Generator | None = None):
        """Noise, and for each of latents (N, c, h, w) a timestep that the sampler may ask at."""
        noise, timesteps = super()._draws(latents, generator)
        stride = self.schedule.config.num_train_timesteps // LCM_STEPS
        return noise, timesteps - timesteps % stride + stride - 1

    def noise_loss(
        self,
        batch: StoryBatch,
        latents: Tensor,
        noise: Tensor,
        timesteps: Tensor,
        unconditional: Tensor,
    ) -> Tensor:
        """Pseudo-Huber distance of the student's answers at both ends of the teacher's step.

        Shapes as `StoryModel.noise_loss`; no frame is `unconditional` here.
        """
        none, null = torch.zeros_like(unconditional), None
        with torch.no_grad():
            context = self.conditioner(batch, none)
            if self.guidance_scale != 1:
                null = self.conditioner(batch, ~none)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        size = self.frames_per_micro_batch or len(noisy)
        nulls = null.split(size) if null else [None] * -(-len(noisy) // size)
        frames = (rows.split(size) for rows in (noisy, timesteps, context))
        parts = zip(*frames, nulls, strict=True)
        target = torch.cat([self._target_of(*part) for part in parts])
        torch.clear_autocast_cache()  # of weights cast where nothing has gradients
        return self._mean_error(noisy, timesteps, target, context)

    @torch.no_grad()
    def _target_of(
        self, noisy: Tensor, timesteps: Tensor, context: Context, null: Context | None
    ) -> Tensor:
        """The student's answer (N, c, h, w) after one step of the teacher from noisy latents."""
        with self._teaching() as teacher:
            clean = self._clean(teacher, noisy, timesteps, context)
            if null is not None:
                empty = self._clean(teacher, noisy, timesteps, null)
                clean = empty + self.guidance_scale * (clean - empty)
        signal, spread = self._levels(timesteps)
        noise = (noisy - signal * clean) / spread
        earlier = (timesteps - self.jump).clamp(min=0)
        signal, spread = self._levels(earlier)
        return self.answer(signal * clean + spread * noise, earlier, context)  # DDIM, eta 0

    def answer(self, noisy: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        """The consistency function f (N, c, h, w): what `LCMScheduler` takes for clean latents."""
        clean = self._clean(self.unet, noisy, timesteps, context)
        rows = timesteps[:, None, None, None].float()
        skip, out = self.boundary.get_scalings_for_boundary_condition_discrete(rows)
        return skip * noisy + out * clean

    def _summed_error(
        self, noisy: Tensor, timesteps: Tensor, target: Tensor, context: Context
    ) -> Tensor:
        off = self.answer(noisy, timesteps, context) - target
        return ((off**2 + HUBER**2).sqrt() - HUBER).sum()

    def _clean(self, unet: nn.Module, noisy: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        """The clean latents (N, c, h, w) that a prediction of whatever kind comes to."""
        predicted = unet(noisy, timesteps, **context.unet_arguments()).sample.float()
        kind = self.schedule.config.prediction_type
        if kind == "sample":
            return predicted
        signal, spread = self._levels(timesteps)
        if kind == "epsilon":
            return (noisy - spread * predicted) / signal
        return signal * noisy - spread * predicted

    def _levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Factors (N, 1, 1, 1) of clean latents and of noise in noisy ones."""
        alphas = self.schedule.alphas_cumprod.to(timesteps.device)[timesteps][:, None, None, None]
        return alphas.sqrt(), (1 - alphas).sqrt()

    @contextmanager
    def _teaching(self) -> Iterator[nn.Module]:
        if self.teacher is not None:
            yield self.teacher.unet
            return
        self.unet.disable_adapters()
        try:
            yield self.unet
        finally:
            self.unet.enable_adapters()


class _Teacher(nn.Module):
    """A U-Net that stays as it is, and so is in no checkpoint: the base has it."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet.requires_grad_(False).eval()
        self.register_load_state_dict_post_hook(self._miss_nothing)

    def train(self, mode: bool = True) -> _Teacher:
        return super().train(False)

    def state_dict(self, *args: Any, destination: dict | None = None, **how: Any) -> dict:
        return {} if destination is None else destination

    @staticmethod
    def _miss_nothing(module: nn.Module, incompatible: Any) -> None:
        missing = incompatible.missing_keys
        missing[:] = [key for key in missing if ".teacher." not in f".{key}"]
