"""Reads a samples folder; everything is checked before pictures are read, so that metrics and
storyboards can trust it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from common import picture_files
from common.documents import parse_json
from common.vistorybench import Character

__all__ = [
    "MANIFEST", "VOCABULARY", "SampledStory", "Samples", "check_vocabulary", "is_label",
    "places_of", "strange_names", "read_picture", "read_samples",
]  # fmt: skip

MANIFEST = "manifest.jsonl"
VOCABULARY = "label_vocabulary.json"
DRAW_AGAIN = "delete it and run the same sampling command again, which draws its story anew"


@dataclass(frozen=True)
class SampledStory:
    """One manifest line; the first `given` of its K frames were handed in, not drawn."""

    story_id: str
    captions: list[str]
    frames: list[Path]
    reference_frames: list[Path] = field(default_factory=list)  # K, or none for own stories
    given: int = 0
    seed: int | None = None
    checkpoint: str = ""
    sampler: dict = field(default_factory=dict)
    precision: int | str = 32
    labels: list[dict] | None = None
    history_weights: list[list[float]] | None = None  # (K, K): how much frame n looked at frame u
    captions_read: list[int | None] = field(default_factory=list)  # K, or none if all are whole
    characters: Sequence[Character] = ()  # a benchmark's, whom labels' casts name by key

    @property
    def shown_captions(self) -> list[str]:
        """The captions, with a mark before what the model did not read of them."""
        read = self.captions_read or [None] * len(self.captions)
        return [
            text if n is None else f"{text[:n]} […not read: {text[n:].strip()}]"
            for text, n in zip(self.captions, read, strict=True)
        ]


@dataclass(frozen=True)
class Samples:
    """A checked samples folder; `vocabulary` is None when the stories carry no labels."""

    folder: Path
    stories: list[SampledStory]
    vocabulary: dict | None = None


def read_samples(folder: str | os.PathLike) -> Samples:
    """Read and check `folder`; FileNotFoundError or ValueError says what is wrong and where."""
    folder = Path(folder)
    manifest = folder / MANIFEST
    if not folder.is_dir():
        raise FileNotFoundError(
            f"samples folder {folder} does not exist: give the folder that mode=sample wrote"
        )
    if not manifest.is_file():
        raise FileNotFoundError(
            f"samples folder {folder} has no {MANIFEST}: give the folder that "
            "mode=sample wrote, or sample again"
        )
    stories: list[SampledStory] = []
    for number, line in enumerate(manifest.read_bytes().splitlines(), 1):
        if line.strip():
            where = f"{manifest} line {number}"
            stories.append(_story(folder, where, _parse(line, where)))
    if not stories:
        raise ValueError(f"{manifest} lists no story: sample at least one")
    name, times = Counter(story.story_id for story in stories).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{manifest} lists story {name!r} {times} times: keep one line per story")
    if not (names := folder / VOCABULARY).is_file():
        return Samples(folder, stories)
    vocabulary = _parse(names.read_bytes(), str(names))
    check_vocabulary(vocabulary, str(names), optional=("places", "clothes", "actions"))
    return Samples(folder, stories, vocabulary)


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB; ValueError names the file and what to do: a story that a manifest lists
    is drawn again."""
    listed = (path.parent.parent / MANIFEST).is_file()
    return picture_files.read_picture(path, DRAW_AGAIN if listed else picture_files.REPLACE)


LABELS = ("characters", "places", "clothes", "actions")
MORE_LABELS = ("weathers", "objects", "colours")  # of the wide cartoon world


def check_vocabulary(vocabulary: object, where: str, optional: Sequence[str] = ()) -> None:
    """ValueError unless each of the kinds of label has a non-empty list of names."""
    for key in (*LABELS, *MORE_LABELS):
        names = vocabulary.get(key) if isinstance(vocabulary, dict) else None
        if names is None and key in (*optional, *MORE_LABELS):
            continue
        if not names or not _are_names(names) or len({*names}) < len(names):
            raise ValueError(
                f"{where}: label vocabulary needs a list of different names {key!r}, not "
                f"{names!r}: write it anew"
            )


def is_label(label: object) -> bool:
    """Whether what it says of cast, place, clothes and action has the form that the manifest's
    description gives."""
    if not isinstance(label, dict):
        return False
    place, clothes = label.get("place", []), label.get("clothes", {})
    return (
        _are_names(label.get("cast", []))
        and (isinstance(place, str) or _are_names(place))
        and isinstance(clothes, dict)
        and _are_names([*clothes.values(), label.get("action", "")])
    )


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def strange_names(label: dict, characters: Sequence[str], places: Sequence[str]) -> list[str]:
    """Characters and places of a label that are not among these; an empty list asks nothing."""
    return sorted(
        (set(label.get("cast", ())) - set(characters) if characters else set())
        | (set(places_of(label)) - set(places) if places else set())
    )


def places_of(label: dict) -> list[str]:
    """The backgrounds a label names: usually one; FlintstonesSV has frames of several or none."""
    place = label.get("place", [])
    return place if isinstance(place, list) else [place]


def _parse(text: bytes, where: str) -> object:
    try:
        return parse_json(text)
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(f"{where} is not JSON ({error}): sample again") from error


def _list_of(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda v: isinstance(v, list) and all(map(holds, v))


def _or_nothing(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda v: v is None or holds(v)


_TYPES = {  # key -> what its value must be, in code and in words
    "story_id": (lambda v: isinstance(v, str), "a text"),
    "captions": (_are_names, "a list of texts"),
    "frames": (_are_names, "a list of texts"),
    "reference_frames": (_or_nothing(_are_names), "a list of texts"),
    "labels": (_or_nothing(_list_of(is_label)), "a list like [{cast: [names], place: name}]"),
    "seed": (_or_nothing(lambda v: type(v) is int), "a whole number"),
    "checkpoint": (_or_nothing(lambda v: isinstance(v, str)), "a text"),
    "captions_read": (
        _or_nothing(_list_of(lambda v: isinstance(v, int | None))),
        "a list of whole numbers",
    ),
    "sampler": (_or_nothing(lambda v: isinstance(v, dict)), "a section of settings"),
    "precision": (_or_nothing(lambda v: isinstance(v, int | str)), "32 or a text"),
}


def _story(folder: Path, where: str, entry: object) -> SampledStory:
    entry = entry if isinstance(entry, dict) else {}
    for key, (holds, wanted) in _TYPES.items():
        if not holds(entry.get(key)):
            shown = repr(entry.get(key))[:200]
            raise ValueError(f"{where}: {key!r} is {shown}, not {wanted}: sample again")
    references, labels = entry.get("reference_frames") or [], entry.get("labels") or None
    count = len(entry["frames"])
    for key, values, optional in (
        ("captions", entry["captions"], False),
        ("reference_frames", references, True),
        ("labels", labels or [], True),
        ("captions_read", entry.get("captions_read") or [], True),
    ):
        if len(values) != count and not (optional and not values):
            raise ValueError(
                f"{where}: story {entry['story_id']!r} has {count} frames but "
                f"{len(values)} {key}: give equally many"
            )
    given = entry.get("given", 0)
    if not count or type(given) is not int or not 0 <= given <= count:
        raise ValueError(
            f"{where}: 'given' is {given!r} for {count} frames: it counts the leading "
            "frames that were not drawn, and a story needs a frame"
        )
    weights = entry.get("history_weights")
    if weights is not None and not _are_weights(weights, count):
        raise ValueError(
            f"{where}: 'history_weights' is {weights!r}, not {count} rows of {count} "
            "numbers from 0 to 1: sample again"
        )
    return SampledStory(
        entry["story_id"],
        entry["captions"],
        [_picture_path(folder, name, where) for name in entry["frames"]],
        [_picture_path(folder, name, where) for name in references],
        given,
        entry.get("seed"),
        entry.get("checkpoint") or "",
        entry.get("sampler") or {},
        entry.get("precision") or 32,
        labels,
        weights,
        entry.get("captions_read") or [],
    )


def _are_weights(value: object, count: int) -> bool:
    try:
        weights = np.array(value, float)
    except (TypeError, ValueError):  # no numbers, or rows of several lengths
        return False
    return weights.shape == (count, count) and bool(((weights >= 0) & (weights <= 1)).all())


def _picture_path(folder: Path, name: str, where: str) -> Path:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:  # a manifest may come from somebody else
        raise ValueError(f"{where} names {name!r}, outside the samples folder: use relative paths")
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"{where} names {name!r}, which is not in {folder}: sample that "
            "story again or remove its line"
        )
    return folder / name
