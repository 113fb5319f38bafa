"""The HDF5 story file: one layout for every data set, readable by and from the original programs.

Groups `train`, `val`, `test`; in each `image0` ... `image{K-1}`, (N,) variable-length uint8
holding one PNG, and text data sets, (N,) UTF-8, with K captions joined by `|`. Optional extras the
originals ignore: `story_id`, `labels/frames` (JSON), `left_out` (numbers of stories that cannot be
read) and file attributes.

How pictures become bytes, and which colours are swapped in them, is `datasets.pictures`' business.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

import h5py
import numpy as np

from common.documents import parse_json
from common.files import is_address
from datasets.pictures import decode_picture, encode_picture, is_png, picture_size

SPLITS = ("train", "val", "test")
CHUNK = 256  # rows of 16-byte references that lie together on disk
BLOCK = 32  # stories written at once: six times faster than one by one
_BYTES = h5py.vlen_dtype(np.uint8)
_TEXT = h5py.string_dtype("utf-8")
EXTRAS = {"story_id": "text", "labels/frames": "text", "left_out": "numbers"}
_KINDS = {  # of a column -> whether a type of data is it
    "text": lambda dtype: h5py.check_string_dtype(dtype) is not None,
    "pictures": lambda dtype: h5py.check_vlen_dtype(dtype) == np.uint8,
    "numbers": lambda dtype: dtype.kind in "iu",
}
# what the HDF5 library raises for what is damaged or strange
DAMAGE = (ValueError, OSError, RuntimeError, LookupError, TypeError, AttributeError, MemoryError)


def is_story_id(text: str) -> bool:
    """Whether `text` may name a story: it also names a folder of samples, so no path parts."""
    return re.fullmatch(r"\w([\w.\- ]{0,98}[\w\-])?", text) is not None


class StoryWriter:
    """Writes a story file under a temporary name; the final name appears on a clean exit only.

    `pictures` is K; `attributes` become file attributes (anything but a string as JSON). Without
    a `content_hash` among them, a hash of everything added is stored.
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
        self._hash = hashlib.sha256()

    def __enter__(self) -> StoryWriter:
        if self.path.is_dir() or is_address(self.path):
            what = "a folder" if self.path.is_dir() else "an address on the net"
            raise ValueError(f"{self.path} is {what}: give the name of a file, such as x.h5")
        self.path = Path(os.path.realpath(self.path))  # a link stays, its target is replaced
        if self.path.exists() and not h5py.is_hdf5(self.path):
            raise ValueError(
                f"{self.path} is there and is no story file, so it is not replaced: choose another "
                "name, or delete it"
            )
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = h5py.File(self._part, "w")
        for split in SPLITS:
            for k in range(self.pictures):
                self._create(f"{split}/image{k}", _BYTES)
            for key in (*self.text_keys, "story_id"):
                self._create(f"{split}/{key}", _TEXT)
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with suppress(OSError, RuntimeError):  # on a full disk closing fails as well
                self._file.close()
            self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        if not self._ids:
            raise ValueError(f"{self.path} was not written: add at least one story")
        for split in SPLITS:
            self._flush(split)
        self.attributes.setdefault("content_hash", self._hash.hexdigest())
        with self._writing():
            for key, value in self.attributes.items():
                self._file.attrs[key] = value if isinstance(value, str) else json.dumps(value)
            self._file.close()
            os.replace(self._part, self.path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # the HDF5 library raises either
            reason = str(error).splitlines()[0]
            raise OSError(
                f"cannot write {self.path}: free some space or choose another place ({reason})"
            ) from None

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
            raise ValueError(f"{name}: use 1-100 letters, digits, '-', '_', '.' or ' ' for an id")
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
        for key, value in row.items():
            self._hash.update(f"{split}/{key}/{len(value)}\n".encode())
            self._hash.update(value.encode() if isinstance(value, str) else value.tobytes())
        self._labelled = labels is not None
        self._ids.add(story_id)
        self.counts[split] += 1
        self._waiting[split].append(row)
        if len(self._waiting[split]) == BLOCK:
            self._flush(split)

    def _flush(self, split: str) -> None:
        rows, self._waiting[split] = self._waiting[split], []
        for key in rows[0] if rows else ():
            if f"{split}/{key}" not in self._file:
                self._create(f"{split}/{key}", _TEXT)
            values = np.empty(len(rows), self._file[f"{split}/{key}"].dtype)
            for i, row in enumerate(rows):
                values[i] = row[key]
            with self._writing():
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
        reason = " ".join(str(error).split()) or type(error).__name__
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
