"""Old stories told once more with new characters in place of old ones, to learn to go on from.

A few pictures do not show how somebody keeps a shirt from place to place, called "he"; old stories
do, of others. So a model that has learnt the characters draws their frames again under captions
that name the new ones, each from its noisy self on (SDEdit, arXiv 2108.01073): clothes, place and
pose stay, and who wears them becomes somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from building import (
    build_pipeline,
    drawing_precision,
    find_devices,
    open_stories,
    sampler_arguments,
    story_spec,
)
from datasets.cartoon.world import PRONOUNS, SPECIES
from datasets.new_characters import AUTO, Frame, NewCharacter, Retold, finds, resized, retell
from datasets.story_dataset import to_target
from datasets.story_frames import StoryFrames
from datasets.story_hdf5 import StoryFile
from datasets.story_prompts import StoryPrompt
from models.frames import encode_frames, sides
from models.main_process import say
from models.pipeline import StoryPipeline

__all__ = ["old_names", "retold_stories"]

SAMPLER = {  # DDIM depends on one step at a time, so that it can begin anywhere
    "task": "visualization", "scheduler": "ddim", "num_inference_steps": 20, "eta": 1.0,
    "first_frame_inference_steps": None, "guidance_scale": 1.0, "guidance_interval": None,
    "history_guidance_scale": None, "negative_prompt": None,
}  # fmt: skip
# Share of an old frame in the variance where drawing begins: of the cartoon world's shirts 0.72
# stay so, at 0.45 0.64 and at 0.2 0.51; the new one is recognised as often.
SHOWN = 0.6


def old_names(config: DictConfig, new: NewCharacter, class_word: str) -> list[str]:
    """Whom a new character can stand in for; none if nobody is known to be like it."""
    if config.dataset == "cartoon":
        return [name for name, said in PRONOUNS.items() if new.pronoun in (None, said)]
    return [] if class_word == AUTO else [class_word]


def retold_stories(
    config: DictConfig, characters: Sequence[NewCharacter], teller: Path
) -> Iterator[list[Frame]]:
    """`config.retold_stories` stories, or as many as there are with somebody to stand in for.

    teller: a checkpoint that knows the characters.
    """
    config = OmegaConf.merge(config, SAMPLER)
    stories, device = open_stories(config, "train"), find_devices(config)[0]
    frames = StoryFrames(stories, story_spec(config), config.seed)
    size, batch_size = sides(config[config.backbone].image_size), config.batch_size
    chosen = list(islice(_choose(config, characters, stories), config.retold_stories))
    pipeline = build_pipeline(config, teller, device)
    pipeline.set_progress_bar_config(disable=True)
    say(f"new_characters: {len(chosen)} old stories are retold with them")
    for start in range(0, len(chosen), batch_size):
        batch = chosen[start : start + batch_size]
        before = np.array(
            [
                [resized(Image.fromarray(frame), max(size)) for frame in frames(index)[0]]
                for index, *_ in batch
            ]
        )  # (B, K, S, S, 3)
        named = [StoryPrompt(f"retold-{index}", told.named) for index, _, told in batch]
        with drawing_precision(config.precision, device):
            begin = _Begin(pipeline, before, size, config.seed + start)
            drawn = pipeline.draw(named, callback_on_step_end=begin, **sampler_arguments(config))
        after = drawn.frames.permute(0, 1, 3, 4, 2).cpu().numpy()
        for n, (_, character, told) in enumerate(batch):
            pictures = [
                resized(Image.fromarray(after[n, k]), max(size))
                if finds(character.word).search(caption)
                else before[n, k]
                for k, caption in enumerate(told.named)
            ]
            yield list(zip(pictures, told.captions, strict=True))


def _choose(
    config: DictConfig, characters: Sequence[NewCharacter], stories: StoryFile
) -> Iterator[tuple[int, NewCharacter, Retold]]:
    """Numbers of stories in random order, and how they are told with the characters in turn."""
    of_cartoon = SPECIES if config.dataset == "cartoon" else {}
    entries = zip(characters, config.new_characters, strict=True)
    there = [(one, old_names(config, one, entry.class_word)) for one, entry in entries]
    everybody = {name: of_cartoon.get(name) for _, names in there for name in names} | of_cartoon
    done, random = 0, Random(f"{config.seed}/retold")
    for index in random.sample(range(len(stories)), len(stories)):
        character, names = there[done % len(there)]
        for name in names:
            if told := retell(stories.captions(index), everybody, name, character):
                yield index, character, told
                done += 1
                break


class _Begin:
    """Called after each step: as long as there is more noise than `SHOWN` leaves, the next one
    starts from the old frames, made as noisy as it expects."""

    def __init__(
        self, pipeline: StoryPipeline, pictures: np.ndarray, size: tuple[int, int], seed: int
    ) -> None:
        frames = torch.from_numpy(pictures).permute(1, 0, 4, 2, 3)  # (K, B, 3, S, S)
        targets = [to_target(one, size).to(pipeline.device) for one in frames]
        with torch.no_grad():
            self.latents = [encode_frames(pipeline.vae, one) for one in targets]
        self.random = torch.Generator().manual_seed(seed)

    def __call__(
        self, pipeline: StoryPipeline, step: int, timestep: int, state: dict
    ) -> dict[str, Tensor]:
        scheduler = pipeline.scheduler
        following = scheduler.timesteps[step + 1 : step + 2]
        if not len(following) or scheduler.alphas_cumprod[int(following)] > SHOWN:
            return {}
        latents = self.latents[state["frame"]]
        noise = torch.randn(latents.shape, generator=self.random).to(latents)
        return {"latents": scheduler.add_noise(latents, noise, following.expand(len(latents)))}
