"""Files: written whole or not at all, known by their hash, and held by one process at a time."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = [
    "CannotWrite", "beside", "check_writable", "file_hash", "file_state", "held", "is_address",
    "remove_leftovers", "renewing_folder", "replacing", "writing", "writing_folder",
]  # fmt: skip

ELSEWHERE = "choose another place"
_FULL = "No space left|too large|quota exceeded"
# What libraries say of a disk in errors that are no OSError: PyTorch's and safetensors'.
_DISK = f"{_FULL}|Read-only file|PytorchStreamWriter|inline_container|iostream error"
_MASK = os.umask(0o077)  # which can only be read by setting it
os.umask(_MASK)


def is_address(path: str | os.PathLike) -> bool:
    """Whether this names something on the net, such as s3://bucket/x, which nothing here writes."""
    return re.match(r"[A-Za-z][\w+.-]+:/", str(path)) is not None


class CannotWrite(OSError):
    """Said to its reader: which file, what is missing, what to do."""


@contextmanager
def replacing(path: str | os.PathLike, size: int = 0, otherwise: str = ELSEWHERE) -> Iterator[Path]:
    """A temporary file beside `path` to write; it takes the name `path` when all went well.

    Where `path` is a link, the file it leads to is replaced. Errors of the disk are as `writing`
    says them; what else goes wrong within stays as it is.
    """
    path = Path(os.path.realpath(path))
    with _telling_of(path, size, otherwise), beside(path) as temporary:
        yield temporary


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """As `replacing`, with all errors as they are.

    Beside it, so that the two are on one file system; flushed first, so that a crash of the machine
    cannot leave an empty file under the name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with suppress(OSError):  # of a disk without such rights
            temporary.chmod(0o666 & ~_MASK)  # safetensors lets nobody else read what it writes
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # of a disk that has become read-only: not in the first one's place
            temporary.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder beside `path` to fill; it takes that name when all went well.

    An empty folder of that name is replaced, too.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _telling_of(path):
            temporary.mkdir(parents=True)
            yield temporary
            if path.is_dir():
                path.rmdir()  # Windows replaces no folder, not even an empty one
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def renewing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder within `path` to fill; what it holds takes its place in `path` when all
    went well. What else is there stays.

    Within it, so that `path` may be a link, or another disk.
    """
    path = Path(path)
    temporary = path / f".{path.name}.{os.getpid()}.tmp"
    try:
        with _telling_of(path):
            temporary.mkdir(parents=True)
            yield temporary
            parts = list(temporary.iterdir())
            (temporary / ".old").mkdir()
            for part in parts:
                there = path / part.name
                if there.exists():
                    os.replace(there, temporary / ".old" / part.name)
                os.replace(part, there)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _telling_of(path: Path, size: int = 0, otherwise: str = ELSEWHERE) -> Iterator[None]:
    """As `writing`, for what the disk refuses, but not for files that are read meanwhile."""
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:  # libraries have kinds of their own, known by what they say
        disk = re.search(_DISK, str(error)) is not None
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            named = Path(error.filename or path)
            disk |= path.parent in (named, *named.parents) or named in path.parents
        if not disk:
            raise
        with writing(path, size, otherwise):
            if isinstance(error, OSError):
                raise
            raise OSError(f"the library could not write it ({error})") from error


@contextmanager
def writing(path: str | os.PathLike, size: int = 0, otherwise: str = ELSEWHERE) -> Iterator[None]:
    """Errors in writing `path`, of `size` bytes if known, say what is missing and what to do.

    RuntimeError, too: what the HDF5 library raises on a full disk, when it closes a file.
    """
    try:
        yield
    except CannotWrite:
        raise
    except (OSError, RuntimeError) as error:
        raise CannotWrite(
            f"cannot write {path}: {_why(Path(path), size, error)}, or {otherwise}"
        ) from error


def check_writable(path: str | os.PathLike) -> None:
    """Before long work: CannotWrite where no file or folder of that name could be made."""
    path = Path(os.path.realpath(path))
    with writing(path):
        there = next(folder for folder in path.parents if folder.exists())
        tempfile.TemporaryFile(dir=there).close()


def _why(path: Path, size: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if there.is_file():
        return f"{there} is a file; move it away"
    with suppress(OSError):
        total, _, free = shutil.disk_usage(there)
        none = total and free < 2**16  # whatever the library said; /proc has no size at all
        if size > free or none or re.search(_FULL, str(error)):
            needs = f" and {size / 1e6:,.0f} MB are needed" if size else ""
            return f"{there} has {free / 1e6:,.0f} MB left{needs}; free some space"
    return f"{reason}; make {there} writable"


@contextmanager
def held(path: Path, whose: str) -> Iterator[None]:
    """Hold the lock file `path`; a killed process lets go of it.

    Raises:
        ValueError: another process holds it; the message begins with `whose`.
    """
    made = not path.parent.exists()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(
                f"{whose} in use by another process; wait for its end, or give another name"
            ) from error
        except NotImplementedError:  # a file system without locks
            pass
    try:
        yield
    finally:
        with suppress(OSError):  # nothing is left behind, not even by a run that was refused
            path.unlink(missing_ok=True)
            if made:
                path.parent.rmdir()
        lock.release()


def remove_leftovers(folder: Path, names: Iterable[str]) -> list[str]:
    """Remove what `replacing` and others left of `names` in `folder` when they were killed.

    Only for who holds the folder: nobody may be writing there. Returns what was removed.
    """
    wanted, removed = set(names), []
    for path in folder.glob(".*") if folder.is_dir() else ():
        found = re.fullmatch(r"\.(.+)\.\d+(\.tmp)?", path.name)
        if found and found[1] in wanted:
            removed.append(path.name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return sorted(removed)


def file_state(path: str | os.PathLike) -> tuple[int, int, int]:
    """What tells a file from another one that took its name."""
    about = os.stat(path)
    return about.st_ino, about.st_size, about.st_mtime_ns


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
