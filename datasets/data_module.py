"""The Lightning data module: a story file's splits as seeded loaders."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.interrupts import FROM_OUTSIDE
from datasets.notices import long_captions, warn_of_left_out, warn_of_long_captions
from datasets.story_dataset import StoryDataset, collate
from datasets.story_hdf5 import StoryFile
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
        self._start = (0, 0)  # epoch, and how many of its stories are behind all processes
        self._counted = 0  # batches of it that the trainer counts as done then

    def state_dict(self) -> dict[str, int]:
        """How far training is, at the last optimiser step: the epoch and its stories."""
        loop, trainer = self.trainer.fit_loop, self.trainer
        epoch = loop.epoch_progress.current.ready - 1
        batches = loop.epoch_loop.batch_progress.current.processed
        read = 0
        if batches >= trainer.num_training_batches:
            epoch += 1
        else:
            first, counted = (self._start[1], self._counted) if epoch == self._start[0] else (0, 0)
            batches -= batches % trainer.accumulate_grad_batches
            read = first + max(0, batches - counted) * self.batch_size * trainer.world_size
        return {"epoch": epoch, "stories": read, "of": self._count, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._start = (state["epoch"], state["stories"])
        self._counted = self.batches_behind(state) or 0
        if self._counted and self._counted == self._batches(self._count):  # too few for another one
            self._start, self._counted = (state["epoch"] + 1, 0), 0

    def batches_behind(self, state: dict[str, int]) -> int | None:
        """How many of the epoch's batches, as they are dealt out now, a saved state has behind it;
        None between epochs.

        Raises:
            ValueError: it stopped within an epoch of other stories, or in another order.
        """
        read = state["stories"]
        for key, what, now in (("of", "stories", self._count), ("seed", "seed", self.seed)):
            if read and state[key] != now:
                raise ValueError(
                    f"train_model_file stopped within an epoch with {what}={state[key]}, now it is "
                    f"{now}; go on with the same, or from a checkpoint of an epoch's end"
                )
        return self._batches(self._count) - self._batches(self._count - read) if read else None

    def _batches(self, stories: int) -> int:
        """Batches that each process makes of what is left of an epoch."""
        whole, left = (-(-n // self.trainer.world_size) for n in (self._count, stories))
        if whole > self.batch_size:  # a last batch that is not full is dropped
            return left // self.batch_size
        return int(left > 0)

    @cached_property
    def _count(self) -> int:
        return len(StoryFile(self._how["path"], "train", self._how["spec"].text_key))

    def prepare_data(self) -> None:
        if self.latents is not None:
            self.latents.prepare(FITTED, self.picture_batches, self.trainer.strategy.root_device)

    def picture_batches(self, split: str) -> DataLoader:
        """Batches of a split's frames in order, draw by draw, as the autoencoder and as BLIP sees
        them."""
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
        long = long_captions(captions, tokenizers, length)
        warn_of_long_captions(path, long, tokenizers, length, f"{key}.max_length")

    def dataset(self, split: str) -> StoryDataset:
        """A split as a data set."""
        cached = self.latents.split(split) if self.latents else None
        return StoryDataset(split=split, seed=self.seed, cached=cached, **self._how)

    def train_dataloader(self) -> DataLoader:
        stories = self.dataset("train")
        ranks = (self.trainer and self.trainer.distributed_sampler_kwargs) or {}
        sampler = StorySampler(stories, self.seed, start=self._start, **ranks)
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
        return DataLoader(
            stories,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_leave_signals if self.num_workers else None,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # seeds the workers
        )


def _leave_signals(worker: int) -> None:
    """Terminals and job schedulers signal every process; the training process decides for all.

    Workers end with it.
    """
    for number in (signal.SIGINT, *FROM_OUTSIDE):
        signal.signal(number, signal.SIG_IGN)


class _Views(Dataset):
    """The frames of every story, and of every draw, as the frozen encoders see them."""

    def __init__(self, stories: StoryDataset) -> None:
        self.stories = stories

    def __len__(self) -> int:
        return self.stories.draws * len(self.stories)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.stories.views(index)
