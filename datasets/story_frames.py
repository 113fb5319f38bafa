"""The frames of stories as they are shown: which one of a strip, which part of a picture."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from datasets.pictures import decode_frame, frames_in_strip, picture_size
from datasets.specs import StorySpec
from datasets.story_hdf5 import StoryFile

__all__ = ["StoryFrames", "shown_part"]


class StoryFrames:
    """The K frames of each story of one split.

    Which frame of a strip is drawn, and where a picture is cropped, is random: in the training
    split by (seed, epoch, story), in the others by (seed, story). Targets and history show the same
    frame, and unless `independent_crops` the same part of it.

    Args:
        cache: keep decoded pictures (of strips, their bytes) in memory, once per process.
        independent_crops: crop targets and history apart in training, as the originals do.
        draws: so many random choices of each story are shown in turn, epoch by epoch; None: new
            ones in every epoch.
        size: height and width of drawn frames, whose proportions a cropped part has.
        middle: crop to the middle of a picture in training as well.
    """

    def __init__(
        self,
        stories: StoryFile,
        spec: StorySpec,
        seed: int = 0,
        *,
        cache: bool = False,
        independent_crops: bool = False,
        draws: int | None = None,
        size: tuple[int, int] = (1, 1),
        middle: bool = False,
    ) -> None:
        self.stories = stories
        self.spec = spec
        self.seed = seed
        self.training = stories.split == "train"
        self.independent_crops = independent_crops
        self.draws = draws
        self.size = size
        self.middle = middle or not self.training
        self._cache: dict[Hashable, Any] | None = {} if cache else None

    def __call__(
        self, index: int, epoch: int = 0, shown: slice = slice(None)
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """A story's frames as targets and as history show them, each (H, W, 3) uint8.

        shown: only these are read.
        """
        row, epoch = self.stories.rows[index], epoch % (self.draws or epoch + 1)
        random = np.random.default_rng((self.seed, *[epoch] * self.training, row))
        picture = partial(self._strip_frame, random=random) if self.spec.strip else self._picture
        # Draws are of whole stories, as they are cached: a part of one shows the same choices.
        every = range(self.stories.pictures_per_story)
        read, chosen = (every, shown) if self.draws else (every[shown], slice(None))
        pictures = [picture(index, k) for k in read]
        targets = history = [self._part(one, random) for one in pictures]
        if self.independent_crops:
            history = [self._part(one, random) for one in pictures]
        return targets[chosen], history[chosen]

    def refuse_random_views(self) -> None:
        """ValueError if a picture can be seen in more than one way: its latents are not one."""
        if self.draws or (not self.spec.strip and self.spec.crop == "squash"):
            return
        frames = range(self.stories.pictures_per_story)
        for index, k in product(range(len(self.stories)), frames):
            height, width = self.stories.picture_size(index, k)
            one = (width, width) if self.spec.strip else (height, width)
            cropped = not self.middle and _part_size(*one, self.spec, self.size) != one
            if cropped or (self.spec.strip and height != width):
                raise ValueError(
                    f"{self.stories.path}: image{k} of {self.stories.name(index)} is "
                    f"{width}x{height}, of which a random part is shown each time, so its latents "
                    f"cannot be cached; set latent_draws=4 to cache four parts, shown in turn, or "
                    f"train without that cache, cache_latents=false"
                )

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

    def _part(self, frame: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return shown_part(frame, self.spec, self.size, None if self.middle else random)

    def _kept(self, key: Hashable, make: Callable, *args: int) -> Any:
        """make(*args), remembered if the data set is cached."""
        if self._cache is None:
            return make(*args)
        if key not in self._cache:
            self._cache[key] = make(*args)
        return self._cache[key]


def shown_part(
    frame: np.ndarray,
    spec: StorySpec,
    size: tuple[int, int],
    random: np.random.Generator | None = None,
) -> np.ndarray:
    """The part of a frame (H, W, 3) that is shown if the data set is cropped, or all of it.

    size: height and width of drawn frames; random: where from; None: the middle.
    """
    if spec.crop == "squash":
        return frame
    height, width = _part_size(*frame.shape[:2], spec, size)
    free = frame.shape[0] - height + frame.shape[1] - width  # one of the two is 0
    start = free // 2 if random is None else int(random.integers(free + 1))
    if height < frame.shape[0]:
        return frame[start:][:height]
    return frame[:, start:][:, :width]


def _part_size(height: int, width: int, spec: StorySpec, size: tuple[int, int]) -> tuple[int, int]:
    """Of the largest part with the proportions of drawn frames, if the data set is cropped."""
    if spec.crop == "squash":
        return height, width
    tall, wide = size
    return min(height, round(width * tall / wide)), min(width, round(height * wide / tall))
