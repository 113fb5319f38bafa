"""Parameter-efficient tuning: only what `tune` names trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the checks of the configuration want the names only, and at once
    from diffusers import UNet2DConditionModel
    from torch import Tensor, nn

__all__ = [
    "LORA_LAYERS", "TUNE", "add_lora", "freeze_all_but", "has_lora", "is_add_on", "merge_lora",
    "parameters_by_part", "take_off_lora", "tuned_names",
]  # fmt: skip

_ALWAYS = (".history_weighting.", ".new_rows", ".decoder.tuned.")
TUNE = {  # what a parameter's name must hold to train
    "all": ("",),
    "attention": (".attn1.", ".attn2.", *_ALWAYS),
    "adapter": (".adapter.", *_ALWAYS),
    "lora": (".lora_A.", ".lora_B.", *_ALWAYS),
    "words": _ALWAYS,
}
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
LORA_LAYERS = {  # layers of a U-Net, by the ends of their names
    "attention": _ATTENTION,
    "all": (*_ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2",
            "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv"),
}  # fmt: skip
_ADD_ONS = (".adapter.", ".lora_A.", ".lora_B.", *_ALWAYS)  # not AR-LDM's own


def add_lora(unet: UNet2DConditionModel, rank: int, layers: str = "attention") -> None:
    """Low-rank updates beside every attention projection, or beside `all` of `LORA_LAYERS`,
    through diffusers' PEFT integration."""
    from peft import LoraConfig  # slow to import, and rarely needed

    targets = list(LORA_LAYERS[layers])
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))


def has_lora(unet: UNet2DConditionModel) -> bool:
    """Whether there is one that is not part of the weights."""
    return bool(getattr(unet, "peft_config", None))


def merge_lora(unet: UNet2DConditionModel) -> None:
    """Add a LoRA to the weights it lies beside, so that it costs nothing any more."""
    unet.fuse_lora()
    unet.unload_lora()


def take_off_lora(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Take it off again; its tensors by the names that diffusers' loaders know."""
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(unet)
    unet.unload_lora()
    return tensors


def freeze_all_but(model: nn.Module, tune: str) -> None:
    """Freeze every parameter that `tune` does not name; what was frozen stays so."""
    trains = tuned_names((name for name, _ in model.named_parameters()), tune)
    for name, parameter in model.named_parameters():
        if name not in trains:
            parameter.requires_grad_(False)


def tuned_names(names: Iterable[str], tune: str) -> set[str]:
    """Those of `names` that `tune` names."""
    return {name for name in names if any(part in f".{name}" for part in TUNE[tune])}


def is_add_on(name: str) -> bool:
    """Whether a tensor of this name is none of AR-LDM's own."""
    return any(part in f".{name}" for part in _ADD_ONS)


def parameters_by_part(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Part -> (numbers that train, numbers in all); the conditioner's parts one by one."""
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        steps = name.split(".")
        part = ".".join(steps[: 1 + (steps[0] == "conditioner")])
        trains, numbers = counts.get(part, (0, 0))
        size = parameter.numel()
        counts[part] = (trains + size * parameter.requires_grad, numbers + size)
    return counts
