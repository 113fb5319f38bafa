"""Names of the original AR-LDM's checkpoint, translated to ours and back.

Upstream kept copies of older diffusers and BLIP code; the same tensors live in today's stock
classes under other names, with the same shapes and the same order inside fused projections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.training.tuning import is_add_on

__all__ = ["adapt", "from_upstream", "is_lora", "is_upstream", "to_upstream", "without_text_model"]

# What is no weight: derived from sizes and tokenizers, or FID's network saved along.
_DROPPED = re.compile(r".*position_ids|(clip_text|blip_text|blip_image)_null_token|inception\..*")
# A level of CLIP's names that came and went with transformers' versions.
_TEXT_MODEL = re.compile(r"^((?:conditioner\.)?text_encoder\.)(?:text_model\.)?")
_TABLES = ("type_embeddings", "time_embeddings")
_TIMES = "conditioner.time_embeddings.weight"
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
    names = {k: _TEXT_MODEL.sub(r"\1text_model.", k) for k in state if not _DROPPED.fullmatch(k)}
    return {_rename(name, 1): state[key] for key, name in names.items()}


def without_text_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our own `state_dict` as today's transformers names CLIP's tensors."""
    return {_TEXT_MODEL.sub(r"\1", key): tensor for key, tensor in state.items()}


def adapt(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Make `model` and `state`, in our names, fit where checkpoints differ among themselves.

    Some forks' tables go through a LayerNorm. Upstream cuts CLIP's positions to the length of the
    data set's captions; ours keep the rest, which nothing reads. A time table for fewer frames
    grows. A LoRA that the model has no place
    for is left out. The autoencoder is never trained: the model's own takes a missing one's place.

    Returns:
        What was left out or filled in, a sentence each.
    """
    said, own = [], model.state_dict()
    lora = [key for key in state if is_lora(key)]
    if lora and len(lora) < len(state) and not any(map(is_lora, own)):
        for key in lora:
            del state[key]
        for key in [key for key in state if ".base_layer." in key]:
            state[key.replace(".base_layer.", ".")] = state.pop(key)
        said.append(f"left out {len(lora)} tensors of a LoRA, such as {lora[0]}")
    vae = {key: tensor for key, tensor in own.items() if key.startswith("vae.")}
    if vae and not any(key.startswith("vae.") for key in state) and own.keys() & state.keys():
        state.update(vae)
        said.append("it has no VAE; the backbone's is taken")
    _adopt_stable_embeddings(model, state)
    times = state.get(_TIMES)
    if times is not None and _TIMES in own and 1 < len(times) < len(own[_TIMES]):
        # Rows for more earlier frames; the last that was ever trained is the one before their last.
        more = len(own[_TIMES]) - len(times) + 1
        state[_TIMES] = torch.cat([times[:-1], times[-2:-1].expand(more, -1)])
        said.append(f"its time table grows from {len(times)} rows to {len(own[_TIMES])}")
    theirs = state.get(_POSITIONS)
    if theirs is not None and _POSITIONS in own and len(theirs) < len(own[_POSITIONS]):
        state[_POSITIONS] = torch.cat([theirs, own[_POSITIONS][len(theirs) :].to(theirs)])
    return said


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


def is_lora(key: str) -> bool:
    """Whether a tensor of this name is part of a LoRA, whoever made it."""
    return "lora_" in key or "_lora." in key


def _adopt_stable_embeddings(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the conditioner of `model` the kind of tables that `state`, in our names, comes from.

    Their rows go through a LayerNorm, `.norm.*` in the checkpoint (Dettmers et al., arXiv
    2110.02861, section 2.3).

    Raises:
        ValueError: such tables without bitsandbytes.
    """
    conditioner = getattr(model, "conditioner", None)
    for name in _TABLES:
        if conditioner is not None and f"conditioner.{name}.norm.weight" in state:
            try:
                from bitsandbytes.nn import StableEmbedding  # slow to import, and rarely needed
            except ImportError as error:
                raise ValueError(
                    f"the checkpoint's {name} are bitsandbytes' StableEmbedding ({error}); "
                    f"pip install bitsandbytes"
                ) from error
            plain = getattr(conditioner, name)
            table = StableEmbedding(plain.num_embeddings, plain.embedding_dim)
            setattr(conditioner, name, table.to(plain.weight.device))


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
