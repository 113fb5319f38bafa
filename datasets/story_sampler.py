"""The order in which training reads its stories, from any point of any epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Dataset, DistributedSampler

__all__ = ["StorySampler"]


class StorySampler(DistributedSampler):
    """Shuffles by (seed, epoch) alone and deals the stories out to the processes.

    Yields epoch * len(stories) + index, as `StoryDataset` reads it: its random views are then
    another epoch's, in whatever process they are made.

    Args:
        start: an epoch that was cut off, and how many of its stories all processes together have
            read: the rest is dealt out to the processes that there are now.
    """

    def __init__(
        self,
        stories: Dataset,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        start: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(stories, num_replicas, rank, shuffle=True, seed=seed)
        self.start = start
        self.set_epoch(start[0])  # workers read ahead before the trainer says so

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(count, generator=generator).tolist()  # as the library's
        rest = order[self.start[1] :] if self.epoch == self.start[0] else order.copy()
        # All processes get equally many, the last ones some of the first stories once more.
        rest += (order * self.num_replicas)[: -len(rest) % self.num_replicas]
        return iter([self.epoch * count + index for index in rest[self.rank :: self.num_replicas]])
