"""A training batch for all tests that take a step."""

from __future__ import annotations

import pytest
from tiny_parts import STORIES, build_parts, random_frames, story_batch


@pytest.fixture(scope="session")
def batch():
    """Two stories of four frames."""
    return story_batch(build_parts(), [STORIES[0], STORIES[2]], random_frames(2, 4, 16))
