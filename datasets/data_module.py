"""The Lightning data module: a story file's splits as seeded loaders."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from datasets.damage import told
from datasets.story_dataset import StoryDataset, collate
from datasets.story_sampler import StorySampler

# Workers are the parallelism; a tokenizer's own threads would only warn when a worker forks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

FITTED = ("train", "val")  # the splits that training reads


class LatentStore(Protocol):
    """What keeps frozen encoders' outputs between runs; see `models.latent_cache.LatentCache`."""

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
    into the other loaders Lightning puts its own samplers. The predict loader walks
    `predict_split`, or the stories of it that `predict_stories` names, and carries raw frames.
    latents: a `models.latent_cache.LatentCache`, for train and val; whatever is not cached yet is
    encoded before training starts, by one process of every machine.
    """

    def __init__(
        self,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        predict_split: str = "test",
        predict_stories: Sequence[int] | None = None,
        latents: LatentStore | None = None,
        **how: Any,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.predict_split = predict_split
        self.predict_stories = predict_stories
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
        stories.refuse_random_views()
        # A generator of its own: a run that finds its cache must draw the same noise.
        own = {"generator": torch.Generator(), "num_workers": self.num_workers}
        return DataLoader(_Views(stories), self.batch_size, **own)

    def setup(self, stage: str) -> None:
        """Say once, before anything long, which stories are left out and which captions lose their
        end."""
        if self.trainer and self.trainer.global_rank:
            return
        splits = FITTED if stage == "fit" else (self.predict_split,)
        data = {split: self.dataset(split) for split in splits}
        damaged = [told(one.stories) for one in data.values() if one.stories.left_out]
        if damaged:
            path = self._how["path"]
            warnings.warn(
                f"{path}: {' and '.join(damaged)} are damaged and left out; "
                f"python -m datasets.check {path} lists them",
                stacklevel=2,
            )
        counts = {split: one.long_captions() for split, one in data.items()}
        long = sum(counts.values(), Counter())
        if long:
            stories = self._how["spec"].name
            warnings.warn(
                f"{self._how['path']}: {long.total()} captions of {' and '.join(counts)} have more "
                f"than {self._how['max_length']} tokens and lose their end, such as "
                f"{max(long, key=len)!r}; raise {stories}.max_length or shorten them",
                stacklevel=2,
            )

    def dataset(self, split: str, **how: Any) -> StoryDataset:
        """A split as a data set."""
        cached = self.latents.split(split) if self.latents and split in FITTED else None
        return StoryDataset(split=split, seed=self.seed, cached=cached, **self._how, **how)

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

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.dataset("test"))

    def predict_dataloader(self) -> DataLoader:
        stories = self.dataset(self.predict_split, raw_frames=True)
        if self.predict_stories is not None:
            stories = Subset(stories, self.predict_stories)
        return self._loader(stories)

    def _loader(
        self,
        stories: StoryDataset | Subset,
        sampler: StorySampler | None = None,
        drop_last: bool = False,
    ) -> DataLoader:
        if not len(stories):
            file = getattr(stories, "dataset", stories).stories
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
