"""Puts Causal-Story's add-ons on stock parts: where each sits, and how wide it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from models.adapter import add_adapter
from models.history_weighting import HistoryWeighting, accept_history_bias
from models.local_causal_attention import LocalCausalAttnProcessor, ReleasedMaskAttnProcessor

__all__ = ["add_causal_story", "in_use", "transformer_blocks"]

VARIANTS = {"window": LocalCausalAttnProcessor, "released": ReleasedMaskAttnProcessor}


def add_causal_story(
    unet: UNet2DConditionModel,
    conditioner: nn.Module,
    spatial_window: int | None = None,
    spatial_variant: str = "window",
    adapter_width: int | None = None,
    blocks: Sequence[str] = ("mid",),
    history_window: int | None = None,
    history_weights: bool = False,
) -> None:
    """Add what is asked for, in place; all but the spatial mask leave outputs as they were.

    Args:
        spatial_window: positions a position sees in the self-attention of `blocks`, itself
            included (the paper's figure: 32 in the mid block); spatial_variant: `window`, or
            `released` for the released code's mask.
        adapter_width: bottleneck of the adapters in `blocks`.
        blocks: `mid`, `down.N`, `up.N`.
        history_window: how many frames back a frame sees; history_weights: learn how much each
            (frame, caption) pair in sight matters.
    """
    if history_weights:
        conditioner.history_weighting = HistoryWeighting(
            conditioner.text_encoder.config.hidden_size
        )
        accept_history_bias(unet)
    conditioner.history_window = history_window
    for name in blocks if spatial_window or adapter_width else ():
        for block in transformer_blocks(unet, name):
            if spatial_window:
                block.attn1.set_processor(VARIANTS[spatial_variant](spatial_window))
            if adapter_width:
                add_adapter(block, adapter_width)


def in_use(section: Mapping) -> dict:
    """Of the arguments above, given one by one, those that do something."""
    needs = {
        "spatial_window": ("spatial_window",),
        "spatial_variant": ("spatial_window",),
        "adapter_width": ("adapter_width",),
        "blocks": ("spatial_window", "adapter_width"),
        "history_window": ("history_window",),
        "history_weights": ("history_weights",),
    }
    return {key: section[key] for key, any_of in needs.items() if any(section[k] for k in any_of)}


def transformer_blocks(unet: UNet2DConditionModel, name: str) -> Iterator[BasicTransformerBlock]:
    """The transformer blocks of `mid`, `down.N` or `up.N`; ValueError if it has none."""
    places = {"mid": unet.mid_block}
    for side in ("down", "up"):
        for n, module in enumerate(getattr(unet, f"{side}_blocks")):
            places[f"{side}.{n}"] = module
    found = (
        [m for m in places[name].modules() if isinstance(m, BasicTransformerBlock)]
        if (name in places)
        else []
    )
    if not found:
        with_attention = [
            key
            for key, place in places.items()
            if any(isinstance(module, BasicTransformerBlock) for module in place.modules())
        ]
        raise ValueError(
            f"causal_story.blocks names {name!r}, where this U-Net has no attention; it has some "
            f"in {', '.join(with_attention)}"
        )
    yield from found
