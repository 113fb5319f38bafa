"""Writes story files: one layout for every data set, see `datasets.story_hdf5`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np

from common.files import check_writable, is_address, writing
from common.hdf5 import replacing_hdf5
from datasets.pictures import encode_picture, is_png
from datasets.story_hdf5 import SPLITS, is_story_id

__all__ = ["StoryWriter", "check_place"]

CHUNK = 256  # rows of 16-byte references that lie together on disk
BLOCK = 32  # stories written at once: six times faster than one by one
_BYTES = h5py.vlen_dtype(np.uint8)
_TEXT = h5py.string_dtype("utf-8")


def check_place(path: Path) -> None:
    """ValueError or OSError where no story file can be written, or only over something else."""
    if path.is_dir() or is_address(path):
        what = "a folder" if path.is_dir() else "an address on the net"
        raise ValueError(f"{path} is {what}: give the name of a file, such as x.h5")
    if path.exists() and not h5py.is_hdf5(path):
        raise ValueError(
            f"{path} is there and is no story file, so it is not replaced: choose another name, or "
            "delete it"
        )
    check_writable(path)


class StoryWriter:
    """Writes a story file under a temporary name; the final name appears on a clean exit only.

    `pictures` is K; `attributes` become file attributes (anything but a string as JSON).
    """

    def __init__(
        self,
        path: str | os.PathLike,
        pictures: int = 5,
        text_keys: Sequence[str] = ("text",),
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        self.path = Path(path)
        self.pictures = pictures
        self.text_keys = tuple(text_keys)
        self.attributes = dict(attributes or {})
        self.counts = dict.fromkeys(SPLITS, 0)
        self._waiting: dict[str, list[dict]] = {split: [] for split in SPLITS}
        self._ids: set[str] = set()
        self._labelled: bool | None = None
        self._open = ExitStack()

    def __enter__(self) -> StoryWriter:
        check_place(self.path)
        with writing(self.path):
            self._file = self._open.enter_context(replacing_hdf5(self.path))
        for split in SPLITS:
            for k in range(self.pictures):
                self._create(f"{split}/image{k}", _BYTES)
            for key in (*self.text_keys, "story_id"):
                self._create(f"{split}/{key}", _TEXT)
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            self._open.__exit__(kind, error, trace)
            return
        with writing(self.path), self._open:
            if not self._ids:
                raise ValueError(f"{self.path} was not written: add at least one story")
            for split in SPLITS:
                self._flush(split)
            for key, value in self.attributes.items():
                self._file.attrs[key] = value if isinstance(value, str) else json.dumps(value)

    def add(
        self,
        split: str,
        pictures: Sequence[np.ndarray],
        texts: Mapping[str, Sequence[str]],
        story_id: str | None = None,
        labels: Sequence[Mapping] | None = None,
    ) -> None:
        """Add one story: K pictures (RGB arrays, or bytes from `encode_picture`), K captions per
        text key and, if the file is labelled, K label dicts. ValueError if anything is amiss."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown: use one of {', '.join(SPLITS)}")
        story_id = f"{split}-{self.counts[split]:05d}" if story_id is None else story_id
        name = f"story {story_id!r}"
        if not is_story_id(story_id):
            raise ValueError(
                f"{name}: use 1-100 letters (200 bytes), digits, '-', '_', '.' or ' ' for an id"
            )
        if story_id in self._ids:
            raise ValueError(f"{name} was added twice: give every story its own id")
        if set(texts) != set(self.text_keys):
            raise ValueError(f"{name} has texts {sorted(texts)}, expected {sorted(self.text_keys)}")
        if self._labelled not in (None, labels is not None):
            raise ValueError(f"{name}: label every story of a file, or none")
        counted = {"pictures": pictures, **texts, **({} if labels is None else {"labels": labels})}
        for what, values in counted.items():
            if len(values) != self.pictures:
                raise ValueError(f"{name} has {len(values)} {what}: give {self.pictures}")
        row: dict[str, str | np.ndarray] = {"story_id": story_id}
        for k, picture in enumerate(pictures):
            try:
                row[f"image{k}"] = picture if is_png(picture) else encode_picture(picture)
            except ValueError as error:
                raise ValueError(f"{name}, picture {k}: {error}") from None
        for key, captions in texts.items():
            for caption in captions:
                bad = next((c for c in "|\n\r\0" if c in caption), None)
                if bad is not None:
                    raise ValueError(f"{name}: remove {bad!r} from the caption {caption!r}")
            row[key] = "|".join(captions)
        if labels is not None:
            row["labels/frames"] = json.dumps(list(labels))
        self._labelled = labels is not None
        self._ids.add(story_id)
        self.counts[split] += 1
        self._waiting[split].append(row)
        if len(self._waiting[split]) == BLOCK:
            with writing(self.path):
                self._flush(split)

    def _flush(self, split: str) -> None:
        rows, self._waiting[split] = self._waiting[split], []
        for key in rows[0] if rows else ():
            if f"{split}/{key}" not in self._file:
                self._create(f"{split}/{key}", _TEXT)
            values = np.empty(len(rows), self._file[f"{split}/{key}"].dtype)
            for i, row in enumerate(rows):
                values[i] = row[key]
            self._append(self._file[f"{split}/{key}"], values)

    @staticmethod
    def _append(column: h5py.Dataset, values: np.ndarray) -> None:
        start = len(column)
        column.resize((start + len(values),))
        # The low-level call, as column[start:] = values takes arrays of one length for a matrix.
        place = column.id.get_space()
        place.select_hyperslab((start,), values.shape)
        column.id.write(h5py.h5s.create_simple(values.shape), place, values)

    def _create(self, name: str, dtype: np.dtype) -> None:
        self._file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,))
