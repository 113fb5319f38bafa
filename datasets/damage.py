"""Stories whose pictures cannot be decoded: finding them, and having them left out from then on.

Too many or too few captions are seen when a file is opened. Pictures are only decoded when they are
read, as doing so for all of a large set takes minutes; so what is found is kept in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.terminal import in_one_line
from datasets.story_hdf5 import StoryFile, member, open_story_file


def decode_stories(
    stories: StoryFile, indices: Sequence[int]
) -> Iterator[tuple[list[tuple[int, int]], str]]:
    """Of every story the sizes (height, width) of its pictures, and what is wrong with it, if it
    is: each picture is decoded, labels are read."""

    def decode(index: int) -> tuple[list[tuple[int, int]], str]:
        sizes: list[tuple[int, int]] = []
        try:
            for k in range(stories.pictures_per_story):
                sizes.append(stories.picture(index, k).shape[:2])
            stories.labels(index)
        except ValueError as error:
            return sizes, problem(stories, index, error)
        return sizes, ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases Python's lock
        yield from pool.map(decode, indices)


def unreadable(stories: StoryFile, indices: Sequence[int]) -> dict[int, str]:
    """Index -> what is wrong, of those stories whose pictures cannot all be decoded."""
    tried = zip(indices, decode_stories(stories, indices), strict=True)
    return {index: wrong for index, (_, wrong) in tried if wrong}


def problem(stories: StoryFile, index: int, error: Exception) -> str:
    """One sentence about a story that cannot be read."""
    if str(stories.path) in str(error):
        return str(error)
    return f"{stories.path}: {stories.name(index)} cannot be read ({error}); build the file again"


def leave_out(path: str | os.PathLike, rows: Mapping[str, Sequence[int]]) -> None:
    """Note in a story file, by split, the numbers of stories that `StoryFile` is to leave out."""
    path = Path(path)
    try:
        with open_story_file(path, "r+") as file:
            for split, found in rows.items():
                group = member(file, split)
                known = group["left_out"][:].tolist() if "left_out" in group else []
                group.pop("left_out", None)
                group["left_out"] = sorted({*known, *found})
    except OSError as error:
        reason = in_one_line(error)
        raise OSError(f"cannot write {path}: make it writable, or copy it ({reason})") from None
