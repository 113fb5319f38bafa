"""HDF5 files: written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from common.files import beside

__all__ = ["replacing_hdf5"]


@contextmanager
def replacing_hdf5(path: str | os.PathLike) -> Iterator[h5py.File]:
    """A new file to fill beside `path`; it takes that name when all went well, as `beside`."""
    with beside(Path(os.path.realpath(path))) as temporary:
        file = h5py.File(temporary, "w")
        try:
            yield file
            file.close()
        finally:
            with suppress(OSError, RuntimeError):  # on a full disk closing fails as well
                file.close()
