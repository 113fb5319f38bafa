"""Writes one of our checkpoints as the original AR-LDM's code loads it.

    python -m models.checkpoints.export_upstream outputs/run/last.ckpt arldm.ckpt \\
        --diffusion_model stable-diffusion-v1-5/stable-diffusion-v1-5 \\
        --blip_model weights/blip/model_large.pth --new_tokens pororo loopy eddy harry

The tokenizers are those the checkpoint was trained with: the original saves what they make of an
empty caption.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from common.files import replacing
from common.terminal import script_parser
from models.caption_tokenizer import EXACT
from models.checkpoints.checkpoint import read_checkpoint, read_tokenization
from models.checkpoints.upstream import to_upstream
from models.components import load_tokenizers
from models.frames import HistoryTransform

__all__ = ["export_upstream"]

_TEXT, _VISION = "conditioner.text_encoder.embeddings", "conditioner.vision_encoder.embeddings"


def export_upstream(
    checkpoint: str | Path, out: str | Path, tokenizers: Sequence, max_length: int | None = None
) -> int:
    """Write `checkpoint` to `out` in the original's layout; how many tensors it has.

    Args:
        tokenizers: CLIP's and BLIP's, with the data set's new tokens.
        max_length: of a caption in tokens; None: as the checkpoint says, or as many as CLIP has
            positions for.

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
    max_length = max_length or (content.get("tokenization") or {}).get("max_length", rows)
    length = {"padding": "max_length", "max_length": max_length, "return_tensors": "pt"}
    nulls = [tokenizer("", **length).input_ids for tokenizer in tokenizers]
    picture = HistoryTransform(round(patches**0.5) * patch, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    theirs = to_upstream(state, *nulls, picture.black())
    kept = {key: content[key] for key in ("epoch", "global_step") if key in content}
    version = content.get("pytorch-lightning_version", pl.__version__)
    with replacing(out) as temporary:
        torch.save({**kept, "pytorch-lightning_version": version, "state_dict": theirs}, temporary)
    return len(theirs)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = script_parser(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--diffusion_model", required=True, help="for CLIP's tokenizer")
    parser.add_argument("--blip_model", required=True, help="for BLIP's tokenizer")
    parser.add_argument("--new_tokens", nargs="*", default=[], help="the data set's new tokens")
    parser.add_argument("--max_length", type=int, help="tokens a caption (as in training)")
    given = parser.parse_args(arguments)
    try:
        tokenizers = load_tokenizers(given.diffusion_model, given.blip_model, given.new_tokens)
    except FileNotFoundError as error:  # it begins with the argument's name
        sys.exit(f"--{error}")
    try:
        count = export_upstream(given.checkpoint, given.out, tokenizers, given.max_length)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print(f"{given.out}: {count} tensors under the original's names")
    words = read_tokenization(given.checkpoint)
    if words.get("new_tokens_match", EXACT) != EXACT and words.get("new_tokens", given.new_tokens):
        print(
            f"warning: {given.checkpoint} was trained with new_tokens_match="
            f"{words['new_tokens_match']}; the original's code finds new words as exact does, so "
            f"captions with these words ask it for other rows than were trained",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
