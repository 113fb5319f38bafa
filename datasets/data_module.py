"""The Lightning data module: a story file's splits as seeded loaders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.notices import warn_of_left_out, warn_of_long_captions
from datasets.story_dataset import StoryDataset, collate
from datasets.story_prompts import StoryPrompt, read_prompts
from datasets.story_sampler import StorySampler

# Workers are the parallelism; a tokenizer's own threads would only warn when a worker forks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

FITTED = ("train", "val")  # the splits that training reads


class LatentStore(Protocol):
    """What keeps frozen encoders' outputs between runs; such as the latent cache of `models`."""

    def prepare(
        self,
        splits: Sequence[str],
        batches_of: Callable[[str], Iterable[tuple[Tensor, Tensor]]],
        device: torch.device,
    ) -> None: ...

    def split(self, split: str) -> Mapping[int, Mapping[str, Tensor]]: ...


class StoryDataModule(pl.LightningDataModule):
    """Loaders of story batches; `how` holds the arguments of `StoryDataset` from `path` on.

    `StorySampler` deals the training stories out to devices, from where a checkpoint was written;
    into the other Lightning puts its own. latents: the latent cache of `models`; whatever is not
    cached yet is encoded before training starts, by one process of every machine.
    """

    def __init__(
        self,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        latents: LatentStore | None = None,
        **how: Any,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.latents = latents
        self._how = how
        self._start = (0, 0)  # epoch, and batches of it that are behind us

    def state_dict(self) -> dict[str, int]:
        """How far training is: the epoch and its batches, each process's own number of them."""
        loop = self.trainer.fit_loop
        epoch = loop.epoch_progress.current.ready - 1
        batches = loop.epoch_loop.batch_progress.current.ready
        whole = batches >= self.trainer.num_training_batches
        return {"epoch": epoch + 1, "batches": 0} if whole else {"epoch": epoch, "batches": batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._start = (state["epoch"], state["batches"])

    def prepare_data(self) -> None:
        if self.latents is not None:
            self.latents.prepare(FITTED, self.picture_batches, self.trainer.strategy.root_device)

    def picture_batches(self, split: str) -> DataLoader:
        """Batches of a split's frames in order, as the autoencoder and as BLIP sees them."""
        stories = StoryDataset(split=split, seed=self.seed, **self._how)
        stories.frames.refuse_random_views()
        # A generator of its own: a run that finds its cache must draw the same noise.
        own = {"generator": torch.Generator(), "num_workers": self.num_workers}
        return DataLoader(_Views(stories), self.batch_size, **own)

    def setup(self, stage: str) -> None:
        if self.trainer and self.trainer.global_rank:
            return
        data = [self.dataset(split) for split in FITTED]
        warn_of_left_out([one.stories for one in data])
        captions = (caption for one in data for caption in one.stories.all_captions())
        tokenizers, key = (data[0].clip_tokenizer, data[0].blip_tokenizer), self._how["spec"].name
        path, length = self._how["path"], self._how["max_length"]
        warn_of_long_captions(path, captions, tokenizers, length, f"{key}.max_length")

    def dataset(self, split: str) -> StoryDataset:
        """A split as a data set."""
        cached = self.latents.split(split) if self.latents else None
        return StoryDataset(split=split, seed=self.seed, cached=cached, **self._how)

    def train_dataloader(self) -> DataLoader:
        stories = self.dataset("train")
        epoch, batches = self._start
        ranks = (self.trainer and self.trainer.distributed_sampler_kwargs) or {}
        start = (epoch, batches * self.batch_size)
        sampler = StorySampler(stories, self.seed, start=start, **ranks)
        return self._loader(stories, sampler, drop_last=len(sampler) > self.batch_size)

    def val_dataloader(self) -> DataLoader | list:
        stories = self.dataset("val")
        return self._loader(stories) if len(stories) else []  # Lightning skips an empty list

    def prompts(self, split: str, count: int) -> list[StoryPrompt]:
        """The first stories of a split, to draw them."""
        data = self.dataset(split)
        return list(read_prompts(data.frames, range(min(count, len(data)))))

    def _loader(
        self,
        stories: StoryDataset,
        sampler: StorySampler | None = None,
        drop_last: bool = False,
    ) -> DataLoader:
        if not len(stories):
            file = stories.stories
            raise ValueError(f"{file.path}: split {file.split!r} has no story: build it with some")
        return DataLoader(
            stories,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # seeds the workers
        )


class _Views(Dataset):
    """The frames of every story as the frozen encoders see them."""

    def __init__(self, stories: StoryDataset) -> None:
        self.stories = stories

    def __len__(self) -> int:
        return len(self.stories)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.stories.views(index)
