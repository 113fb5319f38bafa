"""The auto-regressive sampler: captions in, frames out, one after another (AR-LDM, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin, UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import BertTokenizer, CLIPTextModel, CLIPTokenizer

from models.caption_tokenizer import EXACT, read_blip, read_clip
from models.causal_story.add_ons import CausalStoryAddOns
from models.conditioning import Context, first_visible, frames_in_sight
from models.cross_attention import context_projected_once
from models.denoising import calls, denoise, pass_over
from models.frames import (
    OUTPUT_TYPES,
    Picture,
    as_tensor,
    decode_latents,
    downscale,
    fitted,
    listed,
    sides,
)
from models.pipeline_inputs import (
    check_generators,
    check_known,
    check_numbers,
    check_output,
    frames_reached,
    stories_of,
)
from models.pipeline_output import StoryPipelineOutput
from models.schedulers import sampling_scheduler
from models.seeds import story_generator
from models.sharing.loras import LoraLoading
from models.sharing.pipeline_folder import OWN_PARTS, PipelineFolder
from models.story_batch import StoryPrompt
from models.weight_layout import lay_out

if TYPE_CHECKING:
    from models.components import Components

__all__ = ["StoryPipeline"]

TOKENIZATION = {"new_tokens": (), "new_tokens_match": EXACT, "max_length": 77}


class StoryPipeline(PipelineFolder, DiffusionPipeline, LoraLoading):
    """Draws the frames of stories; every frame sees all captions and frames before it.

    Args:
        vae, unet, scheduler: as Stable Diffusion's; tokenizer, history_tokenizer: CLIP's and that
            of the model which reads earlier frames.
        conditioner: `HistoryConditioner`; add_ons: `CausalStoryAddOns`, or None for AR-LDM.
        tokenization: how captions become tokens: `new_tokens`, `new_tokens_match` (see
            `models.caption_tokenizer`), `max_length`, `new_words` that were learnt later.
        height, width: of drawn frames, in pixels.
        trained_for: what else is known of the training (`task`, `dataset`, `scheduler`, the
            diffusion model's own configuration of it, …).
    """

    model_cpu_offload_seq = "conditioner->unet->vae"
    _optional_components = ["add_ons"]  # noqa: RUF012 (the library's way to say it)
    _exclude_from_cpu_offload = ["add_ons"]  # noqa: RUF012

    def __init__(
        self,
        vae: ModelMixin,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        tokenizer: CLIPTokenizer,
        history_tokenizer: BertTokenizer,
        conditioner: ModelMixin,
        add_ons: ModelMixin | None = None,
        tokenization: dict | None = None,
        height: int = 512,
        width: int = 512,
        trained_for: dict | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            tokenizer=tokenizer,
            history_tokenizer=history_tokenizer,
            conditioner=conditioner,
            add_ons=add_ons,
        )
        own = {name: part for name in OWN_PARTS if (part := getattr(self, name)) is not None}
        self.register_to_config(
            **{name: ("models", type(part).__name__) for name, part in own.items()},
            tokenization={**TOKENIZATION, **(tokenization or {})},
            height=height,
            width=width,
            trained_for=trained_for or {},
        )
        if add_ons is not None:
            add_ons.put_on(unet, conditioner)
        for part in (vae, unet, conditioner, add_ons):
            if part is not None:
                lay_out(part, channels_last=part in (vae, unet))
        words = self.config.tokenization
        read = ((read_clip, tokenizer), (read_blip, history_tokenizer))
        self.clip_tokenizer, self.blip_tokenizer = (
            how(each, words["new_tokens"], words["new_tokens_match"]) if each is not None else None
            for how, each in read
        )
        for each in (self.clip_tokenizer, self.blip_tokenizer):
            if each is not None:
                each.add_words(words.get("new_words", ()))
        self.history_transform = conditioner.history_transform

    @classmethod
    def from_components(
        cls, parts: Components, scheduler: str = "ddim", trained_for: dict | None = None
    ) -> StoryPipeline:
        """A pipeline over `parts`, sampling with the scheduler called `scheduler`."""
        prefix = "causal_story."
        used = {k.removeprefix(prefix): v for k, v in parts.add_ons.items() if prefix in k}
        pipeline = cls(
            parts.vae,
            parts.unet,
            sampling_scheduler(scheduler, parts.scheduler_config),
            getattr(parts.clip_tokenizer, "tokenizer", parts.clip_tokenizer),
            getattr(parts.blip_tokenizer, "tokenizer", parts.blip_tokenizer),
            parts.conditioner,
            CausalStoryAddOns.of(parts.unet, parts.conditioner, used),
            {**parts.tokenization, "max_length": parts.max_length},
            height=sides(parts.image_size)[0],
            width=sides(parts.image_size)[1],
            trained_for=trained_for,
        )
        pipeline.clip_tokenizer = parts.clip_tokenizer
        pipeline.blip_tokenizer = parts.blip_tokenizer
        pipeline.history_transform = parts.history_transform
        return pipeline

    @property
    def text_encoder(self) -> CLIPTextModel:
        """CLIP's, where LoRA loaders look for it."""
        return self.conditioner.text_encoder

    def draw(
        self, prompts: Sequence[StoryPrompt], seed: int, continuation: bool, **sampling
    ) -> StoryPipelineOutput:
        """Stories as the program draws them: each from a stream of noise of its own.

        A story's pictures hang on `seed` and its id, not on the batch or process that draws it.

        Args:
            prompts: B stories of equal length; with `continuation` their first frames are given.
            sampling: arguments of `__call__`.
        """
        image = [prompt.first_frame for prompt in prompts] if continuation else None
        generators = [story_generator(seed, prompt.story_id) for prompt in prompts]
        captions = [prompt.captions for prompt in prompts]
        return self(captions, image, generator=generators, output_type="uint8", **sampling)

    def redraw(
        self, captions: Sequence[str], keep: Mapping[int, Picture], seed: int, name: str, **sampling
    ) -> StoryPipelineOutput:
        """Draw the frames of a story that `keep` lacks.

        Args:
            keep: frames that are there already, which later ones see.
            name: of the noise beside `seed`, such as "STORY/FRAME/NUMBER"; others are drawn anew.
            sampling: arguments of `__call__`.
        """
        frames = {k: [picture] for k, picture in keep.items()}
        noise = story_generator(seed, name)
        how = {"frames": frames, "generator": noise, "output_type": "uint8", **sampling}
        return self([captions], **how)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | Sequence[Sequence[str]],
        image: Picture | Sequence[Picture] | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 6.0,
        guidance_interval: Sequence[float] | None = None,
        history_guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        eta: float = 0.0,
        use_history: bool = True,
        frames: Mapping[int, Sequence[Picture]] | None = None,
        noise_used_by: Collection[int] = (),
        history_frames: int | None = None,
        keep_first_frame: bool = False,
        generator: Sequence[torch.Generator] | torch.Generator | None = None,
        height: int | None = None,
        width: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[StoryPipeline, int, int, dict], dict] | None = None,
        first_frame_inference_steps: int | None = None,
        callback_on_frame_end: Callable[[StoryPipeline, int, Tensor], None] | None = None,
    ) -> StoryPipelineOutput | tuple:
        """Sample B stories of K frames each.

        Args:
            prompt: the K captions of a story, or those of B stories; a text is a story of one.
            image: the given first frame (continuation) of the story, or of each: a PIL image,
                (H, W, 3) uint8 or a tensor (3, H, W) uint8, each of its own size; the history sees
                it as it is, the result shows it at ours, squashed to that. None draws all.
            guidance_scale: g in `uncond + g * (cond - uncond)`; 1 skips the unconditional half.
            guidance_interval: (from, to), shares of the steps: 0 is noise, 1 the picture. Outside
                of it there is no guidance, which saves half of a step; None: all steps.
            history_guidance_scale: h in `uncond + g * (caption - uncond) + h * (cond - caption)`,
                where `caption` has the caption but no history; None: as guidance_scale, which is
                the same as above. A third row in every step.
            negative_prompt: what to steer away from, in place of the empty caption.
            use_history: False hides all earlier frames and captions from every frame.
            frames: what else is there already, by its number in the story, a picture of each story:
                it is not drawn, but seen by what comes after it.
            noise_used_by: which of these `generator` has drawn before: as much of its noise is
                passed over, so that those after them come out as they did.
            history_frames: how many of the frames before it a frame sees, the last ones, their
                slots numbered anew for every frame; None: one fewer than the time table has, as
                many as training stories of its length ever show.
            keep_first_frame: the first of these is the story's first frame, however long ago.
            generator: one, or one a story (then a story does not depend on its batch).
            height, width: of the frames; the model's own if None.
            output_type: what `frames` of the result is, see `StoryPipelineOutput`.
            callback_on_step_end: called as `(pipeline, step, timestep, {"frame", "latents"})`.
            first_frame_inference_steps: denoising steps of a first frame that is drawn, which
                decides what captions leave open; None: as many as the others.
            callback_on_frame_end: called as `(pipeline, frame, pictures)` as soon as a frame is
                drawn, with uint8 (B, 3, H, W).

        Raises:
            ValueError: stories of unequal length; more history than the time table reaches; a size,
                a number of steps or an output type that there is not.
        """
        captions = stories_of(prompt)
        stories, frames_per_story = len(captions), len(captions[0])
        check_numbers(
            num_inference_steps=num_inference_steps,
            first_frame_inference_steps=first_frame_inference_steps or num_inference_steps,
            guidance_scale=guidance_scale,
            history_guidance_scale=history_guidance_scale or 0,
            eta=eta,
        )
        if not isinstance(negative_prompt, str | None):
            raise ValueError(f"negative_prompt={negative_prompt!r:.80}: give one text")
        check_generators(generator, stories)
        known = {k: list(map(as_tensor, shown)) for k, shown in (frames or {}).items()}
        if image is not None:
            known[0] = list(map(as_tensor, listed(image)))
        height = self.config.height if height is None else height
        width = self.config.width if width is None else width
        size = (height, width)
        check_output(self.vae, size, output_type)
        check_known(known, stories, frames_per_story)
        device = self._execution_device
        # Not the U-Net's: its frozen parts may be in half precision, for autocast.
        dtype = self.conditioner.type_embeddings.weight.dtype
        ids, mask = self._tokens(self.clip_tokenizer, captions)  # (B, K, S)
        history_ids, history_mask = self._tokens(self.blip_tokenizer, captions)
        apart = history_guidance_scale not in (None, guidance_scale)
        guided = guidance_scale != 1 or apart
        null_states = self.conditioner.null_states(device) if guided else None
        negative = self._negative(negative_prompt, stories) if guided and negative_prompt else None
        drawn = [k for k in range(frames_per_story) if k not in known]
        captions_at_once = ids[:, drawn].flatten(0, 1), mask[:, drawn].flatten(0, 1)
        caption_states = self.conditioner.encode_captions(*captions_at_once)
        caption_states = caption_states.unflatten(0, (stories, -1))  # (B, number drawn, S, D)
        history = {}  # frame -> BLIP states (B, S, D), of those that are still in sight
        reach = frames_reached(history_frames, self.conditioner.slots)
        frames = []
        weights = None
        if self.conditioner.history_weighting is not None and use_history:
            weights = torch.zeros(stories, frames_per_story, frames_per_story)
        latents_shape = self._latents_shape(stories, size)

        def remember(k: int) -> None:
            # Given frames go from their own size to BLIP's at once, as training's pictures do.
            pictures = [frame[None] for frame in known[k]] if k in known else [frames[k]]
            images = torch.cat([self.history_transform(picture) for picture in pictures])
            images = images.to(device, dtype)  # (B, 3, h, w)
            history[k] = self.conditioner.encode_history(
                images, history_ids[:, k], history_mask[:, k]
            )

        def stepped(k: int, i: int, timestep: int, latents: Tensor) -> Tensor:
            if callback_on_step_end is not None:
                state = {"frame": k, "latents": latents}
                latents = callback_on_step_end(self, i, timestep, state).get("latents", latents)
            bar.update()
            return latents

        steps = [num_inference_steps] * frames_per_story
        steps[0] = first_frame_inference_steps or num_inference_steps
        with self.progress_bar(total=sum(calls(self.scheduler, steps[k]) for k in drawn)) as bar:
            for k in range(frames_per_story):
                if k in known:
                    frames.append(fitted(known[k], size).to(device))
                    if k in noise_used_by:
                        latents = randn_tensor(latents_shape, generator, device, dtype)
                        pass_over(self.scheduler, latents, steps[k], eta, generator)
                else:
                    in_sight = frames_in_sight(k, reach, keep_first_frame) if use_history else []
                    for gone in history.keys() - in_sight - {0}:
                        del history[gone]
                    # Slots are numbered by place among the frames in sight.
                    slot = max(0, first_visible(len(in_sight), self.conditioner.history_window))
                    seen = in_sight[slot:]
                    context = self._context(
                        caption_states[:, drawn.index(k)], mask[:, k], [history[i] for i in seen],
                        history_mask[:, seen], null_states, slot, negative, apart,
                    )  # fmt: skip
                    if weights is not None and context.weights is not None:
                        weights[:, k, seen] = context.weights[-stories:].cpu()
                    latents = randn_tensor(latents_shape, generator, device, dtype)
                    with context_projected_once(self.unet):
                        latents = denoise(
                            self.unet, self.scheduler, latents, context, steps[k],
                            (guidance_scale, history_guidance_scale), guidance_interval, eta,
                            generator, partial(stepped, k),
                        )  # fmt: skip
                    frames.append(decode_latents(self.vae, latents))
                    if callback_on_frame_end is not None:
                        callback_on_frame_end(self, k, frames[-1])
                if k < drawn[-1] and use_history:
                    remember(k)
        self.maybe_free_model_hooks()
        output = StoryPipelineOutput(OUTPUT_TYPES[output_type](torch.stack(frames, dim=1)), weights)
        return output if return_dict else output.to_tuple()

    def _context(
        self, captions, mask, history, history_mask, null_states, first_slot, negative, apart
    ) -> Context:
        """The context of one frame: rows without conditions, then maybe with the caption alone,
        then with all of them. null_states: None for the last alone."""
        rows = len(captions)
        empty = captions.new_zeros(rows, 0, *captions.shape[1:])
        states = torch.stack(history, dim=1) if history else empty  # (B, k, S, D)
        visible = torch.ones(rows, len(history), dtype=torch.bool, device=captions.device)

        def assemble(captions, mask, states, history_mask, unconditional=False) -> Context:
            drop = torch.full((rows,), unconditional, device=captions.device)
            return self.conditioner.assemble(
                captions, mask, states, history_mask, visible, drop, null_states, first_slot
            )

        parts = []
        if null_states is not None:
            no_history = null_states[1].expand_as(states), torch.ones_like(history_mask)
            if negative is None:
                parts.append(assemble(captions, mask, states, history_mask, unconditional=True))
            else:
                parts.append(assemble(*negative, *no_history))
            if apart:
                parts.append(assemble(captions, mask, *no_history))
        parts.append(assemble(captions, mask, states, history_mask))
        return Context.cat(parts).without_unseen()

    def _negative(self, prompt: str, stories: int) -> tuple[Tensor, Tensor]:
        """Its states (B, S, D) and mask (B, S)."""
        ids, mask = (x[0] for x in self._tokens(self.clip_tokenizer, [[prompt]]))
        states = self.conditioner.encode_captions(ids, mask)
        return states.expand(stories, -1, -1), mask.expand(stories, -1)

    def _tokens(self, tokenizer, captions) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, K, S) of B stories of K captions."""
        flat = tokenizer(
            [caption for story in captions for caption in story],
            padding="max_length",
            max_length=self.config.tokenization["max_length"],
            truncation=True,
            return_tensors="pt",
        )
        shape, device = (len(captions), len(captions[0])), self._execution_device
        mask = flat["attention_mask"].bool()
        return flat["input_ids"].unflatten(0, shape).to(device), mask.unflatten(0, shape).to(device)

    def _latents_shape(self, stories: int, size: tuple[int, int]) -> tuple[int, ...]:
        step = downscale(self.vae)
        return stories, self.unet.config.in_channels, size[0] // step, size[1] // step
