"""AR-LDM computed as its published code does: what ours is measured against.

Restated from what that code computes, and held to its recorded numbers (tests/test_golden.py). In
32 bits; attention writes all scores out; every context has all (U + 1) * S tokens, of which a mask
hides most; all slots are encoded first and every drawn frame again.

B stories, V target frames, U history slots, S tokens, D channels. Masks: True = may attend.
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from models.blip import read_frames
from models.components import Components
from models.frames import decode_latents, encode_frames
from models.fused_attention import unfuse_attention
from models.schedulers import sampling_scheduler, training_schedule
from models.story_batch import StoryBatch

__all__ = ["Drawn", "Reference"]


class Drawn(NamedTuple):
    """frames: (V, B, 3, H, W) uint8; latents: (V, B, c, h, w), scaled."""

    frames: Tensor
    latents: Tensor


class Reference:
    """The computation over `parts`' weights; over a copy of them, laid out as there, if `copy`."""

    def __init__(self, parts: Components, copy: bool = False) -> None:
        memo = {} if copy else {id(p): p for p in parts.modules().parameters()}
        modules = deepcopy(parts.modules(), memo)
        self.conditioner, self.vae, self.unet = modules.conditioner, modules.vae, modules.unet
        if copy:
            modules.to(memory_format=torch.contiguous_format)
        self.modules = modules
        self.transform, self.scheduler_config = parts.history_transform, parts.scheduler_config
        self.schedule = training_schedule(parts.scheduler_config)
        self.conditioner.text_encoder.set_attn_implementation("eager")
        unfuse_attention(self.conditioner)
        for network in (self.unet, self.vae):
            network.set_attn_processor(AttnProcessor())

    def encode_history(self, images: Tensor, ids: Tensor, mask: Tensor | None) -> Tensor:
        """(N, S, D) of N frames with their captions."""
        read_by = self.conditioner
        networks = read_by.vision_encoder, read_by.multimodal_encoder, read_by.first_token_id
        return read_frames(*networks, images, ids, mask)

    def encode(self, batch: StoryBatch) -> tuple[Tensor, Tensor]:
        """All captions (B, V, S, D), all slots (B, U, S, D)."""
        ids, mask = batch["caption_ids"], batch["caption_mask"]
        captions = self.conditioner.text_encoder(
            ids.flatten(0, 1), attention_mask=mask.flatten(0, 1).long()
        ).last_hidden_state
        slots = (batch[f"history_{k}"].flatten(0, 1) for k in ("images", "ids", "mask"))
        history = self.encode_history(*slots)
        return captions.unflatten(0, ids.shape[:2]), history.unflatten(0, (len(ids), -1))

    def null_states(self) -> tuple[Tensor, Tensor]:
        own = self.conditioner
        caption = own.text_encoder(own.null_caption_ids).last_hidden_state
        return caption, self.encode_history(own.null_image, own.null_history_ids, None)

    def context(
        self, batch: StoryBatch, captions: Tensor, history: Tensor, null: tuple, dropped: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All rows' contexts (B, V, (U + 1) * S, D) and masks; dropped: (B, V), unconditional."""
        targets, slots = captions.shape[1], history.shape[1]
        given = slots - targets
        drop = dropped[:, :, None, None]
        own = torch.where(drop, null[0], captions) + self.conditioner.type_embeddings.weight[0]
        blocks = torch.where(drop[..., None], null[1], history[:, None])  # (B, V, U, S, D)
        times = self.conditioner.time_embeddings.weight[:slots]
        blocks = blocks + self.conditioner.type_embeddings.weight[1] + times[:, None]
        before = torch.ones(targets, slots, dtype=torch.bool, device=own.device).tril(given - 1)
        seen = batch["history_mask"][:, None] | drop  # (B, V, U, S)
        seen = seen & before[None, :, :, None]
        states = torch.cat([own, blocks.flatten(2, 3)], dim=2)
        own_seen = batch["caption_mask"] | dropped[..., None]
        return states, torch.cat([own_seen, seen.flatten(2)], dim=2)

    def loss(
        self, batch: StoryBatch, noise: Tensor, timesteps: Tensor, dropped: Tensor, latents=None
    ) -> Tensor:
        """Of a training step; noise: (B * V, c, h, w), timesteps, dropped: (B * V,)."""
        if latents is None:
            with torch.no_grad():
                latents = encode_frames(self.vae, batch["target_images"].flatten(0, 1))
        captions, history = self.encode(batch)
        dropped = dropped.unflatten(0, captions.shape[:2])
        contexts = self.context(batch, captions, history, self.null_states(), dropped)
        states, seen = (x.flatten(0, 1) for x in contexts)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        predicted = self.unet(
            noisy, timesteps, encoder_hidden_states=states, encoder_attention_mask=seen
        ).sample
        return F.mse_loss(predicted, noise)

    @torch.no_grad()
    def draw(
        self, batch: StoryBatch, noise: Tensor, steps: int, guidance: float = 6.0,
        feed_back: Tensor | None = None,
    ) -> Drawn:  # fmt: skip
        """DDIM, eta 0. noise: (V, B, c, h, w); feed_back: uint8 (V, B, 3, H, W) as history instead
        of what is drawn."""
        captions, history = self.encode(batch)
        stories, targets = captions.shape[:2]
        given, null = history.shape[1] - targets, self.null_states()
        scheduler, frames, ends = sampling_scheduler("ddim", self.scheduler_config), [], []
        for k in range(targets):
            both = [
                self.context(
                    batch, captions, history, null,
                    torch.full((stories, targets), dropped, device=captions.device),
                )
                for dropped in (True, False)
            ]  # fmt: skip
            states, seen = (torch.cat([half[:, k] for half in x]) for x in zip(*both, strict=True))
            scheduler.set_timesteps(steps, device=states.device)
            latents = noise[k]
            for t in scheduler.timesteps:
                predicted = self.unet(
                    torch.cat([latents, latents]), t,
                    encoder_hidden_states=states, encoder_attention_mask=seen,
                ).sample  # fmt: skip
                without, with_ = predicted.chunk(2)
                predicted = without + guidance * (with_ - without)
                latents = scheduler.step(predicted, t, latents, eta=0.0).prev_sample
            ends.append(latents)
            frames.append(decode_latents(self.vae, latents))
            if (slot := k + given) < history.shape[1]:
                picture = frames[k] if feed_back is None else feed_back[k]
                images = self.transform(picture).to(noise.dtype)
                one = (batch[f"history_{key}"][:, slot] for key in ("ids", "mask"))
                history = history.clone()
                history[:, slot] = self.encode_history(images, *one)
        return Drawn(torch.stack(frames), torch.stack(ends))
