"""Stories as training batches: one data set class for every story file, told apart by a spec.

B stories, K frames, V targets, U history slots, S tokens. visualization: V = U = K;
continuation: frame 0 is given, so V = K - 1 and U = K.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from datasets.pictures import decode_frame, frames_in_strip, picture_size
from datasets.specs import StorySpec
from datasets.story_hdf5 import StoryFile

TASKS = ("visualization", "continuation")


def to_target(frames: Tensor, size: int) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 3, size, size) float in [-1, 1]; squashed if not square."""
    if frames.shape[-2:] != (size, size):
        frames = F.resize(frames, [size, size], antialias=True)
    targets = torch.empty(frames.shape)
    for target, frame in zip(targets, frames, strict=True):  # one by one they stay in the cache
        target.copy_(frame).div_(127.5).sub_(1)  # in place: touching new memory is what costs
    return targets


class StoryDataset(Dataset):
    """One split of a story file as items for `collate`.

    Damaged stories are left out, see `StoryFile`. Which frame of a strip is drawn, and where a
    picture is cropped, is random: in the training split by (seed, epoch, story), where
    epoch * len(self) + index asks for another epoch's view, in the others by (seed, story). Targets
    and history show the same frame, and unless `independent_crops` the same part of it.

    history_transform: (N, 3, H, W) uint8 -> (N, 3, h, w) float, what the picture encoder expects.
    clip_tokenizer, blip_tokenizer: Hugging Face tokenizers; captions are cut at max_length = S.
    cached: index -> `latents_mean` and `latents_std` of all K frames, each (K, c, h, w), and maybe
        `picture_states` (K, P, D_vit); items carry them in place of target and history pictures.
        Only right where `refuse_random_views` is content.
    cache_frames: keep decoded pictures (of strips, their bytes) in memory, once per worker; tokens
        are kept in any case (at most 4.3 kB a story of five captions at S = 85).
    independent_crops: crop targets and history each for itself in training, as the originals do.
    raw_frames: items also carry `frames`, the K frames as history shows them before any resizing,
        each (H, W, 3) uint8 of its own size.
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
        independent_crops: bool = False,
        raw_frames: bool = False,
        cached: Mapping[int, Mapping[str, Tensor]] | None = None,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"task {task!r} is unknown: use one of {', '.join(TASKS)}")
        self.stories = StoryFile(path, split, spec.text_key)
        self.frames_per_story = self.stories.pictures_per_story
        self.given = int(task == "continuation")  # leading frames that are shown, not drawn
        if self.frames_per_story <= self.given:
            raise ValueError(f"{path} has one picture a story: continuation needs two or more")
        self.training = split == "train"
        self.spec = spec
        self.image_size = image_size
        self.history_transform = history_transform
        self.clip_tokenizer = clip_tokenizer
        self.blip_tokenizer = blip_tokenizer
        self.max_length = max_length
        self.seed = seed
        self.independent_crops = independent_crops
        self.raw_frames = raw_frames
        self.cached = cached
        self._cache: dict[Hashable, Any] | None = {} if cache_frames else None
        self._tokens: dict[int, tuple[Tensor, ...]] = {}  # of stories read before, small

    def __len__(self) -> int:
        return len(self.stories)

    def __getitem__(self, index: int) -> dict:
        epoch, index = divmod(index, len(self))
        item = dict(self._kept(index, self._words, index))
        cached = {} if self.cached is None else dict(self.cached[index])
        seen = self.raw_frames or "picture_states" not in cached
        targets, history = self._frames(index, epoch) if seen else ([], [])
        for key in ("latents_mean", "latents_std"):
            if key in cached:
                item[key] = cached.pop(key)[self.given :]
        if "latents_mean" not in item:
            transform = partial(to_target, size=self.image_size)
            item["target_images"] = _batched(transform, targets[self.given :])
        if "picture_states" not in cached:
            item["history_images"] = _batched(self.history_transform, history)
        item |= cached
        if self.raw_frames:
            item["frames"] = history
        return item

    def views(self, index: int) -> tuple[Tensor, Tensor]:
        """All K frames as targets, (K, 3, size, size) in [-1, 1], and as history, (K, 3, h, w)."""
        targets, history = self._frames(index)
        transform = partial(to_target, size=self.image_size)
        return _batched(transform, targets), _batched(self.history_transform, history)

    def refuse_random_views(self) -> None:
        """ValueError if a picture can be seen in more than one way: its latents are not one."""
        if not self.spec.strip and self.spec.crop == "squash":
            return
        for index, k in product(range(len(self)), range(self.frames_per_story)):
            height, width = self.stories.picture_size(index, k)
            if height != width and (self.spec.strip or self.training):
                raise ValueError(
                    f"{self.stories.path}: image{k} of {self.stories.name(index)} is "
                    f"{width}x{height}, of which a random part is shown each time, so its latents "
                    f"cannot be cached; train without that cache, cache_latents=false"
                )

    def _words(self, index: int) -> dict:
        """Everything about a story but its pictures."""
        captions = [_one_line(caption) for caption in self.stories.captions(index)]
        if index not in self._tokens:
            self._tokens[index] = (
                *self._tokenised(self.clip_tokenizer, captions[self.given :]),
                *self._tokenised(self.blip_tokenizer, captions),
            )
        caption_ids, caption_mask, history_ids, history_mask = self._tokens[index]
        return {
            "caption_ids": caption_ids.long(),
            "caption_mask": caption_mask,
            "history_ids": history_ids.long(),
            "history_mask": history_mask,
            "captions": captions,
            "story_id": self.stories.story_id(index),
            "index": index,
            "labels": self.stories.labels(index),
        }

    def long_captions(self) -> Counter[str]:
        """Captions of more than max_length tokens, which lose their end, and how often each is."""
        captions = Counter(map(_one_line, self.stories.all_captions()))
        # A token is a byte or more, and there is one at each end: most need no tokenizer.
        doubtful = [c for c in captions if len(c.encode()) + 2 > self.max_length]
        long: Counter[str] = Counter()
        for tokenizer in (self.clip_tokenizer, self.blip_tokenizer) if doubtful else ():
            rows = tokenizer(doubtful, verbose=False)["input_ids"]  # whole, without a warning each
            for caption, ids in zip(doubtful, rows, strict=True):
                if len(ids) > self.max_length:
                    long[caption] = captions[caption]
        return long

    def _tokenised(self, tokenizer: Callable, captions: list[str]) -> tuple[Tensor, Tensor]:
        out = tokenizer(
            captions,
            padding="max_length",
            max_length=self.max_length,
            truncation=True,
            return_tensors="pt",
        )
        return out["input_ids"].int(), out["attention_mask"].bool()  # (N, S) each

    def _frames(self, index: int, epoch: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The K frames as targets and as history show them this time, each (H, W, 3) uint8."""
        row = self.stories.rows[index]
        random = np.random.default_rng((self.seed, *[epoch] * self.training, row))
        picture = partial(self._strip_frame, random=random) if self.spec.strip else self._picture
        pictures = [picture(index, k) for k in range(self.frames_per_story)]
        targets = [self._square(one, random) for one in pictures]
        if not self.independent_crops:
            return targets, targets
        return targets, [self._square(one, random) for one in pictures]

    def _strip_frame(self, index: int, k: int, random: np.random.Generator) -> np.ndarray:
        """One frame of a strip; the choice comes first, as the others need no decoding."""
        data = self._kept((index, k), self.stories.encoded, index, k)
        with self.stories.naming(index, k):
            height, width = picture_size(data)
        frames = frames_in_strip(height, width)
        if not frames:
            raise ValueError(
                f"{self.stories.path}: image{k} of {self.stories.name(index)} is {width}x{height}, "
                f"not a column of square frames; set dataset to what the file was built from"
            )
        n = int(random.integers(frames))
        with self.stories.naming(index, k):
            return decode_frame(data, n)

    def _picture(self, index: int, k: int) -> np.ndarray:
        return self._kept((index, k), self.stories.picture, index, k)

    def _square(self, frame: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The square part of a frame that is shown if the data set is cropped, or all of it."""
        if self.spec.crop == "squash":
            return frame
        height, width = frame.shape[:2]
        side = min(height, width)
        free = height - side + width - side  # one of the two is 0
        start = int(random.integers(free + 1)) if self.training else free // 2
        return frame[start:][:side] if height > width else frame[:, start:][:, :side]

    def _kept(self, key: Hashable, make: Callable, *args: int) -> Any:
        """make(*args), remembered if the data set is cached."""
        if self._cache is None:
            return make(*args)
        if key not in self._cache:
            self._cache[key] = make(*args)
        return self._cache[key]


def collate(items: Sequence[dict]) -> dict:
    """Items of `StoryDataset` -> story batch: tensors gain a leading B, the rest become lists."""
    batch = {}
    for key in items[0]:
        values = [item[key] for item in items]
        batch[key] = torch.stack(values) if isinstance(values[0], Tensor) else values
    if batch["labels"][0] is None:
        batch["labels"] = None
    return batch


def _one_line(caption: str) -> str:
    return re.sub(r"[\n\r\t]+", " ", caption)


def _batched(transform: Callable[[Tensor], Tensor], frames: list[np.ndarray]) -> Tensor:
    """Apply to all frames (H, W, 3) at once, or one by one where their sizes differ.

    Memory stays in the frames' order, in which resizing is three times as fast.
    """
    if len({frame.shape for frame in frames}) == 1:
        return transform(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
    one_by_one = (torch.from_numpy(frame[None]).permute(0, 3, 1, 2) for frame in frames)
    return torch.cat([transform(frame) for frame in one_by_one])
