"""Story batches: shapes, exact pixels, frame choice and crops, loaders."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from datasets.data_module import StoryDataModule
from datasets.notices import (
    characters_read,
    long_captions,
    warn_of_long_captions,
    warn_of_unknown_words,
)
from datasets.specs import SPECS, StorySpec
from datasets.story_dataset import StoryDataset, collate, to_target
from datasets.story_hdf5 import SPLITS
from datasets.story_prompts import read_prompts
from datasets.story_writer import StoryWriter
from models.story_batch import StoryBatch
from pretraining.vocabulary import build_blip_tokenizer, build_clip_tokenizer
from tests.noise import noise

K, S = 3, 6
WORDS = ["in all three one two words 0 1 2 3"]
CLIP, BERT = build_clip_tokenizer(WORDS, 8), build_blip_tokenizer(WORDS, 8)


def history_transform(frames: torch.Tensor) -> torch.Tensor:
    assert frames.dtype == torch.uint8 and frames.shape[1] == 3
    return frames.float().mean((2, 3), keepdim=True).expand(-1, -1, 2, 2)


def strip(n: int, start: int) -> np.ndarray:
    """n frames of 8x8, frame i filled with start + i: a frame can be told from its colour."""
    return np.repeat(np.arange(start, start + n, dtype=np.uint8), 8)[:, None, None] + np.zeros(
        (1, 8, 3), np.uint8
    )


def build(path: Path, stories: list[list[np.ndarray]], splits=SPLITS, labels=None, key="text"):
    with StoryWriter(path, len(stories[0]), (key,)) as writer:
        for split in splits:
            for i, pictures in enumerate(stories):
                captions = ["one", f"two\twords {i}", "in  all three"][: len(pictures)]
                writer.add(split, pictures, {key: captions}, f"{split}{i}", labels)
    return path


HOW = {"task": "visualization", "image_size": 8, "history_transform": history_transform,
       "clip_tokenizer": CLIP, "blip_tokenizer": BERT, "max_length": S}  # fmt: skip


def dataset(path: Path, split: str = "val", spec: StorySpec | str = "cartoon", **change):
    return StoryDataset(path, split, SPECS[spec], **{**HOW, **change})


def uint8(target: torch.Tensor) -> np.ndarray:
    """(3, H, W) in [-1, 1] -> (H, W, 3) uint8."""
    return ((target + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.fixture
def squares(tmp_path):
    stories = [[noise(8, 8) for _ in range(K)] for _ in range(4)]
    return build(tmp_path / "s.h5", stories, labels=[{"n": k} for k in range(K)]), stories


@pytest.mark.parametrize("task, given, kept", [
    ("visualization", 0, False), ("continuation", 1, False), ("continuation", 1, True),
])  # fmt: skip
def test_a_window_of_a_long_story(squares, task, given, kept):
    """Any frames in a row, the same for everything in an item; another epoch shows others."""
    path, _ = squares
    latents = {"latents_mean": torch.arange(K), "latents_std": torch.arange(K)}
    how = {"task": task}
    if kept:
        how["cached"] = [{**latents, "picture_states": torch.arange(K)}] * 4
    whole = dataset(path, "train", **how)
    for split, starts in (("train", set(range(K - 1))), ("val", {0})):
        data, seen = dataset(path, split, window=2, **how), set()
        for epoch in range(8):
            item = data[epoch * len(data) + 1]
            (start,) = [
                s for s in range(K - 1)
                if torch.equal(item["history_ids"], whole[1]["history_ids"][s : s + 2])
            ]  # fmt: skip
            seen.add(start)
            for key, value in whole[1].items():
                if key == "story_id" or split == "val" and "image" in key:
                    continue
                drawn = key.startswith(("caption", "target", "latents"))
                part = slice(start, start + 2 - given) if drawn else slice(start, start + 2)
                assert torch.equal(item[key], value[part]), key
            again = data[epoch * len(data) + 1]
            assert torch.equal(again["history_ids"], item["history_ids"])
        assert seen == starts


@pytest.mark.parametrize("task, given, cache_frames", [
    ("visualization", 0, False), ("continuation", 1, True),
])  # fmt: skip
def test_batch(squares, task, given, cache_frames):
    path, stories = squares
    data = dataset(path, task=task, cache_frames=cache_frames)
    for _ in range(2):  # the second time from the cache
        batch = collate([data[2], data[0]])
    shapes = {k: tuple(v.shape) for k, v in batch.items() if isinstance(v, torch.Tensor)}
    assert shapes == {
        "target_images": (2, K - given, 3, 8, 8),
        "caption_ids": (2, K - given, S),
        "caption_mask": (2, K - given, S),
        "history_images": (2, K, 3, 2, 2),
        "history_ids": (2, K, S),
        "history_mask": (2, K, S),
    }
    assert batch["target_images"].dtype == torch.float32
    assert batch["caption_mask"].dtype == batch["history_mask"].dtype == torch.bool
    for b, story in enumerate((2, 0)):
        for v in range(K - given):
            target = uint8(batch["target_images"][b, v])
            np.testing.assert_array_equal(target, stories[story][v + given])
        for k in range(K):
            mean = stories[story][k].mean((0, 1))
            np.testing.assert_allclose(batch["history_images"][b, k, :, 0, 0], mean, rtol=1e-5)
    told = [BERT(text).input_ids for text in ("one", "two words 2", "in all three")]
    assert batch["history_ids"][0].tolist() == [
        [*ids, *[BERT.pad_token_id] * (S - len(ids))] for ids in told
    ]
    assert batch["history_mask"].sum(-1).tolist() == [[3, 5, 5]] * 2
    last = batch["caption_ids"][0, -1], batch["caption_mask"][0, -1]
    assert last[0][:5].tolist() == CLIP("in all three").input_ids
    assert last[1].tolist() == [True] * 5 + [False]
    assert batch["story_id"] == ["val2", "val0"]
    assert batch.keys() <= StoryBatch.__annotations__.keys()  # nothing that is not written down


@pytest.mark.parametrize("length", [4, 5])
def test_over_long_captions_are_cut_and_keep_the_end_token(squares, length):
    data = dataset(squares[0], max_length=length)
    item = data[0]
    ends = {"caption": (CLIP, CLIP.eos_token_id), "history": (BERT, BERT.sep_token_id)}
    for ids, (tokenizer, end) in ends.items():
        whole = tokenizer("in  all three")["input_ids"]
        assert len(whole) == 5
        assert item[f"{ids}_ids"][2].tolist() == [*whole[: length - 1], end]
        assert item[f"{ids}_mask"][2].all() and not item[f"{ids}_mask"][0].all()
    assert characters_read("in  all three", (CLIP, BERT), length) == {4: 7, 5: 13}[length]
    told = data.stories.all_captions()
    assert ("in  all three" in long_captions(told, (CLIP, BERT), length)) == (length == 4)


def test_over_long_captions_are_reported_once(squares):
    data = module(squares[0], max_length=4)
    with pytest.warns(UserWarning) as warned:
        data.setup("fit")
    (message,) = (str(w.message) for w in warned)
    assert "s.h5: 16 captions have more than 4 tokens and lose" in message
    assert "such as 'in  all three', of which 'three' is not read; shorten them, or tr" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(iter(data.train_dataloader()))  # nothing more of it
        module(squares[0], max_length=5).setup("fit")


def test_a_warning_shows_the_beginnings_of_long_captions_and_lists():
    told = [" ".join(f"word{n}" for n in range(1000))]
    with pytest.warns(UserWarning) as warned:
        long = long_captions(told, (CLIP, BERT), 4)
        warn_of_long_captions("s.h5", long, (CLIP, BERT), 4, "max_length")
        warn_of_unknown_words("s.h5", told, (CLIP, BERT), frozenset())
    cut, unknown = (str(w.message) for w in warned)
    assert len(cut) < 450 and "such as 'word0 word1" in cut and "…', of which 'word" in cut
    assert len(unknown) < 250 and "'word9' and 990 more, so expect nothing of them" in unknown


def test_targets_are_squashed_to_their_size_and_those_of_it_left_alone():
    frames = torch.from_numpy(noise(16, 16)).permute(2, 0, 1)[None]
    assert torch.equal(to_target(frames, (16, 16)), frames / 127.5 - 1)
    ramp = torch.arange(0, 240, 10, dtype=torch.uint8).expand(1, 3, 4, 24)
    squashed = to_target(ramp, (4, 4))
    assert squashed.shape == (1, 3, 4, 4) and (squashed[0, 0, 0].diff() > 0.2).all()
    assert -1 <= squashed.min() < -0.5 and 0.5 < squashed.max() <= 1


def test_prompts_hold_what_sampling_starts_from(squares):
    path, stories = squares
    prompts = list(read_prompts(dataset(path).frames, [2, 0]))
    assert [prompt.story_id for prompt in prompts] == ["val2", "val0"]
    assert prompts[0].captions == ["one", "two words 2", "in  all three"]
    assert [prompt.labels for prompt in prompts] == [[{"n": k} for k in range(K)]] * 2
    for prompt, story in zip(prompts, (stories[2], stories[0]), strict=True):
        np.testing.assert_array_equal(np.stack(prompt.reference_frames), np.stack(story))
        np.testing.assert_array_equal(prompt.first_frame, story[0])


def chosen(data: StoryDataset, index: int) -> list[int]:
    """Which frame of each strip was drawn; checks that target and history agree."""
    item = data[index]
    values = [int(uint8(target)[0, 0, 0]) for target in item["target_images"]]
    assert item["history_images"][:, 0, 0, 0].tolist() == values
    return [value - 40 * k for k, value in enumerate(values)]


def test_one_frame_of_a_strip_is_drawn(tmp_path, spec="pororo"):
    stories = [[strip(5, 0), strip(1, 40), strip(12, 80)] for _ in range(20)]
    path = build(tmp_path / "s.h5", stories)
    fixed = [chosen(dataset(path, "test", spec, seed=7), i) for i in range(20)]
    again = dataset(path, "test", spec, seed=7)
    assert [chosen(again, i) for i in reversed(range(20))] == fixed[::-1]
    assert [chosen(dataset(path, "test", spec, seed=8), i) for i in range(20)] != fixed
    assert {c[0] for c in fixed} == set(range(5)) and {c[1] for c in fixed} == {0}

    training = dataset(path, "train", spec, seed=7, cache_frames=True)
    draws = [chosen(training, epoch * 20) for epoch in range(60)]
    assert [chosen(training, epoch * 20) for epoch in range(60)] == draws
    assert {d[0] for d in draws} == set(range(5)) and {d[2] for d in draws} == set(range(12))


WIDE = np.zeros((8, 24, 3), np.uint8) + np.arange(24, dtype=np.uint8)[None, :, None]


def test_pictures_are_cropped_along_the_longer_side(tmp_path):
    wide, tall = WIDE, WIDE.transpose(1, 0, 2).copy()
    path = build(tmp_path / "s.h5", [[wide, tall, noise(16, 16)]], key="dii")
    data = dataset(path, "val", "vistdii", independent_crops=True)
    item, (prompt,) = data[0], read_prompts(data.frames, [0])
    np.testing.assert_array_equal(uint8(item["target_images"][0])[0, :, 0], np.arange(8, 16))
    np.testing.assert_array_equal(uint8(item["target_images"][1])[:, 0, 0], np.arange(8, 16))
    shapes = [frame.shape for frame in prompt.reference_frames]
    assert shapes == [(8, 8, 3), (8, 8, 3), (16, 16, 3)]
    np.testing.assert_array_equal(prompt.first_frame, wide[:, 8:16])
    portrait = dataset(path, "val", "vistdii", image_size=(8, 4))
    (prompt,) = read_prompts(portrait.frames, [0])
    np.testing.assert_array_equal(prompt.reference_frames[0], wide[:, 10:14])
    np.testing.assert_array_equal(prompt.reference_frames[1], tall[4:20])
    assert portrait[0]["target_images"].shape == (3, 3, 8, 4)


@pytest.mark.parametrize("apart", [False, True])
def test_targets_and_history_are_cropped_alike_unless_asked_otherwise(tmp_path, apart):
    """Training shows every part equally often, and apart the two know nothing of each other."""
    path = build(tmp_path / "s.h5", [[WIDE, WIDE.transpose(1, 0, 2).copy()]], key="dii")
    training = dataset(path, "train", "vistdii", independent_crops=apart)
    starts = []  # of both pictures' targets and histories
    for epoch in range(300):
        item = training[epoch]
        shown = [int(uint8(target)[0, 0, 0]) for target in item["target_images"]]
        starts.append([*shown, *(item["history_images"][:, 0, 0, 0] - 3.5).tolist()])
    starts = np.array(starts)
    for column in starts.T:
        assert set(column) == set(range(17))
    related = np.corrcoef(starts.T)
    assert abs(related[0, 1]) < 0.15  # pictures of a story are cropped each for itself
    if apart:
        assert np.abs(related[:2, 2:]).max() < 0.15
        assert (starts[:, :2] == starts[:, 2:]).mean() < 0.12  # 1 in 17 by chance
    else:
        np.testing.assert_array_equal(starts[:, :2], starts[:, 2:])


@pytest.mark.parametrize("spec, split, size, side, shown", [
    ("pororo", "train", (16, 8), 8, "8x16"), ("pororo", "val", (24, 8), 8, "8x24"),
    ("folder", "train", (8, 9), 8, "9x8"), ("folder", "train", (8, 8), (8, 4), "8x8"),
    ("pororo", "train", (8, 8), 8, None),  # one view, which is not refused
    ("folder", "val", (8, 9), 8, None), ("cartoon", "train", (8, 9), 8, None),
])  # fmt: skip
def test_latents_of_pictures_with_random_views_are_refused(
    tmp_path, spec, split, size, side, shown
):
    first = noise(*side) if isinstance(side, tuple) else noise(side, side)
    path = build(tmp_path / "s.h5", [[first, noise(*size)]])
    frames = dataset(path, split, spec, image_size=side).frames
    if shown is None:
        return frames.refuse_random_views()
    message = f"s.h5: image1 of story 0 of '{split}' is {shown}, of which a random part .*cannot be"
    with pytest.raises(ValueError, match=message):
        frames.refuse_random_views()


@pytest.mark.parametrize("spec, size", [("pororo", (24, 8)), ("folder", (8, 19))])
def test_draws_are_shown_in_turn_and_refused_no_more(tmp_path, spec, size):
    path = build(tmp_path / "s.h5", [[noise(*size), noise(*size)]])
    few, many = (dataset(path, "train", spec, draws=draws) for draws in (3, None))
    few.frames.refuse_random_views()
    shown = [few[epoch]["target_images"] for epoch in range(9)]
    for epoch, images in enumerate(shown):
        assert torch.equal(images, shown[epoch % 3])
        assert epoch > 2 or torch.equal(images, many[epoch]["target_images"])
        targets, history = few.views(epoch % 3)
        assert torch.equal(images, targets)
        assert torch.equal(few[epoch]["history_images"], history)
    assert not all(torch.equal(shown[0], images) for images in shown)
    cached = {draw: {"latents_mean": torch.full((2, 4, 2, 2), draw)} for draw in range(3)}
    data = dataset(path, "train", spec, draws=3, cached=cached)
    assert [int(data[epoch]["latents_mean"][0, 0, 0, 0]) for epoch in range(5)] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("spec, size", [("pororo", (72, 8)), ("folder", (8, 19))])
def test_windows_of_draws_show_what_is_cached_of_the_whole(tmp_path, spec, size):
    path = build(tmp_path / "s.h5", [[noise(*size) for _ in range(K)]])
    data, starts = dataset(path, "train", spec, draws=2, window=2), set()
    for epoch in range(8):
        shown = data._shown(0, epoch)
        starts.add(shown.start)
        targets, history = data.views(epoch % 2)
        assert torch.equal(data[epoch]["target_images"], targets[shown])
        assert torch.equal(data[epoch]["history_images"], history[shown])
    assert starts == {0, 1}


def test_what_does_not_fit_is_refused(tmp_path):
    assert module(build(tmp_path / "u.h5", [[noise(8, 8)] * K], ("train",))).val_dataloader() == []
    path = build(tmp_path / "s.h5", [[noise(9, 8), noise(8, 8)]])
    with pytest.raises(ValueError, match="s.h5: image0 of story 0 of 'val' is 8x9, not a column"):
        dataset(path, spec="pororo")[0]


def module(path: Path, **change) -> StoryDataModule:
    how = {"batch_size": 2, "spec": SPECS["cartoon"], **HOW, **change}
    return StoryDataModule(path=path, **how)


def order(loader) -> list[list[int]]:
    return [[int(name[-1]) for name in batch["story_id"]] for batch in loader]


def test_loaders(tmp_path):
    stories = [[strip(9, 0), strip(1, 40), strip(1, 80)] for _ in range(5)]
    path = build(tmp_path / "s.h5", stories)
    data = module(path, seed=3, spec=SPECS["pororo"])
    train = data.train_dataloader()
    first = order(train)
    assert [len(b) for b in first] == [2, 2]  # the odd one is dropped
    train.sampler.set_epoch(1)
    second = order(train)
    assert first != second
    again = module(path, seed=3, spec=SPECS["pororo"]).train_dataloader()
    assert order(again) == first != order(module(path, seed=4).train_dataloader())
    assert order(data.val_dataloader()) == [[0, 1], [2, 3], [4]]
    assert [len(b) for b in order(module(path, batch_size=8).train_dataloader())] == [5]
    two = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": 2, "rank": 1}, global_rank=1)
    shared = module(path, batch_size=4)
    shared.trainer = two
    assert [len(b) for b in order(shared.train_dataloader())] == [3]  # nor when it is shared
    assert [prompt.story_id for prompt in data.prompts("val", 2)] == ["val0", "val1"]


def test_views_are_an_epochs_own_whatever_worker_makes_them(tmp_path):
    path = build(tmp_path / "s.h5", [[strip(30, 0)] for _ in range(16)])

    def drawn(**change) -> list[list[tuple[int, float]]]:
        how = {"num_workers": 0, "seed": 5, "spec": SPECS["pororo"], "batch_size": 1, **change}
        loader = module(path, **how).train_dataloader()
        epochs = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            pictures = ((b["story_id"][0], b["history_images"][0, 0, 0, 0, 0]) for b in loader)
            epochs.append([(index, value.item()) for index, value in pictures])
        return epochs

    first = drawn()
    assert len({value for _, value in first[0]}) > 5
    assert {name for name, _ in first[1]} == {f"train{i}" for i in range(16)}
    assert sum(a != b for a, b in zip(*map(sorted, first), strict=True)) > 10
    assert drawn(num_workers=2) == first != drawn(seed=6)


def test_damaged_stories_are_left_out_and_said_once(tmp_path):
    path = build(tmp_path / "s.h5", [[strip(9, 40 * k) for k in range(K)] for _ in range(5)])
    how = {"spec": SPECS["pororo"], "seed": 3}
    whole = [chosen(dataset(path, "train", "pororo", seed=3), i) for i in range(5)]
    with h5py.File(path, "a") as file:
        file["train/text"][1] = "one|two"
        file["val/text"][4] = "one|two|three|four"
    with pytest.warns(UserWarning) as warned:
        module(path, **how).setup("fit")
    (message,) = (str(w.message) for w in warned)
    assert "s.h5: 1 of 5 stories of 'train' (story 1: 2 captions in 'text' for 3 pic" in message
    assert "and 1 of 5 stories of 'val' (story 4: 4 captions" in message
    assert f"left out; python -m datasets.check {path} lists them" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said again
        loader = module(path, batch_size=1, **how).train_dataloader()
        names = {batch["story_id"][0] for batch in loader}
    assert names == {"train0", "train2", "train3", "train4"}
    left = dataset(path, "train", "pororo", seed=3)
    # The others' frames are drawn as they were.
    assert [chosen(left, i) for i in range(4)] == [whole[i] for i in (0, 2, 3, 4)]
