"""Importing PyTorch and what stands on it, in four fifths of the time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["heavy_imports"]


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Within, nothing is looked through for garbage: half a million objects come, and stay.

    Nor is any of them later on.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
