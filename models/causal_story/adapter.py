"""Causal-Story's adapter: a bottleneck after self-attention and before the residual."""

from __future__ import annotations

import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

__all__ = ["Adapter", "add_adapter"]


class Adapter(nn.Module):
    """x + up(GELU(down(x))); `up` starts at zero, so that at first the output is x."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states + self.up(F.gelu(self.down(hidden_states)))


def add_adapter(block: BasicTransformerBlock, bottleneck: int) -> None:
    """Let a stock block's self-attention end in an adapter, saved as `attn1.adapter`."""
    block.attn1.adapter = Adapter(block.attn1.out_dim, bottleneck)
    block.attn1.register_forward_hook(_adapt)


def _adapt(attn: nn.Module, _arguments: tuple, output: Tensor) -> Tensor:
    return attn.adapter(output)
