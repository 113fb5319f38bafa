"""Runs `StoryPipeline` over a recorded batch with the recorded noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
from torch import Tensor

from models import pipeline as pipeline_module
from models.components import Components
from models.frames import decode_latents
from models.pipeline import StoryPipeline
from tests.golden.model import MEAN, STD

__all__ = ["Replay"]


class _RecordedIds:
    """Stands in for a tokenizer: hands out recorded ids and masks, (B, K, S) each."""

    def __init__(self, ids: Tensor, mask: Tensor) -> None:
        self.out = {"input_ids": ids.flatten(0, 1), "attention_mask": mask.flatten(0, 1)}

    def __call__(self, *_, **__) -> dict:
        return self.out


@dataclass
class Replay:
    """V target frames of B stories, drawn as recorded; guidance 6 and eta 0.

    Args:
        noise: (V, B, c, h, w), a frame's first latents.
        feed_back: uint8 (V, B, H, W, 3) to put into the history instead of what was drawn.
    """

    parts: Components
    batch: dict
    noise: Tensor
    scheduler: str
    steps: int
    feed_back: Tensor | None = None
    latents: list[Tensor] = field(default_factory=list)  # a frame's last ones, scaled
    frames: list[Tensor] = field(default_factory=list)  # uint8 (B, 3, H, W) as we decode them
    history: list[Tensor] = field(default_factory=list)  # what BLIP made of null, given and drawn
    calls: list[dict] = field(default_factory=list)  # the U-Net's inputs and outputs
    given: Iterator[Tensor] = iter(())  # what BLIP sees of given frames

    @torch.no_grad()
    def run(self, targets: int | None = None) -> Replay:
        """Draw the first `targets` frames (all)."""
        batch, given = self.batch, self.batch["history_ids"].shape[1] - len(self.noise)
        count = (targets or len(self.noise)) + given
        pad = torch.zeros_like(batch["caption_ids"][:, :given])
        ids = torch.cat([pad, batch["caption_ids"]], dim=1)[:, :count]
        mask = torch.cat([pad.bool(), batch["caption_mask"]], dim=1)[:, :count]
        pipeline = StoryPipeline.from_components(self.parts, self.scheduler)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.clip_tokenizer = _RecordedIds(ids, mask)
        pipeline.blip_tokenizer = _RecordedIds(
            batch["history_ids"][:, :count], batch["history_mask"][:, :count]
        )
        pipeline.history_transform = self._transform
        noise, conditioner = iter(self.noise), self.parts.conditioner
        encode = conditioner.encode_history
        size = self.parts.image_size
        frames = torch.zeros(len(ids), 3, size, size, dtype=torch.uint8) if given else None
        # Of given frames, which come first, the recording has what BLIP sees, and no more.
        self.given = iter(batch["history_images"][:, 0] if given else ())
        with ExitStack() as stack:
            stack.enter_context(
                patch.object(pipeline_module, "randn_tensor", lambda *_, **__: next(noise))
            )
            stack.enter_context(patch.object(pipeline_module, "decode_latents", self._decode))
            stack.enter_context(
                patch.object(conditioner, "encode_history", lambda *a: self._keep(encode(*a)))
            )
            hook = self.parts.unet.register_forward_hook(self._call, with_kwargs=True)
            stack.callback(hook.remove)
            pipeline(
                [["-"] * count] * len(ids),
                frames,
                num_inference_steps=self.steps,
                guidance_scale=6.0,
                output_type="uint8",
            )
        return self

    def _transform(self, frames: Tensor) -> Tensor:
        if (given := next(self.given, None)) is not None:
            return given[None]
        images = self.parts.history_transform(frames)
        if self.noise.dtype == torch.float32:
            return images
        # The recording normalised in float64. Ours does in float32: to pixels and back again.
        mean, std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in (MEAN, STD))
        pixels = ((images * std + mean) * 255).round()
        return (pixels / 255 - mean) / std

    def _decode(self, vae, latents: Tensor) -> Tensor:
        self.latents.append(latents)
        self.frames.append(decode_latents(vae, latents))
        if self.feed_back is None:
            return self.frames[-1]
        return self.feed_back[len(self.frames) - 1].permute(0, 3, 1, 2)

    def _keep(self, states: Tensor) -> Tensor:
        self.history.append(states)
        return states

    def _call(self, unet, args, kwargs, output) -> None:
        self.calls.append({"timestep": int(args[1]), "output": output.sample, **kwargs})
