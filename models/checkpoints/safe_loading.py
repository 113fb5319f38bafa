"""Reads files of weights without running what they hold.

The original's checkpoints may carry their configuration as omegaconf objects beside the weights.
These containers are data: making one runs no code of the file's choosing. They are let in by name;
everything else that is not tensors, numbers, strings and plain containers stays refused.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
from argparse import Namespace
from collections import defaultdict
from functools import lru_cache
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.nodes import (
    AnyNode,
    BooleanNode,
    FloatNode,
    IntegerNode,
    PathNode,
    StringNode,
)
from safetensors.torch import load_file

from common.files import file_state
from models.checkpoints.file_kinds import CUT_SHORT, whole_kind

__all__ = ["forget_contents", "read_content"]

_DATA = [
    DictConfig, ListConfig, ContainerMetadata, Metadata, AnyNode, BooleanNode, FloatNode,
    IntegerNode, PathNode, StringNode, Namespace, PosixPath, PurePosixPath, defaultdict, dict,
    list, int, Any,
]  # fmt: skip


def read_content(path: str | Path, mmap: bool = False) -> Any:
    """What torch.save or safetensors wrote, on the CPU: weights and harmless containers only.

    Args:
        mmap: tensors stay on disk till they are used, where the file's form allows it. The same
            content is given again, not to be changed, until `forget_contents`.

    Raises:
        ValueError: it cannot be; the sentence goes on from the file's name and says why.
    """
    kind = whole_kind(path)
    if mmap:
        return _mapped(os.path.abspath(path), kind, file_state(path))
    return _read(path, kind)


@lru_cache(maxsize=2)  # a checkpoint and what it was tuned from
def _mapped(path: str, kind: str, state: tuple[int, ...]) -> Any:
    return _read(path, kind, mmap=True)


def forget_contents() -> None:
    """Let go of files that were mapped: one that is replaced takes up the disk as long."""
    _mapped.cache_clear()


def _read(path: str | Path, kind: str, mmap: bool = False) -> Any:
    if kind == "safetensors":
        return load_file(path)
    try:
        with torch.serialization.safe_globals(_DATA):
            mmap = mmap and kind == "zip"
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load raises many kinds
        if kind == "pickle" and _ends_early(path, error):
            raise ValueError(CUT_SHORT.format("")) from error
        if isinstance(error, pickle.UnpicklingError) and (names := _refused(path, error)):
            raise ValueError(
                f"holds objects of {', '.join(names)}, which could run code; if you trust it, read "
                f"it with torch.load(file, weights_only=False), save its state_dict alone and give "
                f"that"
            ) from error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"cannot be read ({reason[:200]}); give another copy") from error


def _ends_early(path: str | Path, error: Exception) -> bool:
    """Whether reading a pickle failed for want of bytes; it has no table that tells its size."""
    if names := _refused(path, error):  # or are these half a name, at the very end of the file?
        half = names[0].rpartition(".")[2].encode()
        with open(path, "rb") as file:
            file.seek(-len(half) - 1, os.SEEK_END)
            return half in file.read()
    eof = isinstance(error, RuntimeError) and "EOF" in str(error)
    return eof or isinstance(error, EOFError | LookupError | struct.error | pickle.UnpicklingError)


def _refused(path: str | Path, error: Exception) -> list[str]:
    """The classes in a file that only unsafe loading would make."""
    try:
        with torch.serialization.safe_globals(_DATA):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # no zip file: the error names the first
        return re.findall(r"GLOBAL (\S+)", str(error))[:1]
