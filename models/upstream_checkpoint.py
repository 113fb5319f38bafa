"""Names of the original AR-LDM's Lightning checkpoint, translated to ours.

Upstream kept copies of older diffusers and BLIP code; the same tensors live in today's stock
classes under other names, with the same shapes and the same order inside fused projections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["from_upstream", "is_upstream"]

# Applied in order to every key; what maps to "" is dropped (derived, or not a weight).
_RENAMES: tuple[tuple[str, str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^.*position_ids$", ""),
        (r"^(clip_text|blip_text|blip_image)_null_token$", ""),  # rebuilt from the tokenizers
        (r"^inception\..*$", ""),  # FID's network, saved along in sample mode
        (r"^modal_type_embeddings\.", "conditioner.type_embeddings."),
        (r"^time_embeddings\.", "conditioner.time_embeddings."),
        (r"^text_encoder\.text_model\.", "conditioner.text_encoder."),
        (r"^mm_encoder\.text_encoder\.", "conditioner.multimodal_encoder."),
        (r"^mm_encoder\.visual_encoder\.", "conditioner.vision_encoder."),
        (r"(vision_encoder\.)cls_token$", r"\1embeddings.class_embedding"),
        (r"(vision_encoder\.)pos_embed$", r"\1embeddings.position_embedding"),
        (r"(vision_encoder\.)patch_embed\.proj\.", r"\1embeddings.patch_embedding."),
        (r"(vision_encoder\.)norm\.", r"\1post_layernorm."),
        (r"(vision_encoder\.)blocks\.(\d+)\.", r"\1encoder.layers.\2."),
        (r"(vision_encoder\..*)\.norm([12])\.", r"\1.layer_norm\2."),
        (r"(vision_encoder\..*)\.attn\.qkv\.", r"\1.self_attn.qkv."),
        (r"(vision_encoder\..*)\.attn\.proj\.", r"\1.self_attn.projection."),
        (r"^(vae\..*mid_block\.attentions\.0)\.query\.", r"\1.to_q."),
        (r"^(vae\..*mid_block\.attentions\.0)\.key\.", r"\1.to_k."),
        (r"^(vae\..*mid_block\.attentions\.0)\.value\.", r"\1.to_v."),
        (r"^(vae\..*mid_block\.attentions\.0)\.proj_attn\.", r"\1.to_out.0."),
    )
)


def is_upstream(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the original's names."""
    return "modal_type_embeddings.weight" in state


def from_upstream(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The original's `state_dict` under our names."""
    ours = {}
    for key, tensor in state.items():
        name = key
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
        if name:
            ours[name] = tensor
    return ours
