"""Writes one of our checkpoints as the original AR-LDM's code loads it.

The tokenizers are those the checkpoint was trained with: the original saves what they make of an
empty caption. The command: `python -m models.export` with `layout=original`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from common.files import replacing
from models.checkpoints.checkpoint import read_checkpoint
from models.checkpoints.upstream import to_upstream
from models.frames import HistoryTransform

__all__ = ["export_upstream"]

_TEXT, _VISION = "conditioner.text_encoder.embeddings", "conditioner.vision_encoder.embeddings"


def export_upstream(checkpoint: str | Path, out: str | Path, tokenizers: Sequence) -> None:
    """Write `checkpoint` to `out` in the original's layout.

    A caption has as many tokens as the checkpoint says, or as CLIP has positions for.

    Args:
        tokenizers: CLIP's and BLIP's, with the data set's new tokens.

    Raises:
        ValueError: `checkpoint` is none, or what it holds goes beyond AR-LDM.
    """
    content = read_checkpoint(checkpoint)
    state = content["state_dict"]
    if add_ons := content.get("add_ons"):
        raise ValueError(
            f"{checkpoint} was trained with {', '.join(add_ons)}, which the original does not have"
        )
    try:
        rows = len(state[f"{_TEXT}.position_embedding.weight"])
        patches = state[f"{_VISION}.position_embedding"].shape[1] - 1
        patch = state[f"{_VISION}.patch_embedding.weight"].shape[-1]
    except KeyError as error:
        raise ValueError(f"{checkpoint} is no story model's: it lacks {error}") from error
    max_length = (content.get("tokenization") or {}).get("max_length", rows)
    length = {"padding": "max_length", "max_length": max_length, "return_tensors": "pt"}
    nulls = [tokenizer("", **length).input_ids for tokenizer in tokenizers]
    picture = HistoryTransform(round(patches**0.5) * patch, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    theirs = to_upstream(state, *nulls, picture.black())
    kept = {key: content[key] for key in ("epoch", "global_step") if key in content}
    version = content.get("pytorch-lightning_version", pl.__version__)
    with replacing(out) as temporary:
        torch.save({**kept, "pytorch-lightning_version": version, "state_dict": theirs}, temporary)
