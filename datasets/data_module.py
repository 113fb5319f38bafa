"""The Lightning data module: a story file's splits as seeded loaders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Subset

from datasets.story_dataset import StoryDataset, collate

# Workers are the parallelism; a tokenizer's own threads would only warn when a worker forks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class StoryDataModule(pl.LightningDataModule):
    """Loaders of story batches; `how` holds the arguments of `StoryDataset` from `path` on.

    Distribution over devices is Lightning's: it puts its own sampler into these loaders. The
    predict loader walks `predict_split`, or the stories of it that `predict_stories` names, and
    carries raw frames. latents: split -> lookup.
    """

    def __init__(
        self,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        predict_split: str = "test",
        predict_stories: Sequence[int] | None = None,
        latents: Mapping[str, Mapping] | None = None,
        **how: Any,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.predict_split = predict_split
        self.predict_stories = predict_stories
        self.latents = latents or {}
        self._how = how

    def dataset(self, split: str, **how: Any) -> StoryDataset:
        """A split as a data set; in training every rank draws its own random views."""
        seed = self.seed + self._rank if split == "train" else self.seed
        latents = self.latents.get(split)
        return StoryDataset(split=split, seed=seed, latent_lookup=latents, **self._how, **how)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def train_dataloader(self) -> DataLoader:
        stories = self.dataset("train")
        return self._loader(stories, shuffle=True, drop_last=len(stories) > self.batch_size)

    def val_dataloader(self) -> DataLoader | list:
        stories = self.dataset("val")
        return self._loader(stories) if len(stories) else []  # Lightning skips an empty list

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.dataset("test"))

    def predict_dataloader(self) -> DataLoader:
        stories = self.dataset(self.predict_split, raw_frames=True)
        if self.predict_stories is not None:
            stories = Subset(stories, self.predict_stories)
        return self._loader(stories)

    def _loader(
        self, stories: StoryDataset | Subset, shuffle: bool = False, drop_last: bool = False
    ) -> DataLoader:
        if not len(stories):
            file = getattr(stories, "dataset", stories).stories
            raise ValueError(f"{file.path}: split {file.split!r} has no story: build it with some")
        return DataLoader(
            stories,
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            # decides the order and seeds the workers
            generator=torch.Generator().manual_seed(self.seed + self._rank),
        )
