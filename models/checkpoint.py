"""Weights from checkpoint files, and the hash that says which file drew a sample."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from models.upstream_checkpoint import from_upstream, is_upstream

__all__ = ["checkpoint_hash", "load_weights"]


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a Lightning checkpoint's weights, ours or the original's, every key accounted for.

    Raises:
        ValueError: not a checkpoint, or of another model; names the first keys that differ.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content["state_dict"]
        state = from_upstream(state) if is_upstream(state) else state
        if not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise TypeError("its state_dict holds more than tensors")
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} is not a Lightning checkpoint ({reason}); give a .ckpt"
        ) from error
    own = model.state_dict()
    problems = {
        "lacks": sorted(own.keys() - state.keys()),
        "has, unknown here,": sorted(state.keys() - own.keys()),
        "has in another shape": sorted(
            k for k in own.keys() & state.keys() if own[k].shape != state[k].shape
        ),
    }
    for what, keys in problems.items():
        if keys:
            raise ValueError(
                f"{path} {what} {len(keys)} of the model's tensors, such as {keys[0]}; "
                f"use the dataset and backbone it was trained with"
            )
    model.load_state_dict(state)


def checkpoint_hash(path: str | Path) -> str:
    """SHA-256 of the file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
