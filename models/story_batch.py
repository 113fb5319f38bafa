"""What models are given: batches of stories to train on, and prompts to draw from.

B stories, V target frames, U history slots, S tokens a caption. visualization: U = V;
continuation: U = V + 1, as slot 0 is the given frame. `datasets/` makes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, Protocol, TypedDict

import numpy as np
from torch import Tensor

__all__ = ["StoryBatch", "StoryPrompt"]


class StoryBatch(TypedDict):
    """A batch of training or validation. Masks: True = a token of the caption."""

    story_id: list[str]  # B
    caption_ids: Tensor  # (B, V, S) long, CLIP's ids of the targets' captions
    caption_mask: Tensor  # (B, V, S) bool
    history_ids: Tensor  # (B, U, S) long, BLIP's ids of the history frames' captions
    history_mask: Tensor  # (B, U, S) bool
    # The pictures, or what frozen encoders made of them (`cache_latents`).
    target_images: NotRequired[Tensor]  # (B, V, 3, H, W) in [-1, 1]
    latents_mean: NotRequired[Tensor]  # (B, V, c, h, w), scaled, of the autoencoder's posterior
    latents_std: NotRequired[Tensor]  # (B, V, c, h, w), if there is a posterior
    history_images: NotRequired[Tensor]  # (B, U, 3, h, w), normalised as BLIP expects
    picture_states: NotRequired[Tensor]  # (B, U, P, D_vit), of BLIP's picture encoder


class StoryPrompt(Protocol):
    """A story to draw."""

    story_id: str
    captions: Sequence[str]  # K
    first_frame: np.ndarray | None  # (H, W, 3) uint8 of any size, given in continuation
