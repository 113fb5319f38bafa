"""Stories as training batches: one data set class for every story file, told apart by a spec.

B stories, K frames, V targets, U history slots, S tokens. visualization: V = U = K;
continuation: frame 0 is given, so V = K - 1 and U = K.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from torchvision.transforms.v2 import functional as F

from datasets.specs import StorySpec
from datasets.story_hdf5 import StoryFile

TASKS = ("visualization", "continuation")


def to_target(frames: Tensor, size: int) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 3, size, size) float in [-1, 1]; squashed if not square."""
    if frames.shape[-2:] != (size, size):
        frames = F.resize(frames, [size, size], antialias=True)
    return frames / 127.5 - 1


class StoryDataset(Dataset):
    """One split of a story file as items for `collate`.

    Which frame of a strip is drawn, and where a picture is cropped, is random in the training
    split (a stream of its own per worker) and fixed by (seed, index) in the others. Targets and
    history always show the same part of the same frame.

    history_transform: (N, 3, H, W) uint8 -> (N, 3, h, w) float, what the picture encoder expects.
    clip_tokenizer, blip_tokenizer: Hugging Face tokenizers; captions are cut at max_length = S.
    latent_lookup: index -> (mean, std), each (V, c, h, w), given in place of the target pictures.
    cache_frames: keep decoded pictures and tokens in memory, once per worker.
    raw_frames: items also carry the frames as they are, (K, H, W, 3) uint8.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        split: str,
        spec: StorySpec,
        task: str,
        image_size: int,
        history_transform: Callable[[Tensor], Tensor],
        clip_tokenizer: Callable,
        blip_tokenizer: Callable,
        max_length: int,
        seed: int = 0,
        *,
        cache_frames: bool = False,
        raw_frames: bool = False,
        latent_lookup: Mapping[int, tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"task {task!r} is unknown: use one of {', '.join(TASKS)}")
        self.stories = StoryFile(path, split, spec.text_key)
        self.frames_per_story = self.stories.pictures_per_story
        self.given = int(task == "continuation")  # leading frames that are shown, not drawn
        if self.frames_per_story <= self.given:
            raise ValueError(f"{path} has one picture a story: continuation needs two or more")
        self.training = split == "train"
        if latent_lookup and self.training and (spec.strip or spec.crop != "squash"):
            raise ValueError(f"latents of {spec.name!r} cannot be looked up: its views are random")
        self.spec = spec
        self.image_size = image_size
        self.history_transform = history_transform
        self.clip_tokenizer = clip_tokenizer
        self.blip_tokenizer = blip_tokenizer
        self.max_length = max_length
        self.seed = seed
        self.raw_frames = raw_frames
        self.latent_lookup = latent_lookup
        self._cache: dict[Hashable, Any] | None = {} if cache_frames else None
        self._stream: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.stories)

    def __getitem__(self, index: int) -> dict:
        frames = self._frames(index)
        pictures = [torch.from_numpy(frame).permute(2, 0, 1) for frame in frames]
        item = dict(self._kept(index, self._words, index))
        item["history_images"] = _batched(self.history_transform, pictures)
        if self.latent_lookup is not None:
            item["latents_mean"], item["latents_std"] = self.latent_lookup[index]
        else:
            transform = partial(to_target, size=self.image_size)
            item["target_images"] = _batched(transform, pictures[self.given :])
        if self.raw_frames:
            item["frames"] = self._raw(frames)
        return item

    def _words(self, index: int) -> dict:
        """Everything about a story but its pictures."""
        captions = [re.sub(r"[\n\r\t]+", " ", text) for text in self.stories.captions(index)]
        caption_ids, caption_mask = self._tokens(self.clip_tokenizer, captions[self.given :])
        history_ids, history_mask = self._tokens(self.blip_tokenizer, captions)
        return {
            "caption_ids": caption_ids,
            "caption_mask": caption_mask,
            "history_ids": history_ids,
            "history_mask": history_mask,
            "captions": captions,
            "story_id": self.stories.story_id(index),
            "index": index,
            "labels": self.stories.labels(index),
        }

    def _tokens(self, tokenizer: Callable, captions: list[str]) -> tuple[Tensor, Tensor]:
        out = tokenizer(
            captions,
            padding="max_length",
            max_length=self.max_length,
            truncation=True,
            return_tensors="pt",
        )
        return out["input_ids"], out["attention_mask"].bool()  # (N, S) each

    def _frames(self, index: int) -> list[np.ndarray]:
        """The K frames as seen this time: (H, W, 3) uint8, square if the data set is cropped."""
        random = self._random(index)
        frames = []
        for k in range(self.frames_per_story):
            frame = self._kept((index, k), self.stories.picture, index, k)
            height, width = frame.shape[:2]
            if self.spec.strip:
                if height % width:
                    raise ValueError(
                        f"{self.stories.path}: image{k} of story {index} is {width}x{height}, not "
                        f"a column of square frames; set dataset to what the file was built from"
                    )
                n = int(random.integers(height // width))
                frame = frame[n * width : (n + 1) * width]
            elif self.spec.crop == "shorter_side":
                side = min(height, width)
                free = height - side + width - side  # one of the two is 0
                start = int(random.integers(free + 1)) if self.training else free // 2
                frame = frame[start:][:side] if height > width else frame[:, start:][:, :side]
            frames.append(frame)
        return frames

    def _kept(self, key: Hashable, make: Callable, *args: int) -> Any:
        """make(*args), remembered if the data set is cached."""
        if self._cache is None:
            return make(*args)
        if key not in self._cache:
            self._cache[key] = make(*args)
        return self._cache[key]

    def _raw(self, frames: list[np.ndarray]) -> np.ndarray:
        """(K, H, W, 3) uint8; frames of different sizes are brought to the target size."""
        if len({frame.shape for frame in frames}) == 1:
            return np.stack(frames)
        size = [self.image_size, self.image_size]
        tensors = (torch.from_numpy(frame).permute(2, 0, 1) for frame in frames)
        return np.stack([F.resize(t, size, antialias=True).permute(1, 2, 0) for t in tensors])

    def _random(self, index: int) -> np.random.Generator:
        if not self.training:
            return np.random.default_rng((self.seed, index))
        worker = get_worker_info()
        stream = (self.seed, worker.seed if worker else 0)  # differs by worker, epoch and rank
        if self._stream != stream:
            self._stream, self._generator = stream, np.random.default_rng(stream)
        return self._generator


def collate(items: Sequence[dict]) -> dict:
    """Items of `StoryDataset` -> story batch: tensors gain a leading B, the rest become lists."""
    batch = {}
    for key in items[0]:
        values = [item[key] for item in items]
        batch[key] = torch.stack(values) if isinstance(values[0], Tensor) else values
    if batch["labels"][0] is None:
        batch["labels"] = None
    return batch


def _batched(transform: Callable[[Tensor], Tensor], pictures: list[Tensor]) -> Tensor:
    """Apply to all pictures at once, or one by one where their sizes differ."""
    if len({picture.shape for picture in pictures}) == 1:
        return transform(torch.stack(pictures))
    return torch.cat([transform(picture[None]) for picture in pictures])
