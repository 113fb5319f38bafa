"""Pictures without meaning, the same ones in a test whatever ran before it (tests/conftest.py)."""

from __future__ import annotations

import numpy as np

RNG = np.random.default_rng(4)
_START = RNG.bit_generator.state


def start_again() -> None:
    RNG.bit_generator.state = _START


def noise(height: int, width: int) -> np.ndarray:
    """-> (height, width, 3) uint8"""
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
