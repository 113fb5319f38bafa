"""Weights from checkpoint files, and the hash that says which file drew a sample."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor, nn

from models.safe_loading import read_content
from models.upstream_checkpoint import adapt, from_upstream, is_upstream

__all__ = ["check_weights", "checkpoint_hash", "load_weights", "read_checkpoint"]


def read_checkpoint(path: str | Path) -> dict:
    """A Lightning checkpoint, ours or the original's, with our names in its `state_dict`.

    Tensors stay on disk till they are used. `upstream` says whether it was the original's.

    Raises:
        ValueError: not a checkpoint.
    """
    try:
        content = read_content(path, mmap=True)
        state = content["state_dict"]
        upstream = is_upstream(state)
        state = from_upstream(state) if upstream else state
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("its state_dict holds more than tensors")
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} is not a Lightning checkpoint ({reason}); give a .ckpt"
        ) from error
    return {**content, "state_dict": state, "upstream": upstream}


def check_weights(model: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """ValueError if `state`, read from `path`, is of another model; names what differs first.

    Where originals differ among themselves, both are made to fit before.
    """
    adapt(model, state)
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


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint's weights, every key accounted for; ValueError as above."""
    state = read_checkpoint(path)["state_dict"]
    check_weights(model, state, path)
    model.load_state_dict(state)


def checkpoint_hash(path: str | Path) -> str:
    """SHA-256 of the file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
