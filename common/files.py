"""Files: written whole or not at all, and known by their hash."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["file_hash", "is_address", "replacing"]


def is_address(path: str | os.PathLike) -> bool:
    """Whether this names something on the net, such as s3://bucket/x, which nothing here writes."""
    return re.match(r"[A-Za-z][\w+.-]+:/", str(path)) is not None


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary file beside `path` to write; it takes the name `path` when all went well.

    Where `path` is a link, the file it leads to is replaced.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
