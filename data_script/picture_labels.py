"""Labels that come beside a published set's pictures, as the labels of stories' frames.

They are pickled dicts, picture -> zeros and ones, one for each character (or background). A frame's
label names those that are set: `{"cast": [names], "place": name}`. `place` is a list where not
exactly one background is set. What a file does not say of a picture is not in its label: nobody
knows, which is not the same as nobody there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_script.safe_pickle import text
from data_script.story_builder import RawStory

REMEDY = "get it again, or take it out of the folder to build without labels"


@dataclass(frozen=True)
class Marks:
    """One file of labels: the names of its columns, and which are set in a picture, (C,) bool."""

    path: Path
    names: Sequence[str]
    pictures: Mapping[str, np.ndarray]

    def of(self, picture: str) -> list[str] | None:
        """The names that are set, in the order of the columns; None if nothing is known."""
        if picture not in self.pictures:
            return None
        shown = self.pictures[picture]
        return [name for name, there in zip(self.names, shown, strict=True) if there]


def read_marks(path: Path, names: Sequence[str], content: object) -> Marks:
    """A dict of picture -> zeros and ones; ValueError, naming the file, if it is something else."""
    try:
        rows = {text(key): np.asarray(value, float) for key, value in content.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{path} is not a dict of lists of zeros and ones: {REMEDY}") from None
    for picture, row in rows.items():
        if row.shape != (len(names),):
            raise ValueError(
                f"{path} has {row.size} labels for {picture!r}, not {len(names)}: {REMEDY}"
            )
        if not np.isin(row, (0, 1)).all():
            strange = row[~np.isin(row, (0, 1))][0]
            raise ValueError(f"{path} has {strange:g} for {picture!r}, not 0 or 1: {REMEDY}")
    return Marks(path, names, {picture: row.astype(bool) for picture, row in rows.items()})


def add_labels(
    stories: Iterable[RawStory],
    picture_of: Callable[[Path], str],
    cast: Marks | None,
    place: Marks | None = None,
) -> tuple[list[RawStory], list[str]]:
    """The stories with labels, and what is to be said about them: pictures without any.

    picture_of: the path of a picture -> what the files call it. ValueError if a file knows none.
    """
    files = {"cast": cast, "place": place}
    files = {key: marks for key, marks in files.items() if marks is not None}
    labelled, known, unknown = [], dict.fromkeys(files, 0), {key: set() for key in files}
    for story in stories:
        labels: list[dict] = []
        for path in story.pictures:
            label, picture = {}, picture_of(path)
            for key, marks in files.items():
                shown = marks.of(picture)
                if shown is None:
                    unknown[key].add(picture)
                    continue
                known[key] += 1
                label[key] = shown[0] if key == "place" and len(shown) == 1 else shown
            labels.append(label)
        labelled.append(replace(story, labels=labels))
    notes = []
    for key, marks in files.items():
        if not known[key]:
            example = min(unknown[key], default="any picture")
            raise ValueError(
                f"{marks.path} knows none of the stories' pictures, such as {example!r}: {REMEDY}"
            )
        if unknown[key]:
            notes.append(
                f"{len(unknown[key])} pictures are not in {marks.path.name}, such as "
                f"{min(unknown[key])!r}: metrics of the {key} do not count them"
            )
    return labelled, notes
