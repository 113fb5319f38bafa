"""Runs networks over pictures, captions or pairs of pictures, once: results go into a cache.

The cache is an SQLite file keyed by what is in the picture file and by the network's weights, so
moved folders, repeated pictures and cut-off runs cost nothing again, and several runs may share
one. Memory holds one batch; features come back as an array on disk.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.files import writing
from common.key_value_arguments import spelled
from common.terminal import in_one_line, tqdm

__all__ = [
    "CHUNK", "Encoder", "FeatureCache", "Features", "Item", "Network", "Unit", "chunks",
    "device_of",
]  # fmt: skip

Item = Path | str | tuple[Path, Path]  # a picture, a text, two pictures
CHUNK = 512  # rows, or cache keys, held at once


@dataclass
class Encoder:
    """`network(batch of load(item)) -> (n, width)`.

    `key` says what decides the numbers: network, hash of its weights, how pictures are prepared.
    """

    key: str
    width: int
    network: nn.Module
    load: Callable[[Item], Tensor]

    @torch.inference_mode()
    def encode(self, batch: Tensor) -> np.ndarray:
        """Loaded items -> (n, width) float32."""
        device = next(self.network.parameters()).device
        out = self.network(batch.to(device)).float().cpu().numpy()
        if not np.isfinite(out).all():
            raise ValueError(f"{self.key.split(' ')[0]} gave infinite numbers: damaged weights?")
        return out

    def __call__(self, items: Sequence[Item]) -> np.ndarray:
        """(n, width) float32."""
        return self.encode(_load(self.load, items))


def _load(load: Callable[[Item], Tensor], items: Sequence[Item]) -> Tensor:
    """(n, *); ValueError unless all items have one shape."""
    loaded = [load(item) for item in items]
    for item, one in zip(items, loaded, strict=True):
        if one.shape != loaded[0].shape:
            raise ValueError(
                f"{item} is {tuple(one.shape)} but {items[0]} is {tuple(loaded[0].shape)}: give "
                "frames of one size"
            )
    return torch.stack(loaded)


@dataclass(frozen=True, eq=False)
class Network:
    """What a metric measures with, as its loader in `metrics.table` gives it.

    encoders: by the name of what they give, such as "features", which distances take.
    known_error: {label: share that it reads wrong}; vocabulary: {kind of label: names}.
    one_place: of backgrounds it names the likeliest, instead of all above a half.
    """

    title: str
    file: str
    sha256: str
    encoders: Mapping[str, Encoder]
    known_error: dict[str, float] | None = None
    vocabulary: dict[str, list[str]] = field(default_factory=dict)
    one_place: bool = True


class Unit(nn.Module):
    """A network whose vectors are brought to length 1."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.body(x), dim=-1)


def device_of(name: str) -> str:
    """ "auto" as the first GPU, if there is one; ValueError for what is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:  # the former where PyTorch has no CUDA
        said = str(error).splitlines()[0]
        raise ValueError(
            f"{spelled('device')}={name} cannot be used ({said}): give cpu, auto or a GPU that is "
            "there, such as cuda:0"
        ) from error
    return name


class FeatureCache:
    """Vectors by (item, encoder) in one SQLite file, safe to share between processes."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        with writing(self.path, otherwise="name another cache"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._digests: dict[Path, bytes] = {}
        try:
            self._file = sqlite3.connect(self.path, timeout=300)
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, vector BLOB)"
            )
        except sqlite3.Error as error:
            raise ValueError(
                f"{spelled('cache')}={path} is no feature cache ({error}): name another file, or "
                "delete this one"
            ) from error

    def key(self, encoder: Encoder, item: Item) -> bytes:
        return hashlib.sha256(encoder.key.encode() + self._digest(item)).digest()

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        return {key for key, _ in self._rows(keys, "key, 0")}

    def get(self, keys: Sequence[bytes], width: int) -> np.ndarray:
        """(n, width) float32."""
        found = dict(self._rows(keys, "key, vector"))
        return np.stack([np.frombuffer(found[key], np.float32, width) for key in keys])

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        rows = [(key, row.tobytes()) for key, row in zip(keys, vectors, strict=True)]
        with writing(self.path, otherwise="name another cache"):
            try:
                with self._file:  # one transaction
                    self._file.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)
            except sqlite3.Error as error:
                raise OSError(str(error)) from error

    def _rows(self, keys: Sequence[bytes], columns: str) -> Iterator[tuple]:
        for chunk in chunks(keys):
            marks = ",".join("?" * len(chunk))
            asked = f"SELECT {columns} FROM features WHERE key IN ({marks})"
            try:
                yield from self._file.execute(asked, chunk)
            except sqlite3.Error as error:
                raise ValueError(
                    f"{spelled('cache')}={self.path} cannot be read ({error}): delete it, or name "
                    "another file"
                ) from error

    def _digest(self, item: Item) -> bytes:
        if isinstance(item, str):
            return hashlib.sha256(item.encode()).digest()
        if isinstance(item, tuple):
            return b"".join(map(self._digest, item))
        if item not in self._digests:
            try:
                self._digests[item] = hashlib.sha256(item.read_bytes()).digest()
            except OSError as error:
                raise ValueError(f"picture {item} cannot be read ({error})") from error
        return self._digests[item]


@dataclass(eq=False)
class Features:
    """`features(items, encoder)`; only what the cache lacks is computed."""

    cache: FeatureCache
    batch_size: int = 32
    processes: int = 1  # that read and prepare pictures

    def __call__(self, items: Iterable[Item], encoder: Encoder) -> np.ndarray:
        """(n, encoder.width) float32, on disk."""
        items = list(items)
        keys = [self.cache.key(encoder, item) for item in items]
        known = self.cache.known(keys)
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        workers = self.processes if self.processes > 1 and len(missing) > self.batch_size else 0
        loader = DataLoader(
            list(missing.values()),
            self.batch_size,
            num_workers=workers,
            collate_fn=partial(_load, encoder.load),
        )
        waiting, title = iter(missing), encoder.key.split(" ")[0]
        bar = tqdm(total=len(missing), desc=title, unit="picture", disable=not missing, leave=False)
        try:
            for batch in loader:
                rows = encoder.encode(batch)
                self.cache.put([next(waiting) for _ in rows], rows)
                bar.update(len(rows))
        except ValueError as error:  # of a worker it comes with a traceback
            raise ValueError(in_one_line(error)) from error
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise OSError(
                "a process that reads pictures was killed, perhaps for memory: start again with a "
                f"smaller {spelled('processes')} than {self.processes}"
            ) from error
        bar.close()
        shape = (len(items), encoder.width)
        out = np.memmap(_room_for(4 * math.prod(shape)), np.float32, "w+", shape=shape)
        for start in range(0, len(keys), CHUNK):
            out[start : start + CHUNK] = self.cache.get(keys[start : start + CHUNK], encoder.width)
        return out


def _room_for(size: int) -> BinaryIO:
    """A nameless file of `size` bytes that are there: a full disk would end the process later."""
    file = tempfile.TemporaryFile()
    where = Path(tempfile.gettempdir()) / "features"
    with writing(where, size, "name another disk in the environment's TMPDIR"):
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
    return file


def chunks(items: Sequence) -> Iterator[Sequence]:
    """Consecutive slices of at most CHUNK."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
