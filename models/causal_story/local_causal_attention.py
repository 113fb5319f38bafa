"""Causal-Story's local causal attention over space, for the self-attention of stock U-Net blocks.

Positions are flattened in raster order. The paper's figure draws a plain causal mask: query i sees
the keys j <= i. "Local" is a window: i - window < j <= i.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

__all__ = ["LocalCausalAttnProcessor", "local_causal_attention"]


def local_causal_attention(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Attention (B, H, L, d) in which position i sees the `window` positions up to itself.

    Chunks of `window` queries look at their own chunk and the one before: scores and mask take
    2 * L * window numbers, not L * L.
    """
    batch, heads, length, _ = query.shape
    window = min(window, length)
    chunks = -(-length // window)
    pad = chunks * window - length
    query = F.pad(query, (0, 0, 0, pad)).unflatten(2, (chunks, window))  # (B, H, C, w, d)

    def pairs(x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, window, pad)).unflatten(2, (chunks + 1, window))
        return torch.cat([x[:, :, :-1], x[:, :, 1:]], dim=3).flatten(0, 1)  # (B * H, C, 2w, d)

    i = torch.arange(window, device=query.device)[:, None]
    j = torch.arange(2 * window, device=query.device)[None, :]
    mask = ((j > i) & (j <= i + window)).repeat(chunks, 1, 1)  # (C, w, 2w)
    mask[0] &= j >= window  # nothing comes before the first chunk
    out = F.scaled_dot_product_attention(
        query.flatten(0, 1), pairs(key), pairs(value), attn_mask=mask
    )
    return out.reshape(batch, heads, chunks * window, -1)[:, :, :length]


class LocalCausalAttnProcessor:
    """Runs a stock `Attention` module as causal self-attention.

    window: how many positions a position sees, itself included; None: all up to itself.
    """

    def __init__(self, window: int | None) -> None:
        self.window = window

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        history_bias: Tensor | None = None,  # meant for cross-attention; see history_weighting.py
    ) -> Tensor:
        """hidden_states (B, L, C) to the same shape."""
        if encoder_hidden_states is not None or attention_mask is not None:
            raise ValueError("local causal attention is self-attention without a mask of its own")
        query, key, value = (
            project(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        if self.window is None:
            out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            out = local_causal_attention(query, key, value, self.window)
        out = out.transpose(1, 2).flatten(2)
        for layer in attn.to_out:
            out = layer(out)
        return out
