"""A frame's context stays the same over all denoising steps, so its keys and values do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

__all__ = ["context_projected_once"]


class _Once:
    """Calls `forward` again only when another tensor comes."""

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        self.forward = forward
        self.states: Tensor | None = None

    def __call__(self, states: Tensor) -> Tensor:
        if states is not self.states:
            self.states, self.projected = states, self.forward(states)
        return self.projected


@contextmanager
def context_projected_once(unet: nn.Module) -> Iterator[None]:
    """While entered, cross-attention projects a context tensor to keys and values once.

    For inference: contexts, weights and types must not change in place meanwhile.
    """
    layers = [
        layer
        for module in unet.modules()
        if isinstance(module, Attention) and module.is_cross_attention
        for layer in (module.to_k, module.to_v)
    ]
    before = [layer.__dict__.get("forward") for layer in layers]  # libraries exchange it, too
    for layer in layers:
        layer.forward = _Once(layer.forward)
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
