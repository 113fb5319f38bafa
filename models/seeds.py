"""Seeds that hang on what is drawn, not on where or when it is drawn."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["seed_of", "story_generator"]


def seed_of(*of: int | str) -> int:
    """A seed below 2**56 for a run's seed and a story, or a batch: as good as independent."""
    digest = hashlib.sha256("/".join(map(str, of)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def story_generator(seed: int, story_id: str) -> torch.Generator:
    """The noise of one story."""
    return torch.Generator().manual_seed(seed_of(seed, story_id))
