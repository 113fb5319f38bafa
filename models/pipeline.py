"""The auto-regressive sampler: captions in, frames out, one after another (AR-LDM, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from models.components import Components
from models.conditioning import Context, first_visible
from models.cross_attention import context_projected_once
from models.frames import decode_latents, downscale
from models.schedulers import sampling_scheduler
from models.seeds import seed_of
from models.story_batch import StoryPrompt

__all__ = ["StoryPipeline", "StoryPipelineOutput", "story_generator"]


@dataclass
class StoryPipelineOutput(BaseOutput):
    """frames: uint8 (B, K, 3, H, W), given frames included.

    history_weights: (B, K, K), how much frame n looked at each earlier one; None without
    `HistoryWeighting`. A row's sum is 1, or 0 for a frame that was given or had no history.
    """

    frames: Tensor
    history_weights: Tensor | None = None


def story_generator(seed: int, story_id: str) -> torch.Generator:
    """The noise of one story."""
    return torch.Generator().manual_seed(seed_of(seed, story_id))


class StoryPipeline(DiffusionPipeline):
    """Draws the frames of stories; every frame sees all captions and frames before it."""

    def __init__(
        self, conditioner, vae, unet, scheduler, clip_tokenizer, blip_tokenizer,
        history_transform, max_length: int, image_size: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler)
        self.conditioner = conditioner
        self.clip_tokenizer = clip_tokenizer
        self.blip_tokenizer = blip_tokenizer
        self.history_transform = history_transform
        self.max_length = max_length
        self.image_size = image_size
        self._kept_null_states: tuple[tuple, tuple[Tensor, Tensor]] | None = None

    @classmethod
    def from_components(cls, parts: Components, scheduler: str = "ddim") -> StoryPipeline:
        """A pipeline over `parts`, sampling with the scheduler called `scheduler`."""
        return cls(
            parts.conditioner,
            parts.vae,
            parts.unet,
            sampling_scheduler(scheduler, parts.scheduler_config),
            parts.clip_tokenizer,
            parts.blip_tokenizer,
            parts.history_transform,
            parts.max_length,
            parts.image_size,
        )

    def draw(
        self, prompts: Sequence[StoryPrompt], seed: int, continuation: bool, **sampling
    ) -> StoryPipelineOutput:
        """Stories as the program draws them: each from a stream of noise of its own.

        A story's pictures hang on `seed` and its id, not on the batch or process that draws it.

        Args:
            prompts: B stories of equal length; with `continuation` their first frames are given.
            sampling: arguments of `__call__`.
        """
        first_frames = None
        if continuation:
            frames = (torch.from_numpy(prompt.first_frame) for prompt in prompts)
            first_frames = [frame.permute(2, 0, 1) for frame in frames]
        generators = [story_generator(seed, prompt.story_id) for prompt in prompts]
        captions = [prompt.captions for prompt in prompts]
        return self(captions, first_frames, generator=generators, **sampling)

    @torch.no_grad()
    def __call__(
        self,
        captions: Sequence[Sequence[str]],
        first_frames: Sequence[Tensor] | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 6.0,
        guidance_interval: Sequence[float] | None = None,
        eta: float = 0.0,
        use_history: bool = True,
        generator: Sequence[torch.Generator] | torch.Generator | None = None,
        callback_on_step_end: Callable[[StoryPipeline, int, int, dict], dict] | None = None,
        first_frame_inference_steps: int | None = None,
    ) -> StoryPipelineOutput:
        """Sample B stories of K frames each.

        Args:
            captions: B stories of K captions.
            first_frames: B given frames (continuation), each uint8 (3, H, W) of its own size; the
                history sees them as they are, the result shows them at ours. None draws all.
            guidance_scale: g in `uncond + g * (cond - uncond)`; 1 skips the unconditional half.
            guidance_interval: (from, to), shares of the steps: 0 is noise, 1 the picture. Outside
                of it there is no guidance, which saves half of a step; None: all steps.
            use_history: False hides all earlier frames and captions from every frame.
            generator: one, or one a story (then a story does not depend on its batch).
            callback_on_step_end: called as `(pipeline, step, timestep, {"frame", "latents"})`.
            first_frame_inference_steps: denoising steps of a first frame that is drawn, which
                decides what captions leave open; None: as many as the others.

        Raises:
            ValueError: stories of unequal length, or longer than the time table reaches.
        """
        frames_per_story = self._check(captions, first_frames)
        stories, device = len(captions), self.unet.device
        # Not the U-Net's: its frozen parts may be in half precision, for autocast.
        dtype = self.conditioner.type_embeddings.weight.dtype
        ids, mask = self._tokens(self.clip_tokenizer, captions)  # (B, K, S)
        history_ids, history_mask = self._tokens(self.blip_tokenizer, captions)
        null_states = self._null_states(dtype) if guidance_scale != 1 else None
        given = 0 if first_frames is None else 1
        captions_at_once = ids[:, given:].flatten(0, 1), mask[:, given:].flatten(0, 1)
        caption_states = self.conditioner.encode_captions(*captions_at_once)
        caption_states = caption_states.unflatten(0, (stories, -1))  # (B, K - given, S, D)
        history = []  # BLIP states (B, S, D) of the finished frames
        frames = [] if first_frames is None else [self._fitted(first_frames).to(device)]
        weights = None
        if self.conditioner.history_weighting is not None and use_history:
            weights = torch.zeros(stories, frames_per_story, frames_per_story)
        latents_shape = self._latents_shape(stories)

        def remember(k: int) -> None:
            # Given frames go from their own size to BLIP's at once, as training's pictures do.
            pictures = [frame[None] for frame in first_frames] if k < given else [frames[k]]
            images = torch.cat([self.history_transform(picture) for picture in pictures])
            images = images.to(device, dtype)  # (B, 3, h, w)
            history.append(
                self.conditioner.encode_history(images, history_ids[:, k], history_mask[:, k])
            )

        steps = [num_inference_steps] * frames_per_story
        steps[0] = first_frame_inference_steps or num_inference_steps
        with self.progress_bar(total=sum(map(self._calls, steps[len(frames) :]))) as bar:
            for k in range(frames_per_story):
                if k == len(frames):  # not given
                    first = max(0, first_visible(len(history), self.conditioner.history_window))
                    context = self._context(
                        caption_states[:, k - given], mask[:, k], history[first:],
                        history_mask[:, first : len(history)], null_states, first,
                    )  # fmt: skip
                    if weights is not None and context.weights is not None:
                        weights[:, k, first : len(history)] = context.weights[-stories:].cpu()
                    latents = randn_tensor(latents_shape, generator, device, dtype)
                    with context_projected_once(self.unet):
                        latents = self._denoise(
                            latents, context, k, steps[k], guidance_scale, guidance_interval, eta,
                            generator, callback_on_step_end, bar,
                        )  # fmt: skip
                    frames.append(decode_latents(self.vae, latents))
                if k + 1 < frames_per_story and use_history:
                    remember(k)
        return StoryPipelineOutput(torch.stack(frames, dim=1), weights)

    def _context(
        self, captions, mask, history, history_mask, null_states, first_slot=0
    ) -> Context:
        """The context of one frame: with null states unconditional rows first, then the others."""
        rows = len(captions)
        empty = captions.new_zeros(rows, 0, *captions.shape[1:])
        states = torch.stack(history, dim=1) if history else empty  # (B, k, S, D)
        visible = torch.ones(rows, len(history), dtype=torch.bool, device=captions.device)
        halves = (
            self.conditioner.assemble(
                captions,
                mask,
                states,
                history_mask,
                visible,
                torch.full((rows,), unconditional, device=captions.device),
                null_states,
                first_slot,
            )  # fmt: skip
            for unconditional in ((True, False) if null_states else (False,))
        )
        return Context.cat(list(halves)).without_unseen()

    def _null_states(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The classifier-free blocks, encoded again only when weights or types have changed."""
        parameters = self.conditioner.parameters()
        made_with = (
            self.unet.device, dtype, torch.is_autocast_enabled(self.unet.device.type),
            self.conditioner.training, *((id(p), p.data_ptr(), p._version) for p in parameters),
        )  # fmt: skip
        if self._kept_null_states is None or self._kept_null_states[0] != made_with:
            self._kept_null_states = made_with, self.conditioner.null_states()
        return self._kept_null_states[1]

    def _denoise(self, latents, context, k, steps, scale, interval, eta, generator, callback, bar):
        """One frame's latents (B, c, h, w) from noise to clean."""
        self.scheduler.set_timesteps(steps, device=latents.device)
        latents = latents * self.scheduler.init_noise_sigma
        extra = self._extra_step_arguments(generator, eta)
        guided, conditional_only = context, context.split(len(latents))[-1]
        timesteps = self.scheduler.timesteps
        first, last = (0, 1) if interval is None else interval
        for i, t in enumerate(timesteps):
            guide = scale != 1 and first <= i / len(timesteps) < last
            context = guided if guide else conditional_only
            model_input = torch.cat([latents, latents]) if guide else latents
            model_input = self.scheduler.scale_model_input(model_input, t)
            output = self.unet(model_input, t, **context.unet_arguments()).sample
            if guide:
                unconditional, conditional = output.chunk(2)
                output = unconditional + scale * (conditional - unconditional)
            latents = self.scheduler.step(output, t, latents, **extra).prev_sample
            if callback is not None:
                update = callback(self, i, int(t), {"frame": k, "latents": latents})
                latents = update.get("latents", latents)
            bar.update()
        return latents

    def _extra_step_arguments(self, generator, eta: float) -> dict:
        """The arguments of `scheduler.step` that only some schedulers take."""
        accepted = signature(self.scheduler.step).parameters
        extra = {"eta": eta, "generator": generator}
        return {name: value for name, value in extra.items() if name in accepted}

    def _calls(self, steps: int) -> int:
        """How often the U-Net is asked: some samplers need a few more calls than steps."""
        self.scheduler.set_timesteps(steps)
        return len(self.scheduler.timesteps)

    def _tokens(self, tokenizer, captions) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, K, S) of B stories of K captions."""
        flat = tokenizer(
            [caption for story in captions for caption in story],
            padding="max_length",
            max_length=self.max_length,
            truncation=True,
            return_tensors="pt",
        )
        shape, device = (len(captions), len(captions[0])), self.unet.device
        mask = flat["attention_mask"].bool()
        return flat["input_ids"].unflatten(0, shape).to(device), mask.unflatten(0, shape).to(device)

    def _latents_shape(self, stories: int) -> tuple[int, ...]:
        size = self.image_size // downscale(self.vae)
        return stories, self.unet.config.in_channels, size, size

    def _fitted(self, frames: Sequence[Tensor]) -> Tensor:
        """Frames (3, H, W) uint8 of any sizes at ours, (B, 3, size, size)."""
        size = [self.image_size, self.image_size]
        return torch.stack([F.resize(frame, size, antialias=True) for frame in frames])

    def _check(
        self, captions: Sequence[Sequence[str]], first_frames: Sequence[Tensor] | None
    ) -> int:
        lengths = {len(story) for story in captions}
        if len(lengths) != 1:
            raise ValueError(f"stories drawn together have {sorted(lengths)} captions: give equal")
        (length,) = lengths
        longest = self.conditioner.slots + 1
        if not 1 <= length <= longest:
            raise ValueError(
                f"a story of {length} captions is out of reach: this model's time table of "
                f"{self.conditioner.slots} allows 1 to {longest} frames; split the story"
            )
        if first_frames is not None and len(first_frames) != len(captions):
            raise ValueError(f"{len(first_frames)} first frames for {len(captions)} stories")
        return length
