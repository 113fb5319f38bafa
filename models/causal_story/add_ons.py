"""Puts Causal-Story's add-ons on stock parts: where each sits, and how wide it is.

The paper's figure shows a mid block whose transformer has causal self-attention, an adapter and an
MLP, but no cross-attention. Here the block keeps the cross-attention that it was pretrained with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from models.causal_story.adapter import add_adapter
from models.causal_story.history_weighting import HistoryWeighting, accept_history_bias
from models.causal_story.local_causal_attention import (
    LocalCausalAttnProcessor,
    ReleasedMaskAttnProcessor,
)

__all__ = ["add_causal_story", "in_use", "transformer_blocks"]

VARIANTS = {"window": LocalCausalAttnProcessor, "released": ReleasedMaskAttnProcessor}


def add_causal_story(
    unet: UNet2DConditionModel,
    conditioner: nn.Module,
    spatial_window: int | str | None = None,
    spatial_variant: str = "window",
    adapter_width: int | None = None,
    blocks: Sequence[str] = ("mid",),
    history_window: int | None = None,
    history_weights: bool = False,
) -> None:
    """Add what is asked for, in place; all but the spatial mask leave outputs as they were.

    Args:
        spatial_window: positions a position sees in the self-attention of `blocks`, itself
            included; `all`: every one up to itself, the mask of the paper's figure.
        spatial_variant: `window`, or `released` for the released code's mask, whose window is 32
            by default.
        adapter_width: bottleneck of the adapters in `blocks`.
        blocks: `mid`, as in the figure, `down.N`, `up.N`.
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
                window = None if spatial_window == "all" else spatial_window
                block.attn1.set_processor(VARIANTS[spatial_variant](window))
            if adapter_width:
                add_adapter(block, adapter_width)


def in_use(section: Mapping) -> dict:
    """Of the arguments above, given one by one, those that do something.

    In an order in which what others hang on comes first; blocks sorted, as theirs means nothing.
    """
    needs = {
        "spatial_window": ("spatial_window",),
        "adapter_width": ("adapter_width",),
        "history_window": ("history_window",),
        "history_weights": ("history_weights",),
        "spatial_variant": ("spatial_window",),
        "blocks": ("spatial_window", "adapter_width"),
    }
    used = {key: section[key] for key, any_of in needs.items() if any(section[k] for k in any_of)}
    return {**used, "blocks": sorted(used["blocks"])} if "blocks" in used else used


def transformer_blocks(unet: UNet2DConditionModel, name: str) -> Iterator[BasicTransformerBlock]:
    """The transformer blocks of `mid`, `down.N` or `up.N`; ValueError if it has none."""
    places = {"mid": unet.mid_block}
    for side in ("down", "up"):
        for n, module in enumerate(getattr(unet, f"{side}_blocks")):
            places[f"{side}.{n}"] = module
    found = {
        place: [m for m in module.modules() if isinstance(m, BasicTransformerBlock)]
        for place, module in places.items()
    }
    if not found.get(name):
        raise ValueError(
            f"causal_story.blocks names {name!r}, where this U-Net has no attention; it has some "
            f"in {', '.join(place for place, blocks in found.items() if blocks)}"
        )
    yield from found[name]
