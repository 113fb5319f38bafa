"""Stories as training batches: one data set class for every story file, told apart by a spec.

B stories, K frames, V targets, U history slots, S tokens. visualization: V = U = K;
continuation: frame 0 is given, so V = K - 1 and U = K.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from datasets.specs import StorySpec
from datasets.story_frames import StoryFrames
from datasets.story_hdf5 import StoryFile


def to_target(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 3, height, width) float in [-1, 1]; squashed if need be."""
    if frames.shape[-2:] != size:
        frames = F.resize(frames, list(size), antialias=True)
    if frames.device.type != "cpu":
        return frames.float().div_(127.5).sub_(1)
    targets = torch.empty(frames.shape)
    for target, frame in zip(targets, frames, strict=True):  # one by one they stay in the cache
        target.copy_(frame).div_(127.5).sub_(1)  # in place: touching new memory is what costs
    return targets


class StoryDataset(Dataset):
    """One split of a story file as items for `collate`: rows of `models.story_batch.StoryBatch`.

    Damaged stories are left out, see `StoryFile`. epoch * len(self) + index asks for another
    epoch's view of a story, see `StoryFrames`.

    image_size: of targets, a number, or height and width.
    history_transform: (N, 3, H, W) uint8 -> (N, 3, h, w) float, what the picture encoder expects.
    clip_tokenizer, blip_tokenizer: callables like Hugging Face tokenizers; captions are cut at
        max_length = S.
    cached: draw * len(self) + index -> `latents_mean` and maybe `latents_std` of all K frames,
        each (K, c, h, w), and maybe `picture_states` (K, P, D_vit); items carry them in place of
        target and history pictures. Only right where `StoryFrames.refuse_random_views` is content.
    window: frames of a longer story that an item shows, all of them if None: in training any that
        follow each other, drawn by (seed, epoch, story), else the first ones.
    cache_frames, independent_crops, draws: as `StoryFrames` takes them; tokens are kept in any case
        (at most 4.3 kB a story of five captions at S = 85).
    """

    def __init__(
        self,
        path: str | os.PathLike,
        split: str,
        spec: StorySpec,
        task: str,
        image_size: int | Sequence[int],
        history_transform: Callable[[Tensor], Tensor],
        clip_tokenizer: Callable,
        blip_tokenizer: Callable,
        max_length: int,
        seed: int = 0,
        *,
        window: int | None = None,
        cache_frames: bool = False,
        independent_crops: bool = False,
        draws: int | None = None,
        cached: Mapping[int, Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.stories = StoryFile(path, split, spec.text_key)
        self.given = int(task == "continuation")  # leading frames that are shown, not drawn
        square = isinstance(image_size, int)
        self.image_size = (image_size,) * 2 if square else tuple(image_size)
        how = {"cache": cache_frames, "independent_crops": independent_crops, "draws": draws}
        self.frames = StoryFrames(self.stories, spec, seed, size=self.image_size, **how)
        self.seed = seed
        self.draws = (draws if split == "train" else None) or 1
        frames = self.stories.pictures_per_story
        self.window = min(window or frames, frames)
        self.history_transform = history_transform
        self.clip_tokenizer = clip_tokenizer
        self.blip_tokenizer = blip_tokenizer
        self.max_length = max_length
        self.cached = cached
        self._tokens: dict[int, dict] = {}  # of stories read before, small

    def __len__(self) -> int:
        return len(self.stories)

    def __getitem__(self, index: int) -> dict:
        epoch, index = divmod(index, len(self))
        shown = self._shown(index, epoch)
        drawn = slice(shown.start + self.given, shown.stop)
        item = self._words(index, shown, drawn)
        cached = {}
        if self.cached is not None:
            cached = dict(self.cached[epoch % self.draws * len(self) + index])
        targets, history = [], []
        if "picture_states" not in cached:
            targets, history = self.frames(index, epoch, shown)
        for key in ("latents_mean", "latents_std"):
            if key in cached:
                item[key] = cached[key][drawn]
        if "latents_mean" not in item:
            item["target_images"] = self._targets(targets[self.given :])
        if "picture_states" in cached:
            return {**item, "picture_states": cached["picture_states"][shown]}
        return {**item, "history_images": _batched(self.history_transform, history)}

    def _shown(self, index: int, epoch: int) -> slice:
        """Which frames of the story."""
        more, start = self.stories.pictures_per_story - self.window, 0
        if more and self.stories.split == "train":
            row = self.stories.rows[index]
            start = int(np.random.default_rng((self.seed, epoch, row, 1)).integers(more + 1))
        return slice(start, start + self.window)

    def views(self, index: int) -> tuple[Tensor, Tensor]:
        """All K frames as targets (K, 3, height, width) in [-1, 1], as history (K, 3, h, w);
        draw * len(self) + index asks for another draw."""
        draw, index = divmod(index, len(self))
        targets, history = self.frames(index, draw)
        return self._targets(targets), _batched(self.history_transform, history)

    def _targets(self, frames: list[np.ndarray]) -> Tensor:
        return _batched(partial(to_target, size=self.image_size), frames)

    def _words(self, index: int, shown: slice, drawn: slice) -> dict:
        """Everything about a story but its pictures."""
        if index not in self._tokens:
            captions = self.stories.captions(index)
            self._tokens[index] = {
                "caption": self._tokenised(self.clip_tokenizer, captions),
                "history": self._tokenised(self.blip_tokenizer, captions),
            }
        words = {"story_id": self.stories.story_id(index)}
        for name, frames in (("caption", drawn), ("history", shown)):
            ids, mask = self._tokens[index][name]
            words |= {f"{name}_ids": ids[frames].long(), f"{name}_mask": mask[frames]}
        return words

    def _tokenised(self, tokenizer: Callable, captions: list[str]) -> tuple[Tensor, Tensor]:
        out = tokenizer(
            captions,
            padding="max_length",
            max_length=self.max_length,
            truncation=True,
            return_tensors="pt",
        )
        return out["input_ids"].int(), out["attention_mask"].bool()  # (N, S) each


def collate(items: Sequence[dict]) -> dict:
    """Items of `StoryDataset` -> story batch: tensors gain a leading B, the rest become lists."""
    batch = {}
    for key in items[0]:
        values = [item[key] for item in items]
        batch[key] = torch.stack(values) if isinstance(values[0], Tensor) else values
    return batch


def _batched(transform: Callable[[Tensor], Tensor], frames: list[np.ndarray]) -> Tensor:
    """Apply to all frames (H, W, 3) at once, or one by one where their sizes differ.

    Memory stays in the frames' order, in which resizing is three times as fast.
    """
    if len({frame.shape for frame in frames}) == 1:
        return transform(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
    one_by_one = (torch.from_numpy(frame[None]).permute(0, 3, 1, 2) for frame in frames)
    return torch.cat([transform(frame) for frame in one_by_one])
