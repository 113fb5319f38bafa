"""Reads `.ckpt` files without running what they hold.

The original's checkpoints may carry their configuration as omegaconf objects beside the weights.
These containers are data: making one runs no code of the file's choosing. They are let in by name;
everything else that is not tensors, numbers, strings and plain containers stays refused.
"""

from __future__ import annotations

import pickle
from argparse import Namespace
from collections import defaultdict
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

__all__ = ["read_content"]

_DATA = [
    DictConfig, ListConfig, ContainerMetadata, Metadata, AnyNode, BooleanNode, FloatNode,
    IntegerNode, PathNode, StringNode, Namespace, PosixPath, PurePosixPath, defaultdict, dict,
    list, int, Any,
]  # fmt: skip


def read_content(path: str | Path, **how: Any) -> Any:
    """`torch.load` to the CPU, weights and harmless containers only.

    Raises:
        ValueError: it holds objects of other classes; names them and what to do.
    """
    try:
        with torch.serialization.safe_globals(_DATA):
            return torch.load(path, map_location="cpu", weights_only=True, **how)
    except pickle.UnpicklingError as error:
        names = _refused(path)
        if not names:
            raise
        raise ValueError(
            f"it holds objects of {', '.join(names)}, which could run code; if you trust it, save "
            f"{{'state_dict': torch.load(file, weights_only=False)['state_dict']}} and give that"
        ) from error


def _refused(path: str | Path) -> list[str]:
    """The classes in a file that only unsafe loading would make."""
    try:
        with torch.serialization.safe_globals(_DATA):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not a whole zip file: the first error says it better
        return []
