"""Puts Causal-Story's add-ons on stock parts: where each sits, and how wide it is.

The paper's figure shows a mid block whose transformer has causal self-attention, an adapter and an
MLP, but no cross-attention. Here the block keeps the cross-attention that it was pretrained with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from accelerate import init_empty_weights
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from models.causal_story.adapter import Adapter, add_adapter
from models.causal_story.history_weighting import HistoryWeighting, accept_history_bias
from models.causal_story.local_causal_attention import LocalCausalAttnProcessor

__all__ = ["CausalStoryAddOns", "add_causal_story", "in_use", "transformer_blocks"]


def add_causal_story(
    unet: UNet2DConditionModel,
    conditioner: nn.Module,
    spatial_window: int | str | None = None,
    adapter_width: int | None = None,
    blocks: Sequence[str] = ("mid",),
    history_window: int | None = None,
    history_weights: bool = False,
) -> None:
    """Add what is asked for, in place; all but the spatial mask leave outputs as they were.

    Args:
        spatial_window: positions a position sees in the self-attention of `blocks`, itself
            included; `all`: every one up to itself, the mask of the paper's figure.
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
                block.attn1.set_processor(LocalCausalAttnProcessor(window))
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


class CausalStoryAddOns(ModelMixin, ConfigMixin):
    """All add-ons of a model as one part, which a pipeline saves and loads beside stock ones.

    Args:
        arguments: of `add_causal_story`.
        width: channels D of the conditioner's states.
        adapter_widths: name of a self-attention in the U-Net -> channels of its adapter.
    """

    @register_to_config
    def __init__(self, arguments: dict, width: int, adapter_widths: dict[str, int]) -> None:
        super().__init__()
        self.register_buffer("there", torch.ones(1))  # a saved part has at least one tensor
        self.history_weighting = HistoryWeighting(width) if arguments["history_weights"] else None
        self.adapters = nn.ModuleDict(
            {
                name.replace(".", "/"): Adapter(channels, arguments["adapter_width"])
                for name, channels in adapter_widths.items()
            }
        )

    @classmethod
    def of(cls, unet: nn.Module, conditioner: nn.Module, used: Mapping) -> CausalStoryAddOns | None:
        """Those that `add_causal_story(unet, conditioner, **used)` has added; None if none."""
        if not used:
            return None
        found = {name: m.adapter for name, m in unet.named_modules() if hasattr(m, "adapter")}
        widths = {name: adapter.down.in_features for name, adapter in found.items()}
        with init_empty_weights():  # the model's own take the places
            add_ons = cls(
                {"history_weights": False, **used},
                conditioner.type_embeddings.embedding_dim,
                widths,
            )
        add_ons.history_weighting = conditioner.history_weighting
        for name, adapter in found.items():
            add_ons.adapters[name.replace(".", "/")] = adapter
        return add_ons

    def used(self) -> dict:
        """The arguments that do something, as `in_use` gives them."""
        return {k: value for k, value in self.config.arguments.items() if value is not False}

    def put_on(self, unet: nn.Module, conditioner: nn.Module) -> None:
        """Add them to plain parts; nothing if they are there."""
        places = self._places(unet)
        if conditioner.history_window is not None or conditioner.history_weighting is not None:
            return
        if any(hasattr(place, "adapter") for place, _ in places):
            return
        add_causal_story(unet, conditioner, **self.used())
        conditioner.history_weighting = self.history_weighting
        for place, adapter in places:
            place.adapter = adapter

    @contextmanager
    def taken_off(self, unet: nn.Module, conditioner: nn.Module) -> Iterator[None]:
        """Without their weights in the other parts' state dicts meanwhile."""
        places, conditioner.history_weighting = self._places(unet), None
        for place, _ in places:
            del place.adapter
        try:
            yield
        finally:
            conditioner.history_weighting = self.history_weighting
            for place, adapter in places:
                place.adapter = adapter

    def _places(self, unet: nn.Module) -> list[tuple[nn.Module, Adapter]]:
        named = ((name.replace("/", "."), adapter) for name, adapter in self.adapters.items())
        return [(unet.get_submodule(name), adapter) for name, adapter in named]
