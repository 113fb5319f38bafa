"""Names of the original AR-LDM's Lightning checkpoint, translated to ours and back.

Upstream kept copies of older diffusers and BLIP code; the same tensors live in today's stock
classes under other names, with the same shapes and the same order inside fused projections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.stable_embedding import adopt_stable_embeddings
from models.tuning import is_add_on

__all__ = ["adapt", "from_upstream", "is_upstream", "to_upstream"]

# What is no weight: derived from sizes and tokenizers, or FID's network saved along.
_DROPPED = re.compile(r".*position_ids|(clip_text|blip_text|blip_image)_null_token|inception\..*")
_POSITIONS = "conditioner.text_encoder.embeddings.position_embedding.weight"
# Our prefix, theirs.
_PARTS = (
    ("conditioner.type_embeddings.", "modal_type_embeddings."),
    ("conditioner.time_embeddings.", "time_embeddings."),
    ("conditioner.text_encoder.", "text_encoder.text_model."),
    ("conditioner.multimodal_encoder.", "mm_encoder.text_encoder."),
    ("conditioner.vision_encoder.", "mm_encoder.visual_encoder."),
    ("unet.", "unet."),
    ("vae.", "vae."),
)
# Inside a part: ours, theirs; "#" is a layer's number.
_INSIDE = {
    "conditioner.vision_encoder.": (
        ("embeddings.class_embedding", "cls_token"),
        ("embeddings.position_embedding", "pos_embed"),
        ("embeddings.patch_embedding.", "patch_embed.proj."),
        ("post_layernorm.", "norm."),
        ("encoder.layers.#.layer_norm1.", "blocks.#.norm1."),
        ("encoder.layers.#.layer_norm2.", "blocks.#.norm2."),
        ("encoder.layers.#.self_attn.qkv.", "blocks.#.attn.qkv."),
        ("encoder.layers.#.self_attn.projection.", "blocks.#.attn.proj."),
        ("encoder.layers.#.", "blocks.#."),
    ),
    "vae.": tuple(
        (f"{coder}.mid_block.attentions.0.{ours}.", f"{coder}.mid_block.attentions.0.{theirs}.")
        for coder in ("encoder", "decoder")
        for ours, theirs in (
            ("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"),
        )
    ),
}  # fmt: skip


def is_upstream(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the original's names."""
    return "modal_type_embeddings.weight" in state


def from_upstream(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The original's `state_dict` under our names; a key it should not have keeps its own."""
    return {_rename(k, 1): v for k, v in state.items() if not _DROPPED.fullmatch(k)}


def adapt(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Make `model` and `state`, in our names, fit where originals differ among themselves.

    Some forks' tables go through a LayerNorm. Upstream cuts CLIP's positions to the length of the
    data set's captions; ours keep the rest, which nothing reads.
    """
    adopt_stable_embeddings(model, state)
    theirs, own = state.get(_POSITIONS), model.state_dict().get(_POSITIONS)
    if theirs is not None and own is not None and len(theirs) < len(own):
        state[_POSITIONS] = torch.cat([theirs, own[len(theirs) :].to(theirs)])


def to_upstream(
    state: Mapping[str, Tensor],
    null_caption_ids: Tensor,
    null_history_ids: Tensor,
    null_image: Tensor,
) -> dict[str, Tensor]:
    """Our `state_dict` as the original saves its own, with what it derives.

    Args:
        null_caption_ids, null_history_ids: (1, S), the empty caption for CLIP and BLIP.
        null_image: (1, 3, h, w), the black picture.

    Raises:
        ValueError: the original has nothing like one of the tensors; names it.
    """
    theirs: dict[str, Tensor] = {
        "clip_text_null_token": null_caption_ids,
        "blip_text_null_token": null_history_ids,
        "blip_image_null_token": null_image,
    }
    length = null_caption_ids.shape[1]
    for key, tensor in state.items():
        if key == _POSITIONS:
            tensor = tensor[:length]
        added = is_add_on(key) or ".base_layer." in key
        if added or not key.startswith(tuple(ours for ours, _ in _PARTS)):
            raise ValueError(f"the original has nothing like {key}: this model is not an AR-LDM")
        theirs[_rename(key, 0)] = tensor
    for encoder, table in (
        ("text_encoder.text_model", "position_embedding"),
        ("mm_encoder.text_encoder", "position_embeddings"),
    ):
        rows = len(theirs[f"{encoder}.embeddings.{table}.weight"])
        theirs[f"{encoder}.embeddings.position_ids"] = torch.arange(rows)[None]
    return theirs


def _rename(key: str, source: int) -> str:
    """`key` in the other model's words; `source` is 0 for ours, 1 for the original's."""
    for part in _PARTS:
        if key.startswith(part[source]):
            rest = key.removeprefix(part[source])
            for names in _INSIDE.get(part[0], ()):
                pattern = re.escape(names[source]).replace(r"\#", "#").replace("#", r"(\d+)")
                if found := re.match(pattern, rest):
                    number = found[1] if found.groups() else ""
                    rest = names[1 - source].replace("#", number) + rest[found.end() :]
                    break
            return part[1 - source] + rest
    return key
