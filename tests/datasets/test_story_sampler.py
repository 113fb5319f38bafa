"""The order of training stories: shuffled, shared out, taken up anywhere."""

from __future__ import annotations

import pytest

from datasets.story_sampler import StorySampler

STORIES = range(10)


def epoch_of(sampler: StorySampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    assert len(sampler) == len(StorySampler(STORIES, num_replicas=sampler.num_replicas))
    return list(sampler)


def test_an_epoch_holds_every_story_once_in_an_order_of_its_own():
    sampler = StorySampler(STORIES, seed=3)
    epochs = [epoch_of(sampler, epoch) for epoch in range(3)]
    for epoch, order in enumerate(epochs):
        assert sorted(order) == [10 * epoch + index for index in STORIES]
    assert len({tuple(index % 10 for index in order) for order in epochs}) == 3
    assert epoch_of(StorySampler(STORIES, seed=3), 1) == epochs[1]
    assert epoch_of(StorySampler(STORIES, seed=4), 0) != epochs[0]


def test_processes_share_an_epoch(processes=3):
    shares = [StorySampler(STORIES, 3, processes, rank) for rank in range(processes)]
    taken = [index for share in shares for index in epoch_of(share, 0)]
    assert set(taken) == set(STORIES)
    assert len(taken) == -(-10 // processes) * processes  # as long for all: some come twice


@pytest.mark.parametrize("processes, rank, read", [(1, 0, 4), (2, 1, 0), (2, 1, 6)])
def test_an_epoch_goes_on_where_it_was_cut_off(processes, rank, read):
    whole = StorySampler(STORIES, 3, processes, rank)
    rest = StorySampler(STORIES, 3, processes, rank, start=(1, read))
    assert list(rest) == epoch_of(whole, 1)[read // processes :]  # before the epoch is told
    assert epoch_of(rest, 1) == epoch_of(whole, 1)[read // processes :]  # however often
    assert epoch_of(rest, 2) == epoch_of(whole, 2)


def test_other_processes_read_what_is_left_once(processes=2):
    order = epoch_of(StorySampler(STORIES, 3), 1)
    shares = [StorySampler(STORIES, 3, processes, r, start=(1, 6)) for r in range(processes)]
    taken = [share for one in zip(*map(list, shares), strict=True) for share in one]
    assert taken == order[6:]
