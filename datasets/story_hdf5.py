"""The HDF5 story file: one layout for every data set, readable by and from the original programs.

Groups `train`, `val`, `test`; in each `image0` ... `image{K-1}`, (N,) variable-length uint8
holding one PNG, and text data sets, (N,) UTF-8, with K captions joined by `|`. Optional extras the
originals ignore: `story_id`, `labels/frames` (JSON), `left_out` (numbers of stories that cannot be
read) and file attributes.

How pictures become bytes, and which colours are swapped in them, is `datasets.pictures`' business.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from shlex import quote

import h5py
import numpy as np

from common.documents import parse_json
from common.terminal import in_one_line
from datasets.pictures import decode_picture, picture_size

SPLITS = ("train", "val", "test")
EXTRAS = {"story_id": "text", "labels/frames": "text", "left_out": "numbers"}
_KINDS = {  # of a column -> whether a type of data is it
    "text": lambda dtype: h5py.check_string_dtype(dtype) is not None,
    "pictures": lambda dtype: h5py.check_vlen_dtype(dtype) == np.uint8,
    "numbers": lambda dtype: dtype.kind in "iu",
}
# what the HDF5 library raises for what is damaged or strange
DAMAGE = (ValueError, OSError, RuntimeError, LookupError, TypeError, AttributeError, MemoryError)


def is_story_id(text: str) -> bool:
    """Whether `text` may name a story: it also names a folder of samples, so no path parts, and no
    more bytes than a disk takes."""
    short = len(text.encode()) <= 200
    # Vowel signs and accents of their own belong to the letter before.
    bare = text[:1] + "".join(c for c in text[1:] if unicodedata.category(c)[0] != "M")
    return short and re.fullmatch(r"\w([\w.\- ]{0,98}[\w\-])?", bare) is not None


class StoryFile:
    """Reads one split. Every process opens its own handle at the first read (fork and spawn safe).

    Index i is the i-th whole story, `rows[i]` its number in the file, which names it. `left_out`
    tells by that number what is wrong with the others: they have too few or too many captions, or
    `datasets.check` has found that they cannot be read. (The originals' VIST file lacks a caption
    wherever two pictures of a story share one.)

    `validate_story_file` explains broken files; this class only refuses what it cannot read.
    """

    def __init__(self, path: str | os.PathLike, split: str, text_key: str = "text") -> None:
        self.path = Path(path)
        self.split = split
        self.text_key = text_key
        self._handle: tuple[int, dict[str, h5py.Dataset]] | None = None
        with open_story_file(self.path) as file, naming_damage(self.path):
            columns = _columns(file, self.path, split, (text_key,))
            self.left_out = _left_out(columns, (text_key,))
            self.rows = [i for i in range(len(columns[text_key])) if i not in self.left_out]
            self._keys = set(columns) - {"left_out"}
            vocabulary = file.attrs.get("label_vocabulary")
            self.content_hash: str | None = file.attrs.get("content_hash")
            self.label_vocabulary: dict | None = parse_json(vocabulary) if vocabulary else None
            if not isinstance(self.label_vocabulary, dict | None):
                raise ValueError("its label_vocabulary is no dict")
        self.pictures_per_story = sum(key.startswith("image") for key in self._keys)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """How messages call a story."""
        return f"story {self.rows[index]} of {self.split!r}"

    def captions(self, index: int) -> list[str]:
        """The K captions, each on one line."""
        return _captions(self._read(self.text_key, index))

    def all_captions(self) -> list[str]:
        """The captions of all stories, one after the other."""
        with naming_damage(self.path):
            texts = self._column(self.text_key)[:]
        return [caption for row in self.rows for caption in _captions(texts[row])]

    def picture(self, index: int, k: int) -> np.ndarray:
        """Picture k, (H, W, 3) uint8 RGB."""
        with self.naming(index, k):
            return decode_picture(self.encoded(index, k))

    def picture_size(self, index: int, k: int) -> tuple[int, int]:
        """Height and width of picture k, which is not decoded for it."""
        with self.naming(index, k):
            return picture_size(self.encoded(index, k))

    def encoded(self, index: int, k: int) -> np.ndarray:
        """Picture k as stored, (bytes,) uint8, for `datasets.pictures`."""
        return self._read(f"image{k}", index)

    def pictures_hash(self, index: int) -> str:
        """What tells a story's pictures, as they are stored, from others: SHA-256 of them."""
        digest = sha256()
        for k in range(self.pictures_per_story):
            data = self.encoded(index, k).tobytes()
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    @contextmanager
    def naming(self, index: int, k: int) -> Iterator[None]:
        """Errors of picture k's decoding name the file and the story."""
        try:
            yield
        except ValueError as error:
            raise self._broken(index, f"image{k}: {error}") from None

    def story_id(self, index: int) -> str:
        """The stored id, or one made of split and index if there is none that can name a folder."""
        stored = self._read("story_id", index).decode() if "story_id" in self._keys else ""
        return stored if is_story_id(stored) else f"{self.split}-{self.rows[index]:05d}"

    def labels(self, index: int) -> list[dict] | None:
        """The K label dicts, or None in a file without labels."""
        if "labels/frames" not in self._keys:
            return None
        try:
            labels = parse_json(self._read("labels/frames", index))
            if not isinstance(labels, list) or not all(isinstance(one, dict) for one in labels):
                raise ValueError("they are no list of dicts")
            if len(labels) != self.pictures_per_story:
                raise ValueError(f"{len(labels)} of {self.pictures_per_story} pictures")
            return labels
        except ValueError as error:
            raise self._broken(index, f"its labels: {error}") from None

    def _read(self, key: str, index: int) -> bytes | np.ndarray:
        try:
            return self._column(key)[self.rows[index]]
        except DAMAGE as error:
            raise self._broken(index, f"{key}: {error}") from None

    def _column(self, key: str) -> h5py.Dataset:
        if self._handle is None or self._handle[0] != os.getpid():
            file = open_story_file(self.path)
            columns = {key: member(file[self.split], key) for key in self._keys}
            self._handle = (os.getpid(), columns)
        return self._handle[1][key]

    def _broken(self, index: int, what: str) -> ValueError:
        story = self.name(index)
        return ValueError(f"{self.path}: {story} is broken ({what}); {remedy(self.path)}")

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_handle": None}


def validate_story_file(
    path: str | os.PathLike,
    splits: Sequence[str] = SPLITS,
    text_keys: Sequence[str] = ("text",),
) -> dict[str, int]:
    """Cheap check of structure, caption counts and each split's first picture -> whole stories of
    each split.

    FileNotFoundError or ValueError, one sentence naming the file, what is wrong and the remedy.
    """
    path = Path(path)
    counts: dict[str, int] = {}
    with open_story_file(path) as file, naming_damage(path):
        for split in splits:
            columns = _columns(file, path, split, text_keys)
            lengths = {key: len(columns[key]) for key in columns if key != "left_out"}
            stories = lengths[text_keys[0]]
            if len(set(lengths.values())) != 1:
                raise ValueError(f"{path}: lengths in {split!r} differ {lengths}; build it again")
            if not stories:
                raise ValueError(f"{path}: split {split!r} holds no story; build it with some")
            left_out = _left_out(columns, text_keys)
            counts[split] = stories - len(left_out)
            if not counts[split]:
                raise ValueError(
                    f"{path}: none of the {stories} stories of {split!r} is whole (story 0: "
                    f"{left_out[0]}); build it again"
                )
            first = next(i for i in range(stories) if i not in left_out)
            try:
                decode_picture(columns["image0"][first])
            except ValueError as error:
                raise ValueError(
                    f"{path}: story {first} of {split!r}: {error}; {remedy(path)}"
                ) from None
    return counts


def remedy(path: Path) -> str:
    """What to do about a story that cannot be read."""
    return (
        "build the file again, or have such stories left out with "
        f"python -m datasets.check {quote(str(path))} --leave_out"
    )


def _left_out(columns: Mapping[str, h5py.Dataset], text_keys: Sequence[str]) -> dict[int, str]:
    """Number of every story that is not whole -> what is wrong with it."""
    pictures = sum(key.startswith("image") for key in columns)
    found = {}
    for key in text_keys:
        for i, text in enumerate(columns[key][:]):
            if (captions := text.count(b"|") + 1) != pictures:
                found[i] = f"{captions} captions in {key!r} for {pictures} pictures"
    marked = columns["left_out"][:].tolist() if "left_out" in columns else []
    return found | dict.fromkeys(marked, "found to be unreadable before")


def _captions(text: bytes) -> list[str]:
    return re.sub(r"[\n\r\t]+", " ", text.decode("utf-8", "replace")).split("|")


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """What the HDF5 library raises within becomes one sentence about the file."""
    try:
        yield
    except DAMAGE as error:
        if str(path) in str(error):
            raise
        reason = in_one_line(error)
        raise ValueError(f"{path} is damaged ({reason}): build the file again") from None


def open_story_file(path: Path, mode: str = "r") -> h5py.File:
    """The only place where a story file is opened; its parts are had from `member`."""
    if not path.exists():
        raise FileNotFoundError(
            f"story file {path} does not exist: correct the path, or build it with data_script/"
        )
    if path.is_dir() or not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file: give a file built with data_script/")
    try:
        return h5py.File(path, mode)
    except OSError as error:
        if mode != "r":
            raise
        reason = "is cut short" if "truncated" in str(error) else f"cannot be opened ({error})"
        raise ValueError(f"{path} {reason}: copy or build the file again") from None


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """A part of a story file, None if it is not there; ValueError if it lies in another file.

    A file may come from somebody else, and HDF5 follows links and stored paths to any file.
    """
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or (link := group.get(part, getlink=True)) is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{part!r} of {group.name!r} is a link to elsewhere, not data")
        group = group[part]
    if isinstance(group, h5py.Dataset) and (group.external or group.is_virtual):
        raise ValueError(f"{group.name!r} keeps its data in other files")
    return group


def _columns(
    file: h5py.File, path: Path, split: str, text_keys: Sequence[str]
) -> dict[str, h5py.Dataset]:
    """A split's data sets by name: pictures, the texts asked for, and the extras it has."""
    group = member(file, split)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{path} has no group {split!r} (it has {sorted(file)}): build it again")
    pictures = next(k for k in range(len(group) + 1) if f"image{k}" not in group)
    wanted = ["image0", *(f"image{k}" for k in range(1, pictures)), *text_keys]
    found = {key: member(group, key) for key in (*wanted, *EXTRAS)}
    found = {key: data for key, data in found.items() if data is not None or key in wanted}
    for key in wanted:
        if not isinstance(found[key], h5py.Dataset):
            raise ValueError(
                f"{path} has no data set {key!r} in {split!r} (it has {sorted(group)}): choose "
                "the data set that this file was built for, or build it again"
            )
    for key, data in found.items():
        kind = "text" if key in text_keys else EXTRAS.get(key, "pictures")
        if not isinstance(data, h5py.Dataset) or data.ndim != 1 or not _KINDS[kind](data.dtype):
            raise ValueError(
                f"{path}: {key!r} in {split!r} is no {'list of ' * (kind != 'text')}{kind}: build "
                "the file again"
            )
    return found
