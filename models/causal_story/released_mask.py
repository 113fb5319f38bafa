"""The mask of Causal-Story's released code, which a key of its own chose once: not offered now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["drop_variant"]


def drop_variant(arguments: Mapping, origin: str | Path, key: str = "spatial_variant") -> dict:
    """The arguments of add-ons, read from `origin`, without the key that older files hold.

    Raises:
        ValueError: it chose that mask.
    """
    if arguments.get(key, "window") != "window":
        raise ValueError(
            f"{origin} has causal_story.spatial_variant={arguments[key]}, a mask that is not "
            f"offered any more; give another file"
        )
    return {name: value for name, value in arguments.items() if name != key}
