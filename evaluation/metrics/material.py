"""What metrics look at: the pictures, captions and labels of stories as (stories, frames) tables.

The same metrics on other material tell what their values mean: on real frames in place of drawn
ones, and on shuffled stories, whose frames all come from different stories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.samples import SampledStory

__all__ = ["Material", "shuffled_rows"]


@dataclass(frozen=True, eq=False)
class Material:
    """(S, K) tables of S stories of at most K frames; beyond a story's end, pictures and captions
    are None and nothing is drawn. `variant` tells tables of one folder apart."""

    folder: str
    stories: Sequence[SampledStory]
    pictures: np.ndarray  # of Path
    references: np.ndarray | None  # of Path
    captions: np.ndarray  # of str
    drawn: np.ndarray  # of bool: not given
    variant: str = "drawn"

    @classmethod
    def of(cls, folder: str, stories: Sequence[SampledStory]) -> Material:
        """ValueError when only some stories have references."""
        first, longest = stories[0], max(len(story.frames) for story in stories)
        for story in stories:
            if bool(story.reference_frames) != bool(first.reference_frames):
                raise ValueError(
                    f"{folder}: of {story.story_id!r} and {first.story_id!r} only one has "
                    "reference frames: give all stories references, or none"
                )
        drawn = np.array(
            [[one.given <= k < len(one.frames) for k in range(longest)] for one in stories]
        )
        if not drawn.any():
            raise ValueError("every frame was given, none was drawn: sample stories of more frames")
        references = [story.reference_frames for story in stories]
        return cls(
            folder,
            stories,
            _table([story.frames for story in stories], longest),
            _table(references, longest) if first.reference_frames else None,
            _table([story.captions for story in stories], longest),
            drawn,
        )

    def real(self) -> Material | None:
        """Real frames in place of the drawn ones."""
        if self.references is None:
            return None
        return replace(self, pictures=self.references, variant="real")

    def shuffled(self) -> Material | None:
        """Each frame replaced by that of another story, each of a story's from a different one.

        None when there are not more stories than frames in a story, or stories differ in length.
        """
        rows = shuffled_rows(*self.pictures.shape)
        if rows is None or (self.pictures == None).any():  # noqa: E711
            return None
        columns = np.arange(self.pictures.shape[1])
        return replace(self, pictures=self.pictures[rows, columns], variant="shuffled")

    def neighbours(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where a drawn frame has one before it (S, K), the pictures there (n,), those before."""
        where = self.drawn.copy()
        where[:, 0] = False
        return where, self.pictures[where], self.pictures[np.roll(where, -1, 1)]

    def pairs(self) -> np.ndarray:
        """(S, K, K): whether frames n and m < n are both drawn and, where labels say who is there,
        share a character."""
        both = np.tril(self.drawn[:, :, None] & self.drawn[:, None], -1)
        for s, story in enumerate(self.stories):
            casts = [label.get("cast") for label in story.labels or ()]
            for n, m in zip(*np.nonzero(both[s]), strict=True):
                if casts and None not in (casts[n], casts[m]):
                    both[s, n, m] = not {*casts[n]}.isdisjoint(casts[m])
        return both

    def per_frame(
        self, where: np.ndarray, values: np.ndarray, weights: np.ndarray | float = 1
    ) -> np.ndarray:
        """(S, K, 2) numerators and denominators of frames `where`; zeros of the others."""
        counts = np.zeros((*where.shape, 2))
        counts[where, 0], counts[where, 1] = values, weights
        return counts


def shuffled_rows(stories: int, frames: int) -> np.ndarray | None:
    """(S, K) story numbers, none its own row's and all different within a row; None if S <= K."""
    if stories <= frames:
        return None
    step = stories // (frames + 1) or 1
    return (np.arange(stories)[:, None] + step * (1 + np.arange(frames))) % stories


def _table(rows: Sequence[Sequence], width: int) -> np.ndarray:
    """(S, width) of objects, None where a row has ended."""
    table = np.full((len(rows), width), None, object)
    for s, row in enumerate(rows):
        table[s, : len(row)] = row
    return table
