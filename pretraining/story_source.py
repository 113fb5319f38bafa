"""Any story file as a source: its training stories' pictures, and the story so far as captions.

A caption of the middle of a story says "they", and what it leaves open stands in the ones before
it. So the full caption of a picture is the story up to there, of which the oldest captions are
dropped where it gets too long.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from common.terminal import tqdm
from datasets.specs import SPECS, StorySpec
from datasets.story_dataset import to_target
from datasets.story_frames import StoryFrames
from datasets.story_hdf5 import StoryFile, validate_story_file
from pretraining.source import Example, Source
from pretraining.vocabulary import split_words, token_counter

__all__ = ["story_source", "so_far", "telling_words"]

MOST_PICTURES = 30_000  # in memory: 1.5 GB at 128 pixels
HELD_OUT = 200  # pictures that are measured
FEW = 6_000  # pictures; the autoencoder sees fewer shifted and mirrored too
LONGEST = 77  # tokens of a caption, as CLIP's
RANKS, RANK_SIZE = 4, 8  # of telling words
ABOUT = """It knows single pictures of one world, not stories: who "she" is, and what was there a
frame ago, AR-LDM learns from stories afterwards. Made from the pictures and captions of the {train}
training stories of `{file}` alone ({pictures} different pictures, {frames} with captions). It draws
that world and nothing else; its pictures' licence is that of those it was made from."""


def story_source(path: str | os.PathLike, size: int, dataset: str = "folder") -> Source:
    """The pictures of a story file, `size` pixels high and wide, of those that `dataset` reads.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or no training story in it.
    """
    spec = SPECS[dataset]
    validate_story_file(path, ("train",), (spec.text_key,))
    train = StoryFile(path, "train", spec.text_key)
    captions = list(train.all_captions())
    count = token_counter(captions)
    if (longest := max(map(count, captions))) > LONGEST:
        print(f"{path}: a caption has {longest} tokens, of which {LONGEST} are read")
    frames, examples = _read([train], spec, size, MOST_PICTURES, {}, count)
    seen = {frame.numpy().tobytes(): -1 for frame in frames}
    others = [StoryFile(path, split, spec.text_key) for split in ("val", "test")]
    held_out, held_out_examples = _read(others, spec, size, HELD_OUT, seen, count)
    about = ABOUT.format(
        train=len(train), file=train.path.name, pictures=len(frames), frames=len(examples)
    )
    return Source(
        name=train.path.name,
        about=about,
        frames=frames,
        examples=examples,
        held_out=held_out,
        held_out_examples=held_out_examples,
        telling=telling_words(examples),
        determined=False,
        augment=len(frames) < FEW,
        max_length=min(LONGEST, max(32, *(count(e.full) for e in examples))),
    )


def _read(
    files: Sequence[StoryFile],
    spec: StorySpec,
    size: int,
    most: int,
    seen: dict[bytes, int],
    count: Callable[[str], int],
) -> tuple[Tensor, list[Example]]:
    """Different pictures (N, 3, size, size), evenly from all stories, and where they are told.

    seen: the bytes of pictures that are left out. count: of a caption's tokens.
    """
    rows: list[Tensor] = []
    examples: list[Example] = []
    row_of = dict(seen)
    places = [(file, index) for file in files for index in range(len(file))]
    stories = max(1, most // files[0].pictures_per_story)
    if len(places) > stories:
        print(f"{files[0].path}: {stories} of {len(places)} stories are read, evenly spread")
        places = [places[i] for i in np.linspace(0, len(places) - 1, stories).astype(int)]
    # The middle of each, so that a picture is the same one in every story, and in every split.
    how = {"size": (size, size), "middle": True}
    readers = {id(file): StoryFrames(file, spec, **how) for file in files}
    for file, index in tqdm(places, desc="read pictures", leave=False):
        pictures, _ = readers[id(file)](index)
        captions = file.captions(index)
        for k, picture in enumerate(pictures):
            frame = _shrunk(picture, size)
            row = row_of.setdefault(frame.numpy().tobytes(), len(rows))
            if row == len(rows):
                rows.append(frame)
            if row >= 0:
                examples.append(Example(row, captions[k].strip(), so_far(captions[: k + 1], count)))
    empty = torch.empty(0, 3, size, size, dtype=torch.uint8)
    return (torch.stack(rows) if rows else empty), examples


def _shrunk(picture: np.ndarray, size: int) -> Tensor:
    """(H, W, 3) uint8 -> (3, size, size) uint8."""
    frame = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    if frame.shape[-2:] == (size, size):
        return frame[0].contiguous()
    return ((to_target(frame, (size, size))[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def so_far(captions: Sequence[str], count: Callable[[str], int], longest: int = LONGEST) -> str:
    """The story up to the last of `captions`, without the oldest where it has too many tokens."""
    told = [" ".join(map(str.strip, captions[n:])) for n in range(len(captions))]
    return next((text for text in told if count(text) <= longest), told[-1])


def telling_words(examples: Sequence[Example]) -> list[list[str]]:
    """Words by how much they tell that a picture's own caption leaves out, in ranks.

    A word's worth is how often it is missing from the caption of a picture whose story so far has
    it, times how rare it is (its surprise, in nats).
    """
    had: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for example in examples:
        full, own = set(split_words(example.full)), set(split_words(example.caption))
        had.update(full)
        missing.update(full - own)
    worth = {
        word: missing[word] / count * math.log(len(examples) / count)
        for word, count in had.items()
        if any(letter.isalnum() for letter in word)
    }
    ordered = sorted(worth, key=lambda word: (-worth[word], word))
    return [ordered[i * RANK_SIZE : (i + 1) * RANK_SIZE] for i in range(RANKS)]
