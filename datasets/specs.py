"""What differs between the data sets, as one small record each; the reading code is the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StorySpec:
    """How one data set's story file is to be read."""

    name: str
    text_key: str = "text"  # the text data set that holds the captions
    strip: bool = False  # a picture is a column of square frames of one shot; one of them is drawn
    crop: Literal["squash", "shorter_side"] = "squash"  # how a picture gets a frame's proportions


SPECS = {
    spec.name: spec
    for spec in (
        StorySpec("cartoon"),
        StorySpec("folder", crop="shorter_side"),
        StorySpec("pororo", strip=True),
        StorySpec("flintstones", strip=True),
        StorySpec("vistsis", text_key="sis", crop="shorter_side"),
        StorySpec("vistdii", text_key="dii", crop="shorter_side"),
    )
}
