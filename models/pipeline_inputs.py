"""What a caller gives the pipeline, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from models.frames import OUTPUT_TYPES, wanted_sides

__all__ = [
    "check_generators",
    "check_known",
    "check_numbers",
    "check_output",
    "frames_reached",
    "stories_of",
]


def stories_of(prompt: Any) -> list[list[str]]:
    """B stories of K captions, of one caption, those of one story, or those of several.

    Raises:
        ValueError: something else, no caption, or stories of unequal length.
    """
    told = [prompt] if isinstance(prompt, str) else prompt
    if _listed(told) and told and all(isinstance(caption, str) for caption in told):
        told = [told]
    texts = _listed(told) and all(
        _listed(story) and all(isinstance(caption, str) for caption in story) for story in told
    )
    if not texts:
        raise ValueError(
            f"prompt={prompt!r:.80}: give the captions of a story, a list, or a list of such lists"
        )
    lengths = {len(story) for story in told}
    if lengths <= {0}:
        raise ValueError("a story has no captions; give one or more")
    if len(lengths) != 1:
        raise ValueError(f"stories drawn together have {sorted(lengths)} captions: give equal")
    return [list(story) for story in told]


def check_numbers(**given: Any) -> None:
    """ValueError unless steps are whole numbers from 1 on, guidance and eta finite ones."""
    for name, value in given.items():
        steps = name.endswith("steps")
        number = isinstance(value, Integral if steps else Real) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or (steps and value < 1):
            wanted = "a whole number from 1 on" if steps else "a finite number"
            raise ValueError(f"{name}={value!r}: give {wanted}")


def check_output(vae: nn.Module, size: tuple[Any, Any], output_type: Any) -> None:
    """ValueError for a size that `vae` cannot draw, or for no output type of ours."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type={output_type!r}: use one of {', '.join(OUTPUT_TYPES)}")
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"height={size[0]!r} and width={size[1]!r}: give numbers of pixels")
    if wanted := wanted_sides(vae, size):
        raise ValueError(f"height {size[0]} and width {size[1]} must be {wanted} for this model")


def check_known(known: Mapping[int, Sequence[Tensor]], stories: int, length: int) -> None:
    """ValueError unless the frames that are there already fit stories of `length` frames."""
    for k, pictures in known.items():
        if not 0 <= k < length:
            raise ValueError(f"frames: a story of {length} captions has no frame {k}")
        if len(pictures) != stories:
            what = "first frames" if k == 0 else f"pictures of frame {k}"
            raise ValueError(f"{len(pictures)} {what} for {stories} stories")
    if len(known) == length:
        raise ValueError("every frame is there already: leave one out to have it drawn")


def check_generators(generator: Any, stories: int) -> None:
    """ValueError unless there is none, one, or one for each story."""
    if generator is None or isinstance(generator, torch.Generator):
        return
    if not _listed(generator) or not all(isinstance(g, torch.Generator) for g in generator):
        raise ValueError(f"generator={generator!r:.80}: give a torch.Generator, or one a story")
    if len(generator) != stories:
        raise ValueError(f"{len(generator)} generators for {stories} stories: give one, or as many")


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def frames_reached(history_frames: int | None, slots: int) -> int:
    """How many earlier frames are in sight at once; ValueError for more than the time table has."""
    if history_frames is not None and not 1 <= history_frames <= slots:
        raise ValueError(
            f"history_frames={history_frames}: this model's time table tells 1 to {slots} earlier "
            f"frames apart"
        )
    return history_frames or max(1, slots - 1)
